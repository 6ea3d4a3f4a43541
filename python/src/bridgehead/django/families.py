"""Signals of one model's family, and of no other model.

A receiver without a sender hears of every model, and Django then loads all rows that it could delete in one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db.models.signals import class_prepared

# Called for each model that is defined from now on.
_watchers: dict[str, Callable[[Any], None]] = {}


def family(model: Any) -> Iterator[Any]:
    """The model, its proxies and its children, theirs too: all whose rows are rows of this model."""
    seen = {model}
    waiting = [model]
    while waiting:
        found = waiting.pop()
        # A model that is just being defined has its turn when it is prepared.
        if "_meta" in found.__dict__ and not found._meta.abstract:
            yield found
        children = [child for child in found.__subclasses__() if child not in seen]
        seen.update(children)
        waiting.extend(children)


def on_new_model(name: str, watch: Callable[[Any], None]) -> None:
    """Call this for each model that is defined from now on; of one name the last counts."""
    _watchers[name] = watch
    class_prepared.connect(_prepared, dispatch_uid="bridgehead.families")


def _prepared(sender: Any, **_: Any) -> None:
    for watch in list(_watchers.values()):
        watch(sender)
