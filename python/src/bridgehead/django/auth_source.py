"""Answers AUTH_QUERY: asks Django itself who a session cookie belongs to, and changes nothing by asking."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.core import signing
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DatabaseError, InterfaceError
from django.utils.crypto import constant_time_compare

from bridgehead import counters
from bridgehead.annotation import session_hash
from bridgehead.django import primary, snapshot
from bridgehead.django.session_store import session_store
from bridgehead.django.threads import DatabaseThreads
from bridgehead.handover import unix_ms
from bridgehead.recent import KEEP_MS, recent

logger = logging.getLogger("bridgehead")

ANSWER_SECONDS = 2.0
MAX_QUERIES = 64
# Each holds a database connection; the sidecar caches, so a few are enough.
_THREADS = 4
_MAX_GROUPS = 100

_SURROGATE = re.compile("[\ud800-\udfff]")
_CACHE_KEY = re.compile("[\x21-\x7e]{1,200}")
_ANONYMOUS: dict[str, Any] = {"kind": "anonymous"}


class Trouble(Exception):
    """Nobody can say now. Holds one word and nothing of the cause's text."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class AuthSource:
    """Answers one process's queries. Never raises; nothing of a cookie or an error's text leaves it."""

    def __init__(self) -> None:
        self._threads = DatabaseThreads(_THREADS, "bridgehead-auth")
        self._busy = 0
        self._said: set[str] = set()

    async def answer(self, cookie: str, permissions: Iterable[str], *, read_primary: bool = False) -> dict[str, Any]:
        """The body of an AUTH_REPLY without its id, within 2 s."""
        at = unix_ms()
        if self._busy >= MAX_QUERIES:
            return self._unavailable("busy", at)
        self._busy += 1
        call = self._threads.submit(find, cookie, tuple(permissions), read_primary)
        call.add_done_callback(self._threads_done(asyncio.get_running_loop()))
        try:
            result, at = await asyncio.wait_for(asyncio.wrap_future(call), ANSWER_SECONDS)
        except TimeoutError:
            return self._unavailable("timeout", at)
        except Trouble as trouble:
            return self._unavailable(trouble.cause, at)
        except Exception as error:
            return self._unavailable("database" if _is_database(error) else "error", at, error)
        counters.add(f"auth.{result['kind']}")
        return {"result": result, "at": at}

    def _threads_done(self, loop: asyncio.AbstractEventLoop) -> Any:
        def less() -> None:
            self._busy -= 1

        def done(_: Any) -> None:
            # A query that nobody waits for any more still has its thread.
            if not loop.is_closed():
                loop.call_soon_threadsafe(less)

        return done

    def _unavailable(self, cause: str, at: int, error: BaseException | None = None) -> dict[str, Any]:
        counters.add("auth.unavailable")
        about = f"{cause}: {type(error).__name__}" if error is not None else cause
        if about not in self._said and len(self._said) < 100:
            self._said.add(about)
            logger.warning("a session's user could not be found (%s; counted from now on, not logged again)", about)
        return {"result": {"kind": "unavailable", "cause": cause}, "at": at}


def find(cookie: str, permissions: tuple[str, ...], read_primary: bool = False) -> tuple[dict[str, Any], int]:
    """Django's own answer, as `django.contrib.auth.get_user` would give it; and when reading began."""
    at = unix_ms()
    session = session_hash(cookie)
    with primary.read(read_primary or recent.last(session=session) > at - KEEP_MS):
        data, store = _load_session(cookie)
        expires = _expiry(store, cookie, data) if SESSION_KEY in data else None
    try:
        pk_text, backend_path = data[SESSION_KEY], data[BACKEND_SESSION_KEY]
        pk = get_user_model()._meta.pk.to_python(pk_text)
    except (KeyError, ValidationError):
        return _ANONYMOUS, at
    if backend_path not in settings.AUTHENTICATION_BACKENDS:
        return _ANONYMOUS, at
    with primary.read(read_primary or recent.last(user=snapshot.key_of(str(pk_text)), session=session) > at - KEEP_MS):
        user = load_backend(backend_path).get_user(pk)
        if not user or not user.is_authenticated:
            return _ANONYMOUS, at
        held = data.get(HASH_SESSION_KEY)
        if hasattr(user, "get_session_auth_hash") and not _fits(user, held):
            return _ANONYMOUS, at
        try:
            made = snapshot.make(user, backend_path, held or "")
        except snapshot.SnapshotError as error:
            raise Trouble("user_class") from error
        granted = [name for name in permissions if user.has_perm(name)]
        groups = _groups(user)
    found = {"kind": "user", "user": made, "permissions": granted}
    if groups is not None:
        found["groups"] = groups
    return found if expires is None else {**found, "expires": expires}, at


def _groups(user: Any) -> list[str] | None:
    """Names of the user's Django groups, for pushes to a group; None where its model has none."""
    try:
        field = user._meta.get_field("groups")
    except FieldDoesNotExist:
        return None
    if not field.many_to_many or field.related_model._meta.label_lower != "auth.group":
        return None
    return list(user.groups.order_by("name").values_list("name", flat=True)[:_MAX_GROUPS])


def _load_session(cookie: str) -> tuple[dict[str, Any], Any]:
    """What the session holds, and its store."""
    if not cookie or _SURROGATE.search(cookie):
        return {}, None
    try:
        store = session_store()(cookie)
        if hasattr(store, "cache_key_prefix") and not _CACHE_KEY.fullmatch(cookie):
            # No cache holds such a key, and Django would warn of it by printing it.
            return {}, store
        data: dict[str, Any] = dict(store.load())
        if not data:
            _ask_the_cache(store, cookie)
    except Exception as error:
        if _is_database(error):
            raise
        raise Trouble("session_store") from error
    return data, store


def _expiry(store: Any, cookie: str, data: dict[str, Any]) -> int | None:
    """When the session ends, in Unix milliseconds; None where its engine does not tell (caches, files)."""
    if hasattr(store, "model"):
        ends = store.model.objects.filter(pk=cookie).values_list("expire_date", flat=True).first()
        return None if ends is None else int(ends.timestamp() * 1_000)
    if isinstance(store, CookieStore):
        made = signing.b62_decode(cookie.split(":")[-2])
        return int((made + store.get_session_cookie_age()) * 1_000)
    ends = data.get("_session_expiry")
    return int(datetime.fromisoformat(ends).timestamp() * 1_000) if isinstance(ends, str) else None


def _ask_the_cache(store: Any, cookie: str) -> None:
    """Django's cache sessions take a cache that is down for an empty one: ask it once more, so that it can say so."""
    cache, prefix = getattr(store, "_cache", None), getattr(store, "cache_key_prefix", None)
    if cache is not None and isinstance(prefix, str) and not hasattr(store, "model"):
        cache.get(prefix + cookie)


def _fits(user: Any, held: object) -> bool:
    """Whether the session's auth hash is the user's, made with the current secret key or a fallback."""
    if not isinstance(held, str) or not held:
        return False
    if constant_time_compare(held, user.get_session_auth_hash()):
        return True
    return any(constant_time_compare(held, fallback) for fallback in user.get_session_auth_fallback_hash())


def _is_database(error: BaseException) -> bool:
    return isinstance(error, DatabaseError | InterfaceError)
