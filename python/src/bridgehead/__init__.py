"""The companion of the Bridgehead sidecar for Reflex apps, with or without Django."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridgehead.live.publishing import publish, push
    from bridgehead.plugin import BridgeheadPlugin

__version__ = "0.1.0"
__all__ = ["BridgeheadPlugin", "__version__", "publish", "push"]


def __getattr__(name: str) -> Any:
    # Lazily: Django processes without Reflex import this package too.
    if name == "BridgeheadPlugin":
        from bridgehead.plugin import BridgeheadPlugin

        return BridgeheadPlugin
    if name in ("publish", "push"):
        from bridgehead.live import publishing

        return getattr(publishing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
