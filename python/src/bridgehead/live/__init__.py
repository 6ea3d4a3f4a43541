"""Live updates: a change made anywhere reaches every session that shows it (docs/LIVE.md).

`LiveMixin` makes a state's list live, `register` publishes what goes through a model, `publish` and `push` do by hand.
"""

from __future__ import annotations

from typing import Any

from bridgehead.live.change import ChangeError

__all__ = ["ChangeError", "LiveMixin", "publish", "push", "register", "registered", "unregister"]

_HOMES = {
    "LiveMixin": "bridgehead.live.state",
    "publish": "bridgehead.live.publishing",
    "push": "bridgehead.live.publishing",
    "register": "bridgehead.live.signals",
    "registered": "bridgehead.live.signals",
    "unregister": "bridgehead.live.signals",
}


def __getattr__(name: str) -> Any:
    # Lazily: Django processes without Reflex import this package too, and plain Reflex apps without Django.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
