"""What a worker says of itself (docs/PROTOCOL.md, "Manifest"). A plain Reflex app has nothing of Django in it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, cast

from bridgehead import __version__
from bridgehead.catalog import StateCatalog
from bridgehead.rules import Mode

_MODES = ("full", "smart", "none")
_DJANGO_LOGIN_URL = "/accounts/login/"


@dataclass(frozen=True, slots=True)
class AppFacts:
    """What the app's configuration says, read once when the worker starts."""

    mode: Mode = "none"
    resolver: str | None = None
    cookie: str | None = None
    login_url: str | None = None
    cors_origins: tuple[str, ...] = ("*",)
    uses_django: bool = False
    answers_auth: bool = False
    checks: tuple[Mapping[str, str], ...] = ()
    port: int | None = None
    user: Mapping[str, Any] | None = None

    @classmethod
    def read(cls) -> AppFacts:
        from reflex_base.config import get_config

        config = get_config()
        origins = tuple(str(origin) for origin in config.cors_allowed_origins)
        if not django_bridge_runs():
            return cls(cors_origins=origins, port=config.backend_port)
        from django.conf import settings

        from bridgehead.resolver import app_resolver

        mode = getattr(settings, "RX_EVENT_BRIDGE_MODE", "full")
        mode = mode.strip().lower() if isinstance(mode, str) else "full"
        return cls(
            # reflex-django takes any other word for full.
            mode=cast("Mode", mode if mode in _MODES else "full"),
            resolver=app_resolver(),
            cookie=str(settings.SESSION_COOKIE_NAME),
            login_url=_login_url(settings),
            cors_origins=origins,
            uses_django=True,
            answers_auth=has_sessions(),
            user=_user_facts() if has_sessions() else None,
            checks=_checks(),
            port=config.backend_port,
        )


def django_bridge_runs() -> bool:
    """Whether reflex-django works in this process."""
    try:
        from django.conf import settings
        from reflex_django.runtime.integration.registry import is_installed
    except ImportError:
        return False
    return settings.configured and is_installed()


def has_sessions() -> bool:
    """Whether this process can ask Django who a session belongs to."""
    from django.apps import apps

    return all(apps.is_installed(app) for app in ("django.contrib.auth", "django.contrib.sessions"))


def _user_facts() -> Mapping[str, Any]:
    from bridgehead.django import user_model

    return user_model.facts()


def _checks() -> tuple[Mapping[str, str], ...]:
    """What `manage.py check` would say of the settings, for `bridgehead doctor`."""
    from bridgehead.django.checks import check_settings

    return tuple({"id": str(one.id), "message": str(one.msg), "hint": str(one.hint)} for one in check_settings())


def _login_url(settings: Any) -> str:
    from django.shortcuts import resolve_url
    from django.urls import NoReverseMatch
    from reflex_django.auth.settings import get_auth_settings

    own = getattr(settings, "RX_AUTH", None)
    if not (isinstance(own, dict) and "LOGIN_URL" in own) and settings.LOGIN_URL != _DJANGO_LOGIN_URL:
        try:
            return str(resolve_url(settings.LOGIN_URL))
        except NoReverseMatch:
            pass
    return str(get_auth_settings().login_url)


def version_of(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a sidecar must know before it gives this worker virtual sessions; without any, it takes none.

    `tokens` is the worker's name in Reflex's records of tokens, where those lie in Redis; `max_payload` counts code
    points; `schema` is the hash that the pages made for this app connect with.
    """

    takes_sessions: bool = False
    max_payload: int = 1_000_000
    tokens: str | None = None
    persistent: bool = False
    schema: str | None = None
    capacity: int = 0


def build(
    catalog: StateCatalog,
    facts: AppFacts,
    *,
    name: str | None,
    instance: str,
    host: str,
    sessions: SessionFacts | None = None,
) -> dict[str, Any]:
    """The manifest's body."""
    sessions = sessions or SessionFacts()
    versions = {
        "bridgehead": __version__,
        "python": platform.python_version(),
        "reflex": version_of("reflex"),
        "reflex_django": version_of("reflex-django") if facts.uses_django else None,
        "django": version_of("django") if facts.uses_django else None,
    }
    states = {
        full_name: {"class": state.dotted, "tier": state.tier, "smart": state.smart, "handlers": handlers}
        for full_name, (state, handlers) in catalog.states().items()
    }
    return ({"name": name} if name is not None else {}) | {
        "instance": instance,
        "pid": os.getpid(),
        "host": host,
        "port": facts.port,
        "versions": versions,
        "build": build_id(versions, states),
        "mode": facts.mode,
        "resolver": facts.resolver is not None,
        "states": states,
        "cookie": facts.cookie,
        "loginUrl": facts.login_url,
        "corsOrigins": list(facts.cors_origins),
        "capacity": sessions.capacity,
        "sessions": sessions.takes_sessions,
        "maxPayload": sessions.max_payload,
        "tokens": sessions.tokens,
        "persistent": sessions.persistent,
        "schema": sessions.schema,
        "auth": facts.answers_auth,
        "publishes": facts.uses_django and _has_live_models(),
        "checks": list(facts.checks),
        "user": facts.user,
    }


def _has_live_models() -> bool:
    from bridgehead.live import signals

    return bool(signals.registered())


def build_id(versions: dict[str, Any], states: dict[str, Any]) -> str:
    """16 hexadecimal characters that are the same for the same code."""
    text = json.dumps([versions, states], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
