"""System checks: what is missing in the settings, with the line to add. The plugin logs the same in each worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as Caution
from django.utils.module_loading import import_string

OURS = "bridgehead.django.AuthenticationMiddleware"
DJANGOS = "django.contrib.auth.middleware.AuthenticationMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"


@register("bridgehead")  # type: ignore[untyped-decorator]  # Django has no types of its own
def check_settings(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """Everything that keeps the hand-over from working, or makes it slow."""
    return list(_problems())


def _problems() -> Iterator[CheckMessage]:
    for app in ("django.contrib.auth", "django.contrib.sessions"):
        if not apps.is_installed(app):
            yield Caution(
                f"{app} is not installed, so that no user can be handed over.",
                hint=f"Add {app!r} to INSTALLED_APPS.",
                id="bridgehead.W001",
            )
            return
    middleware = list(settings.MIDDLEWARE)
    if DJANGOS in middleware and OURS not in middleware:
        yield Caution(
            "Django's AuthenticationMiddleware asks the database for the user in every event of tier full.",
            hint=f"In MIDDLEWARE, replace {DJANGOS!r} by {OURS!r}.",
            id="bridgehead.W002",
        )
    if OURS in middleware and not any(_is_session(entry) for entry in middleware[: middleware.index(OURS)]):
        yield Error(
            "Django's SessionMiddleware must come before Bridgehead's AuthenticationMiddleware, for HTTP views.",
            hint=f"In MIDDLEWARE, insert {SESSION!r} before {OURS!r}.",
            id="bridgehead.E001",
        )
    if OURS not in (getattr(settings, "RX_AUTH_ONLY_MIDDLEWARE", None) or ()):
        yield Caution(
            "Django's AuthenticationMiddleware asks the database for the user in every event of tier auth_only.",
            hint=f"Set RX_AUTH_ONLY_MIDDLEWARE = [{OURS!r}].",
            id="bridgehead.W003",
        )
    if getattr(settings, "RX_EVENT_CACHE_TTL", 0) > 0:
        yield Caution(
            "RX_EVENT_CACHE_TTL makes reflex-django keep users in a cache that hears of no logout elsewhere.",
            hint="Set RX_EVENT_CACHE_TTL = 0.",
            id="bridgehead.W005",
        )
    if settings.SESSION_SAVE_EVERY_REQUEST:
        yield Caution(
            "SESSION_SAVE_EVERY_REQUEST writes the session in every event of tiers full and auth_only.",
            hint="Set SESSION_SAVE_EVERY_REQUEST = False.",
            id="bridgehead.W004",
        )


def _is_session(entry: str) -> bool:
    if entry == SESSION:
        return True
    try:
        found = import_string(entry)
        return isinstance(found, type) and issubclass(found, import_string(SESSION))
    except ImportError:
        return False
