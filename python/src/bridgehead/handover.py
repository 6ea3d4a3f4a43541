"""The one place where annotations leave the events, before anything else of the worker sees them.

Every event of a worker passes the event processor's `enqueue`: a client's, the one in CONNECT, an upload's, and those
that are born in Python. There the annotation is checked and what it says is kept beside the event, never in its data,
because Reflex would merge that into the session's state. A client's event is cleaned a little earlier, where the socket
hands it over, since Reflex logs events that it cannot read.
"""

from __future__ import annotations

import contextvars
import copy
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

from bridgehead import arrival, counters, events
from bridgehead.annotation import SKEW_MS, Claims, Invalid, Reason, Unknown, User, token_hash, verify
from bridgehead.arrival import Arrival
from bridgehead.keys import Keyring
from bridgehead.shadow import Watch
from bridgehead.tab_sessions import TabSessions
from bridgehead.work import Work, delivering

logger = logging.getLogger("bridgehead")

_ATTRIBUTE = "_bridgehead_note"
_MARK = "_bridgehead_wrapped"


def unix_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class SessionStore(Protocol):
    """As much of one of Django's session stores as matters here."""

    @property
    def session_key(self) -> str | None: ...


@dataclass(slots=True)
class Note:
    """What is known of one event, beside it.

    `user` was found at `issued_at` for the session that hashes to `session_hash`, and may be used until `user_until`
    (Unix milliseconds). `sid` is the socket that the event, or the one that it comes from, was sent over; empty where
    there was none. `request` is the request that Django's middleware saw, `first_key` its session key then; `told`
    holds the key of the tab's session that sidecars were told. `work` is that of the virtual session's packet that the
    event comes from.
    """

    origin: events.Origin = "python"
    path: str | None = None
    claims: Claims | None = None
    outcome: Literal["valid", "unasked"] | Reason | None = None
    user: User = field(default_factory=Unknown)
    user_until: int = 0
    issued_at: int = 0
    session_hash: str = ""
    token: str = ""
    sid: str = ""
    request: Any = None
    first_key: str | None = None
    changed_store: Any = None
    told: tuple[str | None] | None = None
    report: events.EventReport | None = None
    watch: Watch | None = None
    work: Work | None = None


_current: contextvars.ContextVar[Note | None] = contextvars.ContextVar("bridgehead_note", default=None)

tabs = TabSessions()


def current_note() -> Note:
    """The note of the event that this task handles; an empty one outside of events.

    Known where reflex-django asks for tiers: in Django's middleware and in the handler.
    """
    return _current.get() or Note()


def enter(note: Note) -> None:
    """The running task handles the event of this note."""
    _current.set(note)


def note_of(event: object) -> Note:
    """The note beside an event; an event that nobody enqueued has an empty one."""
    note = getattr(event, _ATTRIBUTE, None)
    return note if isinstance(note, Note) else Note()


def changed_session(note: Note) -> tuple[bool, str | None]:
    """Whether a handler gave the tab another session than its socket's cookie names, and its key (None: none)."""
    return tabs.find(note.token, note.sid)


def session_touched(store: SessionStore) -> None:
    """A session store was written. If it is the running event's and has another key now, the tab has that session."""
    note = _current.get()
    # An upload names its tab itself: whoever knows a token could give that tab a session of theirs.
    if note is None or not note.sid or getattr(note.request, "session", None) is not store:
        return
    if note.changed_store is not None or (store.session_key or None) != (note.first_key or None):
        note.changed_store = store
        tabs.change(note.token, note.sid, store)


def changed_note(store: SessionStore) -> Note | None:
    """The running event's note, if this store is the session that the tab has now."""
    note = _current.get()
    return note if note is not None and note.changed_store is store else None


@lru_cache(maxsize=1024)
def session_of(cookie_header: str, cookie_name: str) -> str | None:
    """The session cookie's value, parsed as the sidecar and Django itself parse it."""
    from django.http.cookie import parse_cookie

    # Django's own, not http.cookies': that one drops all that stands behind a cookie which it cannot read.
    value: str | None = parse_cookie(cookie_header).get(cookie_name)
    return value


