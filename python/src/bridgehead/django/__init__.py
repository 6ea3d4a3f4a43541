"""The Django app of the companion: `INSTALLED_APPS += ["bridgehead.django"]`."""

from __future__ import annotations

from typing import Any

__all__ = ["AuthenticationMiddleware", "invalidate_all", "invalidate_session", "invalidate_user"]


def __getattr__(name: str) -> Any:
    # Lazily: Django imports this package before its models can be imported.
    if name == "AuthenticationMiddleware":
        from bridgehead.django.middleware import AuthenticationMiddleware

        return AuthenticationMiddleware
    if name in __all__:
        from bridgehead.django import invalidation

        return getattr(invalidation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
