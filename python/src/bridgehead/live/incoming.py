"""What happened anywhere, given to this process's `live_broadcaster()` of reflex-django: each change once.

reflex-django's own signal receivers publish before the commit, and to their own process alone. Where links are dialed
they publish as `bridgehead.live.register` does instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Set
from typing import Any

from bridgehead import counters
from bridgehead.live.change import Change

logger = logging.getLogger("bridgehead")

# Ids that are remembered: the same change comes over every link.
MAX_SEEN = 50_000
# What a gap is for code that reads a broadcaster's queue: nothing it knows, about no row.
GAP_ACTION = "gap"


class Incoming:
    """Delivers changes to a broadcaster, and knows which models it has subscribers of. In the event loop's thread.

    `watch` is called when those models are others than before.
    """

    def __init__(self, broadcaster: Any, watch: Callable[[Set[str]], None]) -> None:
        self._broadcaster = broadcaster
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._seen: OrderedDict[str, None] = OrderedDict()
        # Labels as the broadcaster's users write them, by the label in lower case.
        self._labels: dict[str, str] = {}
        self._watched: frozenset[str] = frozenset()
        self._wrap("subscribe")
        self._wrap("unsubscribe")

    def _wrap(self, name: str) -> None:
        original = getattr(self._broadcaster, name)

        def wrapped(model_label: str, *args: Any, **kwargs: Any) -> Any:
            result = original(model_label, *args, **kwargs)
            # A closed loop: the worker is about to end.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._look, model_label)
            return result

        setattr(self._broadcaster, name, wrapped)

    @property
    def watched(self) -> frozenset[str]:
        """Labels of the models that somebody in this process subscribed to."""
        return self._watched

    def _look(self, label: str) -> None:
        self._labels[label.lower()] = label
        watched = frozenset(lower for lower, known in self._labels.items() if self._broadcaster.subscriber_count(known))
        if watched != self._watched:
            self._watched = watched
            self._watch(watched)

    def happened(self, changes: Iterable[Change]) -> None:
        """Deliver those that were not delivered before."""
        for change in changes:
            if change.id in self._seen:
                continue
            self._seen[change.id] = None
            if len(self._seen) > MAX_SEEN:
                self._seen.popitem(last=False)
            if change.model in self._watched:
                counters.add("live.broadcast")
                self._publish(change.model, change.action, restored(change))

    def missed(self, model: str | None) -> None:
        """Tell a gap, of one model or of all."""
        for label in self._watched if model is None else self._watched & {model}:
            self._publish(label, GAP_ACTION, None)

    def _publish(self, label: str, action: str, pk: Any) -> None:
        from reflex_django.live.change import ModelChange

        self._broadcaster.publish(ModelChange(self._labels[label], action, pk))


def restored(change: Change) -> Any:
    """The primary key with the type that the model gives it."""
    from django.apps import apps
    from django.core.exceptions import ValidationError

    try:
        return apps.get_model(change.model)._meta.pk.to_python(change.pk)
    except (LookupError, ValidationError, ValueError):
        return change.pk


def broadcaster() -> Any:
    """reflex-django's, or None where it is not installed."""
    try:
        from reflex_django.live.broadcaster import live_broadcaster
    except ImportError:
        return None
    return live_broadcaster()


class _Relay:
    """Stands where reflex-django's signal receivers look for the broadcaster."""

    def publish(self, change: Any) -> int:
        from bridgehead.live import signals

        signals.record_label(change.model_label, change.action, change.pk)
        return 0


def replace_receivers() -> None:
    """Have reflex-django's signal receivers publish after the commit, and to every process. May run many times."""
    from reflex_django.live import signals as theirs

    from bridgehead.live import signals

    relay = _Relay()
    # By name: the receivers that are connected already look here too.
    setattr(theirs, "live_broadcaster", lambda: relay)  # noqa: B010
    for label in tuple(theirs._REGISTERED):
        signals.register_label(label)