class Handover:
    """Wraps one app's event namespace and event processor."""

    def __init__(
        self,
        keyring: Keyring | None,
        name: Callable[[], str],
        cookie_name: str | None,
        now_ms: Callable[[], int] = unix_ms,
        tell_session: Callable[[str, str | None, str | None], None] = lambda token, session, cookie: None,
        record: Callable[[Watch, bool], None] = lambda watch, session_changed: None,
        after_event: Callable[[], None] = lambda: None,
    ) -> None:
        self._keyring = keyring
        self._name = name
        self._cookie_name = cookie_name
        self._now_ms = now_ms
        self._tell = tell_session
        self._record = record
        self._after_event = after_event
        self._running: dict[str, Note] = {}
        self._said: set[str] = set()

    def wrap_namespace(self, namespace: Any) -> None:
        """Clean a client's events as they leave the socket."""
        if getattr(namespace, _MARK, False):
            return
        original: Callable[[str, Any], Awaitable[Any]] = namespace.on_event

        async def on_event(sid: str, data: Any = None) -> Any:
            reset = arrival.current.set(arrival.from_client(data))
            if (work := delivering()) is not None:
                work.socket.saw_page(data)
            try:
                return await original(sid, data)
            finally:
                arrival.current.reset(reset)

        disconnect: Callable[[str], Any] = namespace.on_disconnect

        # With Reflex's own signature: Socket.IO tries it with a reason too, and takes the TypeError for an answer.
        def on_disconnect(sid: str) -> Any:
            tabs.drop(sid, namespace.sid_to_token.get(sid))
            return disconnect(sid)

        namespace.on_event = on_event
        namespace.on_disconnect = on_disconnect
        setattr(namespace, _MARK, True)

    def wrap_processor(self, processor: Any) -> None:
        """Put the note beside every event that is enqueued, and see that each one's future ends."""
        if getattr(processor, _MARK, False):
            return
        original: Callable[..., Awaitable[Any]] = processor.enqueue

        async def enqueue(token: str, event: Any, ev_ctx: Any = None) -> Any:
            if hasattr(event, _ATTRIBUTE):
                # An app may send one instance again and again, for many tabs: the others' notes are not this one's.
                event = copy.copy(event)
            note = self._note(processor, token, event, ev_ctx)
            # The event is frozen, and has no hash to be a key of a weak dictionary.
            object.__setattr__(event, _ATTRIBUTE, note)
            future = await (original(token, event) if ev_ctx is None else original(token, event, ev_ctx))
            if note.work is not None:
                note.work = note.work.follow(event, future)
            self._follow(processor, future, note)
            return future

        processor.enqueue = enqueue
        _end_every_future(processor)
        setattr(processor, _MARK, True)

    def _note(self, processor: Any, token: str, event: Any, ev_ctx: Any) -> Note:
        router_data = event.router_data
        stray = router_data.pop(arrival.KEY, None) if isinstance(router_data, dict) else None
        came = arrival.current.get()
        came = came.take() if came is not None else None
        if came is None:
            if stray is not None:
                counters.add("annotation.unasked")
            return self._inherited(ev_ctx)
        annotation = came.annotation if came.annotation is not None else stray
        note = Note(origin=came.origin, path=came.path, token=token, sid=_sid(came, router_data), work=delivering())
        if annotation is None:
            return note
        if self._keyring is None:
            counters.add("annotation.unasked")
            note.outcome = "unasked"
            return note
        session = self._session(came, router_data, note)
        result = verify(
            annotation,
            self._keyring,
            name=self._name(),
            token=token,
            session=session,
            handler=event.name,
            now=self._now_ms(),
        )
        if isinstance(result, Invalid):
            self._ignored(result.reason)
            note.outcome = result.reason
            return note
        counters.add("annotation.valid")
        note.outcome = "valid"
        note.claims = result.claims
        note.user = result.claims.user
        note.user_until = result.claims.expires_at + SKEW_MS
        note.issued_at = result.claims.issued_at
        note.session_hash = result.claims.session_hash
        return note

    def _session(self, came: Arrival, router_data: Any, note: Note) -> str | None:
        if self._cookie_name is None:
            return None
        changed, cookie = changed_session(note)
        if changed:
            return cookie
        header = came.cookie
        if came.origin == "client":
            headers = router_data.get("headers") if isinstance(router_data, dict) else None
            header = headers.get("cookie") if isinstance(headers, dict) else None
        return session_of(header, self._cookie_name) if isinstance(header, str) and header else None

    def _inherited(self, ev_ctx: Any) -> Note:
        """An event born in Python keeps its parent's tab, and the user while the annotation lives; never the tier."""
        parent = self._running.get(_parent_txid(ev_ctx))
        if parent is None:
            return Note(work=delivering())
        note = Note(token=parent.token, sid=parent.sid, work=parent.work)
        if not isinstance(parent.user, Unknown) and self._now_ms() <= parent.user_until:
            note.user, note.user_until = parent.user, parent.user_until
            note.issued_at, note.session_hash = parent.issued_at, parent.session_hash
        return note

    def _follow(self, processor: Any, future: Any, note: Note) -> None:
        root = getattr(processor, "_root_context", None)
        txid: str = future.txid
        # reflex 0.9 gives uploads the root's own id: what is kept under it would pass to everybody's events.
        if txid and txid != getattr(root, "txid", None):
            self._running[txid] = note

        def done(_: Any) -> None:
            self._running.pop(txid, None)
            self._finished(note)
            self._after_event()

        future.add_done_callback(done)

    def _finished(self, note: Note) -> None:
        if note.watch is not None:
            self._record(note.watch, note.changed_store is not None)
            note.watch = None
        if (store := note.changed_store) is not None:
            tabs.settle(note.token, store)
            self.tell_session(note)
        note.request = note.changed_store = None
        if note.report is not None:
            events.finished(note.report)

    def tell_session(self, note: Note) -> None:
        """Tell the session that a handler gave its tab; once for each key, since it is told as soon as it is stored."""
        if note.changed_store is None:
            return
        told = (note.changed_store.session_key or None,)
        if note.told != told:
            note.told = told
            session = note.work.socket.session_id if note.work is not None else None
            self._tell(token_hash(note.token), session, *told)

    def _ignored(self, reason: Reason) -> None:
        counters.add(f"annotation.{reason}")
        if reason not in self._said:
            self._said.add(reason)
            logger.warning("an annotation was ignored: %s (counted from now on, not logged again)", reason)


def _end_every_future(processor: Any) -> None:
    """Reflex minds a handler's `Exception` and its cancellation: with anything else, such as a Rust panic, its future
    would stay open, and with it the work that waits for it.
    """
    original: Callable[[Any], None] | None = getattr(processor, "_finish_task", None)
    if original is None:
        return

    def finish_task(task: Any) -> None:
        from reflex_base.event.context import EventContext

        try:
            original(task)
        except BaseException:
            future = processor._futures.get(task.get_context().run(EventContext.get).txid)
            if future is not None and not future.done():
                future.cancel()
            raise

    processor._finish_task = finish_task


def _sid(came: Arrival, router_data: Any) -> str:
    """The socket's id, which Reflex puts into each event that comes over it."""
    sid = router_data.get("sid") if came.origin == "client" and isinstance(router_data, dict) else None
    return sid if isinstance(sid, str) else ""


def _parent_txid(ev_ctx: Any) -> str:
    if ev_ctx is not None:
        return ev_ctx.parent_txid or ""
    from reflex_base.event.context import EventContext

    try:
        return EventContext.get().txid
    except LookupError:
        return ""
