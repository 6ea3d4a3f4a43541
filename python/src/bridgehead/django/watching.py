"""Watches what a handler takes from Django, while a shadow run asks for it (docs/TIERS.md).

reflex-django and Reflex are wrapped where the whole chain runs, where a state's user fields are refreshed and where a
handler begins. The request of a watched event is of a class of the same name that notes which attributes are read.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from bridgehead.handover import current_note
from bridgehead.shadow import Watch

_KEY = "_bridgehead_touched"
_USER = frozenset(("user", "auser", "_cached_user", "_acached_user"))
# What HttpRequest sets on itself when its body is read.
_OWN = frozenset(("_post", "_files", "_stream", "_encoding", "_upload_handlers", "_body", "_read_started"))
_MISSING = object()

# Fields of DjangoUserState, which reflex-django refreshes before each handler of such a state. A CSRF token is another
# one every time, and the former one stays valid.
_USER_FIELDS = (
    "user_id",
    "username",
    "email",
    "first_name",
    "last_name",
    "is_authenticated",
    "is_staff",
    "is_superuser",
    "group_names",
)
_STATE_NEEDS = {
    **dict.fromkeys((*_USER_FIELDS, "csrf_token"), "state"),
    "messages": "messages",
    "language": "language",
    "language_bidi": "language",
}
_REFRESHED = (*_USER_FIELDS, "messages", "language", "language_bidi")

# Attributes that the shorter chain was seen to set too.
_of_auth_only: set[str] = {*_USER, "session"}
_undo: list[Callable[[], None]] = []
_looking_away: contextvars.ContextVar[bool] = contextvars.ContextVar("bridgehead_looking_away", default=False)


def install() -> None:
    """Begin to watch. Safe to repeat."""
    if _undo:
        return
    from reflex_base.event.processor import base_state_processor
    from reflex_django.bridge import event_handler
    from reflex_django.runtime import compile_validate
    from reflex_django.states import auth

    _replace(base_state_processor, "process_event", _watching_handler)
    _replace(event_handler, "run_middleware_chain", lambda original: _watching_chain(original, whole=True))
    _replace(event_handler, "run_auth_middleware_chain", lambda original: _watching_chain(original, whole=False))
    _replace(auth, "apply_auth_snapshot_for_event_handler", _watching_refresh)
    _replace(compile_validate, "filter_delta_to_compiled_dispatch_keys", _unwatched)
    _replace(auth.DjangoUserState, "__getattribute__", _watching_fields)


def remove() -> None:
    """Put everything back. Safe to repeat."""
    while _undo:
        _undo.pop()()


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    own = owner.__dict__.get(name, _MISSING)
    wrapped = wrap(getattr(owner, name))
    setattr(owner, name, wrapped)

    def undo() -> None:
        # Somebody who wrapped ours in the meantime keeps it: it costs a look-up.
        if owner.__dict__.get(name) is wrapped:
            delattr(owner, name) if own is _MISSING else setattr(owner, name, own)

    _undo.append(undo)


def _watching_handler(original: Any) -> Any:
    async def process_event(handler: Any, payload: Any, state: Any, root_state: Any) -> Any:
        watch = current_note().watch
        if watch is None:
            return await original(handler, payload, state, root_state)
        from reflex_django.bridge.context import current_request, current_response

        request, response = current_request(), current_response()
        session = getattr(request, "session", None)
        was_modified = getattr(session, "modified", False)
        watch.begin()
        _observe(request, watch, lambda name: _note_request(watch, name))
        _observe(response, watch, lambda name: _note_response(watch, name))
        try:
            return await original(handler, payload, state, root_state)
        finally:
            watch.end()
            _leave(request)
            _leave(response)
            if not was_modified and getattr(session, "modified", False):
                watch.needs.add("session.write")

    return process_event


def _watching_chain(original: Any, *, whole: bool) -> Any:
    async def run(request: Any) -> Any:
        watch = current_note().watch
        if watch is None:
            return await original(request)
        before = set(request.__dict__)
        response = await original(request)
        own = type(request)
        added = {name for name in request.__dict__ if not (name in before or name in _OWN or hasattr(own, name))}
        if whole:
            watch.chain = frozenset(added - _of_auth_only)
        else:
            _of_auth_only.update(added)
        watch.redirected = 300 <= getattr(response, "status_code", 200) < 400
        return response

    return run


def _watching_refresh(original: Any) -> Any:
    async def apply(handler: Any, **options: Any) -> None:
        watch = current_note().watch
        if watch is None:
            await original(handler, **options)
            return
        from reflex_django.states.auth import _auth_snapshot_owner

        owner = _auth_snapshot_owner(handler)
        before = {name: getattr(owner, name, None) for name in _REFRESHED}
        await original(handler, **options)
        watch.synced = True
        for name in _REFRESHED:
            if (value := getattr(owner, name, None)) != before[name]:
                watch.needs.add(_refreshed(watch, name, value))

    return apply


def _refreshed(watch: Watch, name: str, value: Any) -> str:
    """What a state would have lacked if this field had not been refreshed."""
    if name == "messages" and value:
        return "messages"
    # Without a middleware that sets it, the language is the same in every tier that refreshes at all.
    return "language" if name.startswith("language") and "LANGUAGE_CODE" in watch.chain else "refresh"


def _unwatched(original: Any) -> Any:
    """For each delta reflex-django makes a whole new state only for its names: its computed vars are nobody's needs."""

    def call(*arguments: Any, **named: Any) -> Any:
        reset = _looking_away.set(True)
        try:
            return original(*arguments, **named)
        finally:
            _looking_away.reset(reset)

    return call


