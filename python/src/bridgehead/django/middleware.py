"""`bridgehead.django.AuthenticationMiddleware`: Django's own, spared its queries where the sidecar knows the user."""

from __future__ import annotations

import hmac
from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware as DjangoAuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.middleware import SessionMiddleware
from django.http.cookie import parse_cookie

from bridgehead import counters, handover
from bridgehead.annotation import SKEW_MS, Anonymous, KnownUser, session_hash
from bridgehead.django import snapshot
from bridgehead.django.session_store import session_store
from bridgehead.handover import Note
from bridgehead.recent import distrusted

# A sidecar hears of an invalidation a second later at most, and its clock may be ahead by as much as an annotation's is
# allowed to be: what may have been signed until then is asked of Django again.
_DISTRUSTED_MS = 1_000 + SKEW_MS


class AuthenticationMiddleware(DjangoAuthenticationMiddleware):  # type: ignore[misc]  # Django has no types of its own
    """Takes the place of Django's in MIDDLEWARE and RX_AUTH_ONLY_MIDDLEWARE.

    For an event with a valid annotation `request.user` is the annotation's, `request.session` is read when it is
    touched, and nothing is asked of the database or the cache. For anything else it is Django's own. In events it
    needs no SessionMiddleware before it: it then makes the session itself, and saves it as that would.
    """

    def __call__(self, request: Any) -> Any:
        if self.async_mode:
            return self.__acall__(request)
        made = self._begin(request)
        response = self.get_response(request)
        return _saved(request, response) if made else response

    async def __acall__(self, request: Any) -> Any:
        # Nothing here waits, so nothing is handed to a thread, as Django's adapter would.
        made = self._begin(request)
        response = await self.get_response(request)
        if made and (request.session.modified or settings.SESSION_SAVE_EVERY_REQUEST):
            return await sync_to_async(_saved, thread_sensitive=True)(request, response)
        return response

    def _begin(self, request: Any) -> bool:
        """Set session and user; true if the session was made here."""
        if not is_event(request):
            self.process_request(request)
            return False
        note = handover.current_note()
        made = _set_session(request, note)
        user = handed_over(request, note)
        if user is None:
            self.process_request(request)
            return made
        counters.add("user.handed_over")
        request.user = request._cached_user = request._acached_user = user
        request.auser = partial(_give, user)
        return made


def is_event(request: Any) -> bool:
    """Whether reflex-django made this request for an event, as opposed to one that came over HTTP."""
    return hasattr(request, "_reflex_django_headers")


def handed_over(request: Any, note: Note) -> Any | None:
    """The user that the event's annotation carries, or None where Django must be asked."""
    if not isinstance(note.user, Anonymous | KnownUser) or handover.unix_ms() > note.user_until:
        return None
    # The user was found for one session. A handler may have changed it since.
    session = session_hash(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    if not hmac.compare_digest(session, note.session_hash):
        return None
    if isinstance(note.user, Anonymous):
        return None if _was_invalidated(note, None) else AnonymousUser()
    try:
        user = snapshot.restore(note.user.snapshot)
    except snapshot.SnapshotError:
        counters.add("user.refused")
        return None
    return None if _was_invalidated(note, snapshot.user_key(user)) else user


def _was_invalidated(note: Note, user: str | None) -> bool:
    return note.issued_at <= distrusted.last(user=user, session=note.session_hash) + _DISTRUSTED_MS


def _set_session(request: Any, note: Note) -> bool:
    """Give the request the tab's session, read when it is touched; true if there was none before."""
    made = not hasattr(request, "session")
    name = settings.SESSION_COOKIE_NAME
    misread = _read_cookies(request)
    changed, cookie = handover.changed_session(note)
    if changed and request.COOKIES.get(name) != cookie:
        if cookie is None:
            request.COOKIES.pop(name, None)
        else:
            request.COOKIES[name] = cookie
    elif not made:
        changed = misread
    if made or changed:
        request.session = session_store()(request.COOKIES.get(name))
    note.request = request
    note.first_key = request.COOKIES.get(name)
    return made


def _read_cookies(request: Any) -> bool:
    """Read the Cookie header as Django does. True if the session's is another one now.

    reflex-django reads it as http.cookies does, which drops all that stands behind a cookie that it cannot read. What a
    middleware before this one made of it stays.
    """
    header = request.META.get("HTTP_COOKIE", "")
    cookies = parse_cookie(header)
    before = request.COOKIES
    if cookies == before or before != _read_by_reflex_django(header):
        return False
    request.COOKIES = cookies
    name = settings.SESSION_COOKIE_NAME
    return bool(cookies.get(name) != before.get(name))


def _read_by_reflex_django(header: str) -> dict[str, str]:
    try:
        return {key: morsel.value for key, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def _saved(request: Any, response: Any) -> Any:
    """What Django's SessionMiddleware does with the session in the end."""
    return SessionMiddleware(lambda _: response).process_response(request, response)


async def _give(user: Any) -> Any:
    return user
