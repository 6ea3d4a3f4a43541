"""What reflex-django calls through its public setting RX_EVENT_BRIDGE_RESOLVER, with the app's own kept behind it."""

from __future__ import annotations

import logging
from typing import Any

from bridgehead import companion
from bridgehead.annotation import Tier

logger = logging.getLogger("bridgehead")

DOTTED = "bridgehead.resolver.resolve"
SETTING = "RX_EVENT_BRIDGE_RESOLVER"

_app_resolver: str | None = None


def install() -> None:
    """Put ours into the setting and remember what stood there. Safe to repeat: reflex-django writes it again itself."""
    from django.conf import settings

    global _app_resolver
    configured = getattr(settings, SETTING, None)
    dotted = configured.strip() if isinstance(configured, str) else ""
    if dotted == DOTTED:
        return
    _app_resolver = dotted or None
    setattr(settings, SETTING, DOTTED)


def app_resolver() -> str | None:
    """The dotted path of the app's own resolver, where it has one."""
    return _app_resolver


def resolve(state_class: Any, event: Any) -> Tier | None:
    """The tier of an event; None leaves it to reflex-django."""
    running = companion.current()
    if running is None or event is None:
        return None
    return running.resolve(state_class, event)