def _watching_fields(original: Any) -> Any:
    def __getattribute__(self: Any, name: str) -> Any:
        if name in _STATE_NEEDS:
            watch = current_note().watch
            if watch is not None and watch.running and watch.synced and _is_read_by_app(sys._getframe(1)):
                watch.needs.add(_STATE_NEEDS[name])
        return original(self, name)

    return __getattribute__


def _is_read_by_app(caller: FrameType) -> bool:
    """Reflex reads fields too, to send them; a background handler's own reads come through its proxy."""
    frame: FrameType | None = None if _looking_away.get() else caller
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module != "reflex.istate.proxy" and not module.startswith("wrapt"):
            return module.partition(".")[0] not in ("reflex", "reflex_base")
        frame = frame.f_back
    return False


def _note_request(watch: Watch, name: str) -> None:
    if name.startswith("__"):
        return
    if name in _USER:
        watch.needs.add("user")
    elif name == "session":
        watch.needs.add("session")
    elif name in watch.chain:
        watch.needs.add({"_messages": "messages", "LANGUAGE_CODE": "language"}.get(name, f"request.{name}"))
    else:
        watch.needs.add("request")


def _note_response(watch: Watch, name: str) -> None:
    if not name.startswith("__"):
        watch.needs.add("response")


def _observe(target: Any, watch: Watch, note: Callable[[str], None]) -> None:
    if target is None or _KEY in target.__dict__:
        return
    target.__dict__[_KEY] = note
    try:
        target.__class__ = _observed(type(target))
    except TypeError:
        # What cannot be watched is taken to be needed.
        watch.needs.add("response")


def _leave(target: Any) -> None:
    if target is None or target.__dict__.pop(_KEY, None) is None:
        return
    own = type(target).__mro__[1]
    if _classes.get(own) is type(target):
        target.__class__ = own


# Of Django's requests and responses there are a few.
_classes: dict[Any, Any] = {}


def _observed(own: Any) -> Any:
    """A class of the same name whose instances tell which attributes are read."""

    def __getattribute__(self: Any, name: str) -> Any:
        note = object.__getattribute__(self, "__dict__").get(_KEY)
        if note is not None and not _looking_away.get():
            note(name)
        return own.__getattribute__(self, name)

    if own not in _classes:
        names = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
        body = {**names, "__slots__": (), "__getattribute__": __getattribute__}
        _classes[own] = type(own)(own.__name__, (own,), body)
    return _classes[own]
