"""Watches the configured session store, whatever engine it is: its writes are the only sign that some engines give."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import router
from django.utils import timezone

from bridgehead import companion, handover
from bridgehead.annotation import session_hash
from bridgehead.django import invalidation
from bridgehead.django.threads import off_loop

_MARK = "_bridgehead_watched"
_SEEN = "_bridgehead_seen"
_MADE = "_bridgehead_made"
# Where Django keeps what set_expiry() was given.
_EXPIRY = "_session_expiry"
_CHUNK = 1_000

# The keys that the outermost call under way has touched, with whether they are new; None outside of calls.
_touched: contextvars.ContextVar[dict[str, bool] | None] = contextvars.ContextVar("bridgehead_touched", default=None)
_lock = threading.Lock()
# The writes under way of async code: an event loop keeps no task alive by itself.
_writing: set[asyncio.Task[Any]] = set()


def session_store() -> Any:
    """The configured SessionStore class, watched."""
    store_class = _class_of(settings.SESSION_ENGINE)
    if not store_class.__dict__.get(_MARK):
        watch(store_class)
    return store_class


@functools.lru_cache(maxsize=4)
def _class_of(engine: str) -> Any:
    return import_module(engine).SessionStore


def is_writing() -> bool:
    """Whether a watched store is at work here: what it does to its model is told already."""
    return _touched.get() is not None


def watch(store_class: Any) -> None:
    """Wrap the methods that write, and the load, once."""
    with _lock:
        if store_class.__dict__.get(_MARK):
            return
        for name in ("save", "delete", "flush", "cycle_key", "create"):
            setattr(store_class, name, _watched(getattr(store_class, name), name))
            setattr(store_class, f"a{name}", _watched_async(getattr(store_class, f"a{name}"), name))
        store_class.load = _loading(store_class.load)
        store_class.aload = _loading_async(store_class.aload)
        if hasattr(store_class, "get_model_class"):
            store_class.clear_expired = classmethod(_clear_expired)
        setattr(store_class, _MARK, True)


def _watched(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        outer = _touched.get()
        touched: dict[str, bool] = {} if outer is None else outer
        reset = _touched.set(touched)
        try:
            key_before = _before(self, name, touched, arguments, named)
            result = original(self, *arguments, **named)
            _after(self, name, touched, key_before, _must_create(arguments, named))
        finally:
            _touched.reset(reset)
        if outer is None and touched:
            _tell(self, touched)
        return result

    return call


def _watched_async(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    async def write(self: Any, touched: dict[str, bool], arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        reset = _touched.set(touched)
        try:
            key_before = _before(self, name, touched, arguments, named)
            result = await original(self, *arguments, **named)
            _after(self, name, touched, key_before, _must_create(arguments, named))
        finally:
            _touched.reset(reset)
        return result

    async def write_and_tell(self: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        touched: dict[str, bool] = {}
        result = await write(self, touched, arguments, named)
        if touched:
            # Where Django's own database code runs, since only there a transaction is known.
            await sync_to_async(_tell, thread_sensitive=True)(self, touched)
        return result

    @functools.wraps(original)
    async def call(self: Any, *arguments: Any, **named: Any) -> Any:
        if (outer := _touched.get()) is not None:
            return await write(self, outer, arguments, named)
        # Whoever is cancelled meanwhile leaves at once, but the database's thread goes on: what it did must be told.
        task = asyncio.create_task(write_and_tell(self, arguments, named))
        _writing.add(task)
        task.add_done_callback(_writing.discard)
        return await asyncio.shield(task)

    return call


def _must_create(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    return bool(arguments[0] if arguments else named.get("must_create"))


def _before(store: Any, name: str, touched: dict[str, bool], arguments: Any, named: Any) -> str | None:
    """Note what a deletion takes away; gives the session's key."""
    key_before: str | None = store.session_key
    if name == "delete":
        key = arguments[0] if arguments else named.get("session_key")
        if key := key or key_before:
            touched[key] = False
    return key_before


def _after(store: Any, name: str, touched: dict[str, bool], key_before: str | None, must_create: bool) -> None:
    if name == "save":
        seen = _seen(store)
        former = store.__dict__.get(_SEEN)
        # Only who the session belongs to is anybody's business: data that it holds besides changes nothing.
        if must_create:
            store.__dict__[_MADE] = seen[0]
        made = store.__dict__.get(_MADE) == seen[0]
        # A session that belongs to nobody is news only to those who knew its key before.
        if seen[0] and seen != former and (seen[1] is not None or (not made and seen[0] == key_before)):
            touched[seen[0]] = made
        store.__dict__[_SEEN] = seen
    handover.session_touched(store)


def _seen(store: Any) -> tuple[str | None, tuple[Any, ...] | None]:
    """The session's key and what says who it belongs to."""
    return store.session_key, _who(getattr(store, "_session_cache", None) or {})


def _who(data: Any) -> tuple[Any, ...] | None:
    """Who a session belongs to, and until when where it says so itself; None for nobody's."""
    who = tuple(data.get(key) for key in (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY))
    return (*who, data.get(_EXPIRY)) if any(part is not None for part in who) else None


def _tell(store: Any, touched: dict[str, bool]) -> None:
    using = router.db_for_write(store.model) if hasattr(store, "model") else None
    for key, is_new in touched.items():
        invalidation.announce({"session": session_hash(key)}, using, is_new=is_new)
    running, note = companion.current(), handover.changed_note(store)
    # The sidecar asks at once whose it is: before a user is stored in it, it would hear of nobody.
    if running is not None and note is not None and (store.session_key is None or _seen(store)[1] is not None):
        # Not at the handler's end alone: one that redirects and goes on would leave the edge refusing the next page.
        invalidation.after_commit(functools.partial(running.session_stored, note), using)


def _loading(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(original)
    def load(self: Any) -> Any:
        # Handlers read sessions without await, since those that Django's own middleware makes come loaded.
        data = off_loop(original, self)
        _remember(self, data)
        return data

    return load


def _loading_async(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(original)
    async def aload(self: Any) -> Any:
        data = await original(self)
        _remember(self, data)
        return data

    return aload


def _remember(store: Any, data: Any) -> None:
    store.__dict__[_SEEN] = (store.session_key, _who(data))


def _clear_expired(cls: Any) -> None:
    """As Django's, in pieces: somebody listens to deletions now, so that each row passes through memory."""
    model = cls.get_model_class()
    expired = model.objects.filter(expire_date__lt=timezone.now())
    while keys := list(expired.values_list("pk", flat=True)[:_CHUNK]):
        model.objects.filter(pk__in=keys).delete()
