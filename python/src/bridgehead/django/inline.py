"""Runs those of Django's own middlewares that wait for nothing where they are, in events.

In an async chain Django hands each step of these to a thread and waits for it, which costs an event of tier full more
than all that the steps do. Only Django's own classes, only for requests that reflex-django made for an event, and only
for steps that touch neither database nor cache; all else goes Django's way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils.module_loading import import_string

from bridgehead.django.middleware import is_event

HARMLESS = frozenset(
    (
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.locale.LocaleMiddleware",
        "django.middleware.security.SecurityMiddleware",
    )
)
_MARK = "_bridgehead_inline"


def install() -> None:
    """Prepare those that the app uses. Safe to repeat."""
    for dotted in settings.MIDDLEWARE:
        if dotted in HARMLESS:
            middleware = import_string(dotted)
            if not middleware.__dict__.get(_MARK):
                middleware.__acall__ = _inline(middleware, middleware.__acall__)
                setattr(middleware, _MARK, True)


def _inline(owner: Any, original: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(self: Any, request: Any) -> Any:
        # A subclass may do anything.
        if type(self) is not owner or not is_event(request):
            return await original(self, request)
        response = self.process_request(request) if hasattr(self, "process_request") else None
        response = response or await self.get_response(request)
        if not hasattr(self, "process_response"):
            return response
        if _writes(request):
            return await sync_to_async(self.process_response, thread_sensitive=True)(request, response)
        return self.process_response(request, response)

    return call


def _writes(request: Any) -> bool:
    """Whether the way back may store something: the session, or messages in it."""
    session, messages = getattr(request, "session", None), getattr(request, "_messages", None)
    return bool(
        settings.SESSION_SAVE_EVERY_REQUEST
        or getattr(session, "modified", False)
        or getattr(messages, "used", False)
        or getattr(messages, "added_new", False)
    )
