"""The virtual sessions of one app: those that links carry instead of connections of their own.

Frames come here from their link and are acknowledged (RECEIVED) before the app gets what they carry, in a task that
lives as long as the session has input (`feeding.py`). How sessions come and go: `attaching.py`, `ending.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import batched
from typing import Any, cast

from bridgehead import attaching, counters, ending, handover, session_frames, work
from bridgehead.annotation import token_hash
from bridgehead.clock import Clock, SystemClock
from bridgehead.feeding import feed
from bridgehead.frames import Frame, FrameError, FrameType
from bridgehead.link import Link
from bridgehead.manifest import SessionFacts
from bridgehead.session_frames import (
    Attach,
    Attached,
    AttachRefused,
    Client,
    Credit,
    Detach,
    Detached,
    DetachedReason,
    DetachReason,
    Inject,
    Message,
    Probed,
    Received,
    Resync,
)
from bridgehead.tokens import Tokens
from bridgehead.virtual_socket import WINDOW, VirtualSocket

logger = logging.getLogger("bridgehead")

RESUME_SECONDS = 5.0
MAX_TOTAL_WAITING = 256 * 1024 * 1024
# So many sessions of a lost link end at a time.
_ENDING_AT_ONCE = 50


class _Channels:
    """What one link carries."""

    __slots__ = ("attaching", "sockets")

    def __init__(self) -> None:
        self.sockets: dict[int, VirtualSocket] = {}
        self.attaching: dict[int, asyncio.Task[None]] = {}


class VirtualSessions:
    """Attaches, feeds and ends virtual sessions. All of it runs in the event loop's thread."""

    def __init__(self, app: Any, *, clock: Clock | None = None) -> None:
        self.app = app
        self.sio: Any = app.sio
        self.eio: Any = app.sio.eio
        self.namespace: Any = app.event_namespace
        self.event_namespace = str(self.namespace.namespace)
        self.tokens = Tokens(
            self.namespace._token_manager,
            is_live=lambda sid: self._socket_of(sid) is not None,
            takes_over=_takes_over,
            ousted=self._oust,
        )
        self._drained_by: float | None = None
        self._handlers: Any = app._registration_context.event_handlers
        self._clock = clock or SystemClock()
        self._links: dict[Link, _Channels] = {}
        self._lost: dict[str, tuple[str, VirtualSocket]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._total_waiting = 0
        self._changed = asyncio.Event()
        work.track_handlers(app.sio)

    def facts(self) -> SessionFacts:
        """What the manifest says of sessions."""
        return SessionFacts(
            takes_sessions=True,
            max_payload=self.eio.max_http_buffer_size,
            tokens=self.tokens.instance,
            persistent=getattr(self.app.state_manager, "redis", None) is not None,
            schema=_schema_of(getattr(self.app, "_state", None)),
        )

    # For the link

    def opened(self, link: Link) -> None:
        """A link with a sidecar is open."""
        self._links[link] = _Channels()
        if self.is_draining:
            # The link sends its MANIFEST first, in this turn of the event loop.
            asyncio.get_running_loop().call_soon(self._tell_drain, link)

    async def on_frames(self, link: Link, frames: Iterable[Frame]) -> None:
        """The frames of one chunk: acknowledge, in one write, and only then give the app what they carry."""
        channels = self._links[link]
        fed: dict[VirtualSocket, int] = {}
        for frame in frames:
            message = session_frames.decode(frame)
            if message is not None:
                self._on_message(link, channels, frame.channel, message, fed)
        if not fed:
            return
        for socket, received in fed.items():
            # A client may leave before it has said anything.
            if received:
                link.write(session_frames.encode(socket.channel, Received(received)))
        await link.handed_over()
        for socket, received in fed.items():
            self._acknowledged(socket, received)

    def _on_message(
        self, link: Link, channels: _Channels, channel: int, message: Message, fed: dict[VirtualSocket, int]
    ) -> None:
        if isinstance(message, Attach):
            if channel in channels.sockets or channel in channels.attaching:
                raise FrameError(f"channel {channel} is in use")
            if message.resume:
                self._resume(link, channels, channel, message)
                return
            attaching_task = channels.attaching[channel] = self.run(self._attach(link, channels, channel, message))
            attaching_task.add_done_callback(partial(self._never_attached, link, channels, channel))
            return
        if not isinstance(message, Client | Inject | Resync | Credit | Detach | Probed):
            raise FrameError(f"{type(message).__name__} may not come from a sidecar")
        socket = channels.sockets.get(channel)
        if socket is None:
            # It crossed a DETACHED, or the client left while its session was being attached.
            if isinstance(message, Detach) and (task := channels.attaching.get(channel)) is not None:
                task.cancel(message.reason)
            return
        match message:
            case Client() | Inject() | Resync():
                if socket.receive(message):
                    fed[socket] = socket.received
                    if socket.inbox_bytes > 2 * WINDOW + session_frames.MAX_PAYLOAD:
                        self.end_soon(socket, "failed")
            case Credit():
                socket.credit(message.bytes)
            case Detach(reason="move"):
                self.end_soon(socket, "move")
            case Detach():
                socket.receive_detach(message)
                fed[socket] = socket.received
            case Probed():
                socket.answer_probe(message)

    def drained(self, link: Link) -> None:
        """The sidecar has read what was in its way."""
        for socket in [socket for socket in self._links[link].sockets.values() if socket.waits]:
            socket.pump()

    def lost(self, link: Link, *, in_order: bool) -> None:
        """The link is over. Its sessions wait for it to come back, unless one of both said that it leaves."""
        channels = self._links.pop(link)
        for task in channels.attaching.values():
            task.cancel()
        losses = [(link.sidecar, socket) for socket in channels.sockets.values()]
        for loss in losses:
            _, socket = loss
            socket.link = None
            socket.answer_probe(Probed(alive=False, seen=0))
            if in_order or socket.closing:
                continue
            former = self._lost.get(socket.session_id)
            self._lost[socket.session_id] = loss
            if former is not None:
                # Nobody can take it up any more.
                self.end_soon(former[1], "move")
        self._changed.set()
        if losses:
            self.run(self._end_all([socket for _, socket in losses]) if in_order else self._expire(losses))

    async def _expire(self, losses: Sequence[tuple[str, VirtualSocket]]) -> None:
        await self._clock.sleep(RESUME_SECONDS)
        # One that was taken up and lost again meanwhile has its time from then on.
        expired = [socket for loss in losses if self._lost.get((socket := loss[1]).session_id) is loss]
        # All at once: a link that comes back while they end must find none of them.
        for socket in expired:
            del self._lost[socket.session_id]
            counters.add("session.expired")
            # By now its sidecar starts elsewhere what ran here: none may wait for its turn to end.
            ending.stop(self, socket)
        await self._end_all(expired, "move")

    async def _end_all(self, sockets: Sequence[VirtualSocket], reason: DetachedReason = "lost") -> None:
        for some in batched(sockets, _ENDING_AT_ONCE):
            await asyncio.gather(*(self.end(socket, reason) for socket in some))

    async def _attach(self, link: Link, channels: _Channels, channel: int, request: Attach) -> None:
        answer: Attached | AttachRefused | Detached
        socket: VirtualSocket | None = None
        try:
            answer, socket = await attaching.attach(self, link, channel, request)
        except asyncio.CancelledError as cancelled:
            answer = _detached_by(cancelled)
        except Exception as error:
            logger.exception("a session could not be attached")
            answer = AttachRefused("failed", type(error).__name__)
        del channels.attaching[channel]
        if isinstance(answer, AttachRefused):
            counters.add(f"attach.{answer.error}")
        if link not in self._links:
            if socket is not None:
                socket.link = None
                await self.end(socket, "lost")
            return
        if socket is not None:
            channels.sockets[channel] = socket
        link.write(session_frames.encode(channel, answer))
        self._changed.set()

    def _resume(self, link: Link, channels: _Channels, channel: int, request: Attach) -> None:
        answer, socket = attaching.resume(self, link, channel, request)
        link.write(session_frames.encode(channel, answer))
        self._changed.set()
        if socket is None:
            counters.add("attach.unknown")
            return
        channels.sockets[channel] = socket
        self._tell_session(link, socket)
        socket.tell_rest()
        socket.pump()
        # By the time that the kernel has the answer, more may have come.
        self.run(self._resumed(link, socket, socket.received))

    def _tell_session(self, link: Link, socket: VirtualSocket) -> None:
        """Its sidecar has not heard what a handler made of the tab's session while there was no link."""
        sid = self.sid_of(socket)
        token = None if sid is None else self.tokens.token_of(sid)
        if sid is None or token is None:
            return
        changed, cookie = handover.tabs.find(token, sid)
        if changed:
            link.tell_session({"t": token_hash(token), "session": socket.session_id, "cookie": cookie})

    async def _resumed(self, link: Link, socket: VirtualSocket, received: int) -> None:
        await link.handed_over()
        self._acknowledged(socket, received)

    def _never_attached(self, link: Link, channels: _Channels, channel: int, task: asyncio.Task[None]) -> None:
        """Its client left before the task's first step, so nothing of `_attach` ran: answer in its place."""
        if channels.attaching.get(channel) is not task:
            return
        del channels.attaching[channel]
        try:
            task.result()
        except asyncio.CancelledError as cancelled:
            if link in self._links:
                link.write(session_frames.encode(channel, _detached_by(cancelled)))
        self._changed.set()

    def _acknowledged(self, socket: VirtualSocket, received: int) -> None:
        socket.acknowledged = max(socket.acknowledged, received)
        if socket.task is None and socket.inbox and socket.link is not None:
            socket.task = self.run(feed(self, socket))

    # Ends

    def drain(self, seconds: float) -> None:
        """Take no new sessions, and have the sidecars move theirs within so many seconds."""
        self._drained_by = self._clock.monotonic() + seconds
        # Also over links that carry none: their sidecars would go on choosing this worker, and be refused.
        for link in self._links:
            link.send(FrameType.DRAIN, {"seconds": seconds})

    @property
    def is_draining(self) -> bool:
        """Whether this worker is about to stop."""
        return self._drained_by is not None

    def _tell_drain(self, link: Link) -> None:
        if self._drained_by is not None:
            link.send(FrameType.DRAIN, {"seconds": max(0.0, self._drained_by - self._clock.monotonic())})

    def end_soon(self, socket: VirtualSocket, reason: DetachedReason) -> None:
        """End a session from where nothing can wait."""
        if not socket.closing:
            self.run(self.end(socket, reason))

    def _oust(self, sid: str) -> None:
        if (socket := self._socket_of(sid)) is not None:
            self.end_soon(socket, "takeover")

    async def end(self, socket: VirtualSocket, reason: DetachedReason, why: str | None = None) -> None:
        """The app sees the client leave, then the sidecar hears of it. `why` is engineio's word for it."""
        if socket.closing:
            return
        socket.closing = True
        loss = self._lost.get(socket.session_id)
        if loss is not None and loss[1] is socket:
            del self._lost[socket.session_id]
        if why is None:
            reasons = self.eio.reason
            why = reasons.CLIENT_DISCONNECT if reason == "closed" else reasons.TRANSPORT_CLOSE
        detached = Detached(reason)
        try:
            detached = await ending.end(self, socket, reason, why)
        finally:
            # Whatever the app does: its sidecar must hear of the end, and nothing of it may stay.
            if (link := socket.link) is not None:
                socket.pump(all_of_it=reason == "move")
                link.write(session_frames.encode(socket.channel, detached))
                self._links[link].sockets.pop(socket.channel, None)
            socket.release()
            self.eio.sockets.pop(socket.sid, None)
            counters.add(f"session.ended_{reason}")
            self._changed.set()

    # For those who do the work

    def handler(self, name: str) -> Any:
        """The event handler of this name, or None."""
        registered = self._handlers.get(name)
        return None if registered is None else registered.handler

    def sid_of(self, socket: VirtualSocket) -> str | None:
        """The Socket.IO sid of a session in the event namespace, once it has one."""
        sid = self.sio.manager.sid_from_eio_sid(socket.sid, self.event_namespace)
        return sid if isinstance(sid, str) else None

    def holder(self, token: str) -> VirtualSocket | None:
        """The virtual session that has this token."""
        return self._socket_of(self.tokens.sid_of(token))

    def is_leaving(self, token: str) -> bool:
        """Whether the virtual session that has this token is over, and the app still takes leave of it."""
        socket = self._any_socket_of(self.tokens.sid_of(token))
        return socket is not None and socket.closing

    def take_lost(self, sidecar: str, session_id: str) -> VirtualSocket | None:
        """The session that lost its link to this sidecar, for the next one."""
        found = self._lost.get(session_id)
        if found is None or found[0] != sidecar:
            return None
        return self._lost.pop(session_id)[1]

    def waiting_changed(self, difference: int) -> bool:
        """Count what waits for all clients; false when that is too much."""
        self._total_waiting += difference
        return self._total_waiting <= MAX_TOTAL_WAITING

    def run(self, coroutine: Any) -> asyncio.Task[Any]:
        """A task whose failure is told."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
            counters.add("session.error")
            logger.error("a virtual session's task failed", exc_info=error)

    # Figures

    @property
    def count(self) -> int:
        """Sessions that this worker has, those of a lost link included."""
        return sum(self.links.values()) + len(self._lost)

    @property
    def links(self) -> dict[Link, int]:
        """Every link with the number of its sessions."""
        return {link: len(channels.sockets) + len(channels.attaching) for link, channels in self._links.items()}

    @property
    def in_flight(self) -> int:
        """Packets whose work has not ended."""
        return sum(
            len(socket.works or ()) + len(socket.inbox or ())
            for channels in self._links.values()
            for socket in channels.sockets.values()
        )

    async def emptied(self) -> None:
        """Wait until this worker has no session, and none that its sidecar may still take up."""
        while self.count:
            self._changed.clear()
            await self._changed.wait()

    def _socket_of(self, sid: str | None) -> VirtualSocket | None:
        """The virtual session with this Socket.IO sid, unless it is about to end."""
        socket = self._any_socket_of(sid)
        return None if socket is None or socket.closing else socket

    def _any_socket_of(self, sid: str | None) -> VirtualSocket | None:
        eio_sid = None if sid is None else self.sio.manager.eio_sid_from_sid(sid, self.event_namespace)
        socket = self.eio.sockets.get(eio_sid)
        return socket if isinstance(socket, VirtualSocket) else None


def _detached_by(cancelled: asyncio.CancelledError) -> Detached:
    """What answers the DETACH that cancelled an attach."""
    return Detached(cast("DetachReason", cancelled.args[0] if cancelled.args else "closed"))


def _schema_of(state: Any) -> str | None:
    """What Reflex compares with a page's own when it connects (reflex 0.10); the state class keeps it."""
    schema = getattr(state, "_to_frontend_schema", None)
    return None if schema is None else str(schema())


def _takes_over() -> bool:
    """Whether the packet that is being delivered is the CONNECT of a session that takes its token over; once."""
    begun = work.delivering()
    if begun is None or not begun.socket.takeover:
        return False
    begun.socket.takeover = False
    return True
