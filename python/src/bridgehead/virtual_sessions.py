"""The virtual sessions of one app: those that links carry instead of connections of their own.

Frames come here from their link and are acknowledged (RECEIVED) before the app gets what they carry, in a task that
lives as long as the session has input.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from collections.abc import Iterable
from typing import Any, cast

from bridgehead import counters, session_frames, work
from bridgehead.background import describe, stop_background
from bridgehead.clock import Clock, SystemClock
from bridgehead.frames import Frame, FrameError
from bridgehead.link import Link
from bridgehead.manifest import SessionFacts
from bridgehead.resync import last_page, send_whole_state
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
    Probe,
    Probed,
    Received,
    Resync,
    RunningHandler,
)
from bridgehead.tokens import Tokens
from bridgehead.virtual_environ import make_environ
from bridgehead.virtual_socket import WINDOW, VirtualSocket

logger = logging.getLogger("bridgehead")

RESUME_SECONDS = 5.0
PROBE_SECONDS = 2.5
# How long the app's own disconnect handlers may hold up the answer to a DETACH.
_DISCONNECT_SECONDS = 5.0
MAX_TOTAL_WAITING = 256 * 1024 * 1024


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
        self.namespace: Any = app.event_namespace
        self.event_namespace = str(self.namespace.namespace)
        self.tokens = Tokens(self.namespace._token_manager, is_virtual=self._is_virtual, takes_over=self._takes_over)
        self.is_draining = False
        self._sio: Any = app.sio
        self._eio: Any = app.sio.eio
        self._handlers: Any = app._registration_context.event_handlers
        self._clock = clock or SystemClock()
        self._links: dict[Link, _Channels] = {}
        self._lost: dict[tuple[str, str], VirtualSocket] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._total_waiting = 0
        self._emptied = asyncio.Event()
        _track_socket_handlers(app.sio)

    # For the link

    def opened(self, link: Link) -> None:
        """A link with a sidecar is open."""
        self._links[link] = _Channels()

    async def on_frames(self, link: Link, frames: Iterable[Frame]) -> None:
        """The frames of one chunk: acknowledge, in one write, and only then give the app what they carry."""
        channels = self._links[link]
        fed: dict[VirtualSocket, None] = {}
        for frame in frames:
            message = session_frames.decode(frame)
            if message is not None:
                self._on_message(link, channels, frame.channel, message, fed)
        if not fed:
            return
        for socket in fed:
            link.write(session_frames.encode(socket.channel, Received(socket.received)))
        await link.handed_over()
        for socket in fed:
            self.has_input(socket)

    def _on_message(
        self, link: Link, channels: _Channels, channel: int, message: Message, fed: dict[VirtualSocket, None]
    ) -> None:
        if isinstance(message, Attach):
            self._start_attach(link, channels, channel, message)
            return
        if not isinstance(message, Client | Inject | Resync | Credit | Detach | Probed):
            raise FrameError(f"{type(message).__name__} may not come from a sidecar")
        socket = channels.sockets.get(channel)
        if socket is None:
            # It crossed a DETACHED, or the client left while its session was being attached.
            if isinstance(message, Detach) and (attaching := channels.attaching.get(channel)) is not None:
                attaching.cancel(message.reason)
            return
        match message:
            case Client() | Inject() | Resync():
                if socket.receive(message):
                    fed[socket] = None
                    if socket.inbox_bytes > 2 * WINDOW + session_frames.MAX_PAYLOAD:
                        self.end_soon(socket, "failed")
            case Credit():
                socket.credit(message.bytes)
            case Detach(reason="move"):
                self._run(self.end(socket, "move", self._eio.reason.TRANSPORT_CLOSE))
            case Detach():
                socket.receive_detach(message)
                fed.setdefault(socket, None)
            case Probed():
                if socket.probe is not None and not socket.probe.done():
                    socket.probe.set_result(message)

    def drained(self, link: Link) -> None:
        """The sidecar has read what was in its way."""
        for socket in [socket for socket in self._links[link].sockets.values() if socket.waits]:
            socket.pump()

    def lost(self, link: Link, *, in_order: bool) -> None:
        """The link is over. Its sessions wait for it to come back, unless the sidecar said that it leaves."""
        channels = self._links.pop(link)
        for task in channels.attaching.values():
            task.cancel()
        sockets = list(channels.sockets.values())
        for socket in sockets:
            socket.link = None
            if socket.probe is not None and not socket.probe.done():
                socket.probe.set_result(Probed(alive=False))
            if in_order:
                self._run(self.end(socket, "lost", self._eio.reason.TRANSPORT_CLOSE))
            else:
                self._lost[link.sidecar, socket.session_id] = socket
        self._changed()
        if sockets and not in_order:
            self._run(self._expire(link.sidecar, sockets))

    async def _expire(self, sidecar: str, sockets: list[VirtualSocket]) -> None:
        await self._clock.sleep(RESUME_SECONDS)
        for socket in sockets:
            if socket.link is None and self._lost.get((sidecar, socket.session_id)) is socket:
                counters.add("session.expired")
                self._run(self.end(socket, "move", self._eio.reason.TRANSPORT_CLOSE))

    # Attaching

    def _start_attach(self, link: Link, channels: _Channels, channel: int, attach: Attach) -> None:
        if channel in channels.sockets or channel in channels.attaching:
            raise FrameError(f"channel {channel} is in use")
        task = self._run(self._attach(link, channels, channel, attach))
        channels.attaching[channel] = task

    async def _attach(self, link: Link, channels: _Channels, channel: int, attach: Attach) -> None:
        answer: Attached | AttachRefused | Detached
        try:
            answer = await self._try_attach(link, channels, channel, attach)
        except asyncio.CancelledError as cancelled:
            reason = cancelled.args[0] if cancelled.args else "closed"
            answer = Detached(cast("DetachReason", reason))
        except Exception as error:
            logger.exception("a session could not be attached")
            answer = AttachRefused("failed", type(error).__name__)
        finally:
            channels.attaching.pop(channel, None)
        if isinstance(answer, AttachRefused):
            counters.add(f"attach.{answer.error}")
        link.write(session_frames.encode(channel, answer))
        if isinstance(answer, Attached) and attach.resume and (socket := channels.sockets.get(channel)) is not None:
            socket.tell_background()
            socket.pump()
            self.has_input(socket)

    async def _try_attach(
        self, link: Link, channels: _Channels, channel: int, attach: Attach
    ) -> Attached | AttachRefused:
        if attach.resume:
            return self._resume(link, channels, channel, attach)
        if self.is_draining:
            return AttachRefused("draining", "this worker is about to stop")
        token = _token_in(attach.target)
        takeover = attach.takeover
        kept: tuple[str, ...] = ()
        if token is not None:
            if takeover:
                await self._end_holder(token)
            elif not attach.force:
                owner = await self.tokens.owner(token)
                if owner == "here" and (holder := self._holder(token)) is not None:
                    probed = await self._probe(holder)
                    if not probed.alive:
                        takeover, kept = True, probed.kept
                        await self.end(holder, "takeover", self._eio.reason.PING_TIMEOUT)
                elif owner == "stale":
                    takeover = True
                elif owner not in ("here", "nobody"):
                    return AttachRefused("elsewhere", "another worker has this token", owner)
        environ = await make_environ(attach)
        socket = VirtualSocket(self._eio, self, link, channel, attach.session, token)
        socket.takeover, socket.kept = takeover, kept
        self._eio.sockets[socket.sid] = socket
        try:
            accepted = await self._eio._trigger_event("connect", socket.sid, environ, run_async=False)
        except BaseException:
            self._eio.sockets.pop(socket.sid, None)
            raise
        if accepted is not None and accepted is not True:
            self._eio.sockets.pop(socket.sid, None)
            return AttachRefused("failed", "the app refused the connection")
        channels.sockets[channel] = socket
        counters.add("session.attached")
        return Attached()

    def _resume(self, link: Link, channels: _Channels, channel: int, attach: Attach) -> Attached | AttachRefused:
        socket = self._lost.pop((link.sidecar, attach.session), None)
        if socket is None or socket.closing:
            return AttachRefused("unknown", "this worker has no such session")
        channels.sockets[channel] = socket
        sent = socket.rebind(link, channel)
        counters.add("session.resumed")
        return Attached(socket.received, sent)

    def _holder(self, token: str) -> VirtualSocket | None:
        """The virtual session that has this token."""
        sid = self.tokens.sid_of(token)
        eio_sid = None if sid is None else self._sio.manager.eio_sid_from_sid(sid, self.event_namespace)
        socket = self._eio.sockets.get(eio_sid)
        return socket if isinstance(socket, VirtualSocket) and not socket.closing else None

    async def _end_holder(self, token: str) -> None:
        """Who takes a token over knows that its former session is over."""
        if (holder := self._holder(token)) is not None:
            await self.end(holder, "takeover", self._eio.reason.TRANSPORT_CLOSE)

    async def _probe(self, holder: VirtualSocket) -> Probed:
        """Whether the client of this session lives; at most 2.5 s."""
        if holder.link is None:
            return Probed(alive=False)
        if holder.probe is None or holder.probe.done():
            holder.probe = asyncio.get_running_loop().create_future()
            holder.link.write(session_frames.encode(holder.channel, Probe()))
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await asyncio.shield(holder.probe)
        except TimeoutError:
            return Probed(alive=False)

    # Feeding

    def has_input(self, socket: VirtualSocket) -> None:
        """Give the app what came, in a task that ends when there is no more."""
        if socket.task is None and socket.inbox and socket.link is not None:
            socket.task = self._run(self._feed(socket))

    async def _feed(self, socket: VirtualSocket) -> None:
        try:
            while socket.link is not None and not socket.closing and (message := socket.take()) is not None:
                match message:
                    case Client():
                        await self._deliver(socket, message)
                    case Inject():
                        await self._inject(socket, message)
                    case Resync():
                        self._run(self._resync(socket, message))
                    case Detach():
                        # This task cannot wait for its own end.
                        self.end_soon(socket, message.reason)
                        return
        finally:
            socket.task = None

    async def _deliver(self, socket: VirtualSocket, client: Client) -> None:
        begun = socket.begin(client.n, wants_done=client.wants_done)
        work.enter(begun)
        try:
            data: Any = client.payload if client.binary else _engine_io_text(client.payload)
            await self._eio._trigger_event("message", socket.sid, data, run_async=False)
        except UnicodeDecodeError:
            self.end_soon(socket, "failed")
        finally:
            begun.release()
            socket.taken(len(client.payload))

    async def _inject(self, socket: VirtualSocket, inject: Inject) -> None:
        begun = socket.begin(inject.n, wants_done=True)
        work.enter(begun)
        outcome: session_frames.Outcome = "raised"
        try:
            sid = self.sid_of(socket)
            if self.handler(inject.name) is None or sid is None:
                counters.add("inject.refused")
                return
            page = socket.page or await last_page(self.app, self.tokens.token_of(sid))
            event = {"name": inject.name, "payload": dict(inject.payload), "router_data": dict(page)}
            await self.namespace.on_event(sid, event)
            outcome = "ended"
        except Exception:
            logger.exception("an injected event failed")
        finally:
            begun.release(outcome)

    async def _resync(self, socket: VirtualSocket, resync: Resync) -> None:
        begun = socket.begin(resync.n, wants_done=True)
        outcome: session_frames.Outcome = "raised"
        try:
            sid = self.sid_of(socket)
            token = None if sid is None else self.tokens.token_of(sid)
            if token is not None and await send_whole_state(self.app, token):
                outcome = "ended"
        except Exception:
            logger.exception("a session's state could not be sent anew")
        finally:
            counters.add("session.resync" if outcome == "ended" else "session.resync_failed")
            begun.release(outcome)

    # Ending

    def end_soon(self, socket: VirtualSocket, reason: DetachedReason) -> None:
        """End a session from where nothing can wait."""
        reasons = self._eio.reason
        why = reasons.CLIENT_DISCONNECT if reason == "closed" else reasons.TRANSPORT_CLOSE
        if not socket.closing:
            self._run(self.end(socket, reason, why))

    async def end(self, socket: VirtualSocket, reason: DetachedReason, why: str) -> None:
        """The app sees the client leave, then the sidecar hears of it."""
        if socket.closing:
            return
        socket.closing = True
        self._lost = {key: lost for key, lost in self._lost.items() if lost is not socket} if self._lost else {}
        background: tuple[RunningHandler, ...] = ()
        if reason == "move":
            socket.is_stopped = True
            background = await stop_background(socket, self.app.event_processor)
        if socket.task is not None and socket.task is not asyncio.current_task():
            socket.task.cancel()
            await asyncio.wait({socket.task}, timeout=_DISCONNECT_SECONDS)
        await self._disconnect(socket, why)
        link = socket.link
        if link is not None:
            socket.pump(all_of_it=reason == "move")
            link.write(session_frames.encode(socket.channel, Detached(reason, background)))
            self._links[link].sockets.pop(socket.channel, None)
        socket.closed = True
        socket.link = None
        socket.inbox = None
        socket.drop_waiting()
        self._eio.sockets.pop(socket.sid, None)
        counters.add(f"session.ended_{reason}")
        self._changed()

    async def _disconnect(self, socket: VirtualSocket, why: str) -> None:
        sid = self.sid_of(socket)
        token = None if sid is None else self.tokens.token_of(sid)
        disconnecting = asyncio.ensure_future(self._eio._trigger_event("disconnect", socket.sid, why, run_async=False))
        await asyncio.wait({disconnecting}, timeout=_DISCONNECT_SECONDS)
        if sid is None or token is None:
            return
        manager = self._sio.manager
        if manager.eio_sid_from_sid(sid, self.event_namespace) is not None:
            # It was connecting still, and Socket.IO tells no handler of that.
            self.namespace.on_disconnect(sid)
            manager.basic_disconnect(sid, self.event_namespace)
        # Reflex does this too, some time later; whoever attaches the session elsewhere must find it done.
        await self.tokens.release(token, sid)

    # For virtual sockets and others

    def facts(self) -> SessionFacts:
        """What the manifest says of sessions."""
        return SessionFacts(
            takes_sessions=True,
            max_payload=self._eio.max_http_buffer_size,
            tokens=self.tokens.instance,
            persistent=getattr(self.app.state_manager, "redis", None) is not None,
        )

    def handler(self, name: str) -> Any:
        """The event handler of this name, or None."""
        registered = self._handlers.get(name)
        return None if registered is None else registered.handler

    def describe(self, event: Any) -> RunningHandler:
        """A background handler as the sidecar may start it again."""
        return describe(event)

    def sid_of(self, socket: VirtualSocket) -> str | None:
        """The Socket.IO sid of a session in the event namespace, once it has one."""
        sid = self._sio.manager.sid_from_eio_sid(socket.sid, self.event_namespace)
        return sid if isinstance(sid, str) else None

    def waiting_changed(self, difference: int) -> bool:
        """Count what waits for all clients; false when that is too much."""
        self._total_waiting += difference
        return self._total_waiting <= MAX_TOTAL_WAITING

    @property
    def count(self) -> int:
        """Sessions that this worker has, those of a lost link included."""
        return self.linked_count + len(self._lost)

    @property
    def linked_count(self) -> int:
        """Sessions on links."""
        return sum(len(channels.sockets) + len(channels.attaching) for channels in self._links.values())

    @property
    def links(self) -> tuple[Link, ...]:
        """The links that carry sessions."""
        return tuple(link for link, channels in self._links.items() if channels.sockets or channels.attaching)

    @property
    def open_links(self) -> tuple[Link, ...]:
        """All links, also those without sessions."""
        return tuple(self._links)

    @property
    def in_flight(self) -> int:
        """Packets whose work has not ended."""
        return sum(
            len(socket.works or ()) + len(socket.inbox or ())
            for channels in self._links.values()
            for socket in channels.sockets.values()
        )

    async def emptied(self) -> None:
        """Wait until no link carries a session."""
        while self.linked_count:
            self._emptied.clear()
            await self._emptied.wait()

    def _changed(self) -> None:
        self._emptied.set()

    def _is_virtual(self, sid: str) -> bool:
        eio_sid = self._sio.manager.eio_sid_from_sid(sid, self.event_namespace)
        # A socket that is gone already is nobody's: then too only its own record goes.
        socket = self._eio.sockets.get(eio_sid)
        return socket is None or isinstance(socket, VirtualSocket)

    def _takes_over(self) -> bool:
        begun = work.delivering()
        if begun is None or not begun.socket.takeover:
            return False
        begun.socket.takeover = False
        return True

    def _run(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            counters.add("session.error")
            logger.error("a virtual session's task failed", exc_info=error)


def _engine_io_text(payload: bytes) -> Any:
    from engineio.packet import Packet  # type: ignore[import-untyped]

    return Packet(encoded_packet=payload.decode()).data


def _token_in(target: str) -> str | None:
    # As Reflex reads it.
    tokens = urllib.parse.parse_qs(urllib.parse.urlsplit(target).query).get("token", [])
    return tokens[0] if tokens else None


def _track_socket_handlers(sio: Any) -> None:
    """With `async_handlers` (reflex 0.9) Socket.IO runs each handler in a task: it belongs to the packet too."""
    original = sio.start_background_task
    handle = sio._handle_event_internal

    def start_background_task(target: Any, *args: Any, **kwargs: Any) -> Any:
        task = original(target, *args, **kwargs)
        begun = work.delivering()
        if begun is not None and target == handle:
            begun.hold()
            task.add_done_callback(lambda _: begun.release())
        return task

    sio.start_background_task = start_background_task
