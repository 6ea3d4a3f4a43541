"""A client's Engine.IO session that a link carries, in the place of engineio's own socket.

It stands in `sio.eio.sockets` and does what engineio asks of a socket. Idle it is this one object: no task, no queue.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from functools import lru_cache
from typing import Any, Protocol

from engineio import packet  # type: ignore[import-untyped]

from bridgehead import session_frames
from bridgehead.background import describe
from bridgehead.link import Link
from bridgehead.session_frames import (
    BackgroundEnded,
    BackgroundStarted,
    Client,
    Credit,
    Detach,
    DetachedReason,
    Done,
    Inject,
    Outcome,
    Probed,
    Resync,
    RunningHandler,
    Server,
    Subscribe,
    Unsubscribe,
)
from bridgehead.work import Work

# What each side may send of Engine.IO frames before the other gives credit back, in bytes.
WINDOW = 262_144
# So much is taken before it is given back.
_GIVE_BACK = WINDOW // 4
# A session with more than this waiting for its client ends as slow.
MAX_WAITING = 4 * 1024 * 1024

Waiting = Client | Inject | Resync | Detach


class Host(Protocol):
    """What a virtual socket needs of those who keep it."""

    event_namespace: str

    def handler(self, name: str) -> Any: ...

    def waiting_changed(self, difference: int) -> bool: ...

    def end_soon(self, socket: VirtualSocket, reason: DetachedReason) -> None: ...

    async def end(self, socket: VirtualSocket, reason: DetachedReason, why: str | None = None) -> None: ...


class VirtualSocket:
    """One session. `received`: the last number that came; `sent`: SERVER frames handed to the present link."""

    __slots__ = (
        "_credit",
        "_session",
        "_taken",
        "_waiting",
        "_waiting_bytes",
        "acknowledged",
        "background",
        "channel",
        "closed",
        "closing",
        "echo",
        "host",
        "inbox",
        "inbox_bytes",
        "is_stopped",
        "kept",
        "link",
        "page",
        "probe",
        "received",
        "sent",
        "server",
        "session_id",
        "sid",
        "takeover",
        "task",
        "untold",
        "works",
    )

    # What engineio asks of a socket: this one has no transport to upgrade, and the sidecar sees to the pings.
    connected = True
    upgraded = True
    upgrading = False
    last_ping = None

    def __init__(self, server: Any, host: Host, link: Link, channel: int, session_id: str) -> None:
        self.server = server
        self.sid: str = server.generate_id()
        self.host = host
        self.link: Link | None = link
        self.channel = channel
        self.session_id = session_id
        self.closing = False
        self.closed = False
        self.is_stopped = False
        # Reflex's record of the token becomes this session's, whoever has it.
        self.takeover = False
        # Frames that follow the CONNECT acknowledgement.
        self.kept: tuple[str | bytes, ...] = ()
        # The SERVER frames since the sidecar was asked whether the client lives, for the newcomer. The sidecar ends a
        # session whose client does not take what comes.
        self.echo: list[bytes] | None = None
        # Where its tab last was: what the client says of its page in an event.
        self.page: dict[str, Any] | None = None
        self.received = 0
        # The last number whose RECEIVED the kernel has: the app gets nothing beyond it.
        self.acknowledged = 0
        self.sent = 0
        self.inbox: deque[Waiting] | None = None
        self.inbox_bytes = 0
        self.task: asyncio.Task[None] | None = None
        self.works: dict[int, Work] | None = None
        self.background: dict[str, tuple[RunningHandler, Any]] | None = None
        self.probe: asyncio.Future[Probed] | None = None
        self.untold: dict[str, Subscribe | Unsubscribe] | None = None
        self._session: dict[str, Any] | None = None
        self._credit = WINDOW
        self._taken = 0
        self._waiting: deque[tuple[int, bytes]] | None = None
        self._waiting_bytes = 0

    # As engineio's socket

    @property
    def session(self) -> dict[str, Any]:
        """The user session of `eio.get_session`."""
        if self._session is None:
            self._session = {}
        return self._session

    @session.setter
    def session(self, session: dict[str, Any]) -> None:
        self._session = session

    async def send(self, pkt: Any) -> None:
        """Send an Engine.IO packet; others than messages are between a client and the sidecar."""
        if pkt.packet_type == packet.MESSAGE:
            self.push(pkt.encode())

    async def check_ping_timeout(self) -> bool:
        """The sidecar knows whether the client lives."""
        return True

    def schedule_ping(self) -> None:
        """The sidecar pings."""

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """The app or engineio ends the session."""
        await self.host.end(self, "closed", reason or self.server.reason.SERVER_DISCONNECT)

    # To the client

    def push(self, data: str | bytes) -> None:
        """Send an Engine.IO frame as soon as there is credit; a session that cannot take it ends."""
        if self.closed:
            return
        binary = not isinstance(data, str)
        payload = data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)
        if len(payload) > session_frames.MAX_PAYLOAD:
            self.host.end_soon(self, "failed")
            return
        self._queue(len(payload), session_frames.encode(self.channel, Server(payload, binary)))
        if self.kept and isinstance(data, str) and data.startswith(f"40{self.host.event_namespace},"):
            kept, self.kept = self.kept, ()
            for text in kept:
                self.push(text)

    def _queue(self, cost: int, frame: bytes) -> None:
        if self._waiting is None and self._may_send(cost):
            self._hand_over(cost, frame)
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((cost, frame))
        self._waiting_bytes += cost
        if not self.host.waiting_changed(cost) or self._waiting_bytes > MAX_WAITING:
            self.host.end_soon(self, "slow")

    def _may_send(self, cost: int) -> bool:
        return self.link is not None and not self.link.is_congested and (self._credit > 0 or cost == 0)

    def _hand_over(self, cost: int, frame: bytes) -> None:
        if self.link is not None:
            self._credit -= cost
            # Every frame of the client's has a cost, an empty one at least its place in the count.
            is_said = frame[4] == session_frames.SessionFrameType.SERVER
            self.sent += is_said
            if is_said and self.echo is not None:
                self.echo.append(frame)
            self.link.write(frame)

    def pump(self, *, all_of_it: bool = False) -> None:
        """Send what waits, as far as credit goes, or all of it."""
        while self._waiting and self.link is not None and (all_of_it or self._may_send(self._waiting[0][0])):
            cost, frame = self._waiting.popleft()
            self._waiting_bytes -= cost
            self.host.waiting_changed(-cost)
            self._hand_over(cost, frame)
        if not self._waiting:
            self._waiting = None

    @property
    def waits(self) -> bool:
        """Whether frames wait to be sent."""
        return self._waiting is not None

    def credit(self, count: int) -> None:
        """The client has taken so many bytes."""
        self._credit += count
        self.pump()

    def release(self) -> None:
        """It is over: nobody takes what waits any more, unless a newcomer does."""
        self.closed = True
        if self.echo is not None:
            waiting = (frame for _, frame in self._waiting or ())
            self.echo += [frame for frame in waiting if frame[4] == session_frames.SessionFrameType.SERVER]
        self.link = None
        self.inbox = None
        self.host.waiting_changed(-self._waiting_bytes)
        self._waiting, self._waiting_bytes = None, 0

    def rebind(self, link: Link, channel: int) -> int:
        """Go on with a new link of the same sidecar; how many SERVER frames the former one was handed."""
        sent, self.sent = self.sent, 0
        self.link, self.channel = link, channel
        self._credit, self._taken = WINDOW, 0
        if self._waiting is not None:
            head = channel.to_bytes(4)
            self._waiting = deque((cost, frame[:5] + head + frame[9:]) for cost, frame in self._waiting)
        return sent

    # From the client

    def receive(self, message: Client | Inject | Resync) -> bool:
        """Take a message in; false where its number came before."""
        if message.n <= self.received or self.closing:
            return False
        self.received = message.n
        if isinstance(message, Client):
            self.inbox_bytes += len(message.payload)
        self._put(message)
        return True

    def receive_detach(self, detach: Detach) -> None:
        """The session is over once the app has what came before."""
        self._put(detach)

    def _put(self, message: Waiting) -> None:
        if self.inbox is None:
            self.inbox = deque()
        self.inbox.append(message)

    def take(self) -> Waiting | None:
        """The next message for the app, in order; none that may still be sent elsewhere."""
        if not self.inbox:
            self.inbox = None
            return None
        first = self.inbox[0]
        if not isinstance(first, Detach) and first.n > self.acknowledged:
            return None
        return self.inbox.popleft()

    def taken(self, count: int) -> None:
        """The app has taken so many bytes."""
        self.inbox_bytes -= count
        self._taken += count
        if self._taken >= _GIVE_BACK and self.link is not None:
            self.link.write(session_frames.encode(self.channel, Credit(self._taken)))
            self._taken = 0

    # The work it makes

    def begin(self, n: int, *, wants_done: bool) -> Work:
        """The app gets packet `n`."""
        work = Work(self, n, wants_done=wants_done)
        if self.works is None:
            self.works = {}
        self.works[n] = work
        work.hold()
        return work

    def work_done(self, work: Work, outcome: Outcome) -> None:
        """All that packet made has ended. DONE follows the frames that it sent."""
        if self.works is None or self.works.pop(work.n, None) is None:
            return
        if not self.works:
            self.works = None
        if work.wants_done and not self.closed:
            self._queue(0, session_frames.encode(self.channel, Done(work.n, outcome)))

    def forget_work(self, n: int) -> None:
        """No DONE for this packet."""
        if self.works is not None:
            self.works.pop(n, None)

    def open_numbers(self) -> tuple[int, ...]:
        """The packets whose DONE has still to come."""
        done = [
            int.from_bytes(frame[9:13])
            for _, frame in self._waiting or ()
            if frame[4] == session_frames.SessionFrameType.DONE
        ]
        begun = [n for n, work in (self.works or {}).items() if work.wants_done]
        waiting = [
            message.n
            for message in self.inbox or ()
            if isinstance(message, Inject | Resync) or (isinstance(message, Client) and message.wants_done)
        ]
        return tuple(sorted({*done, *begun, *waiting}))

    def said_since(self, seen: int) -> tuple[str | bytes, ...]:
        """What it has said since its sidecar was asked, without what that one has seen of it: Engine.IO frames."""
        bodies = [frame[9:] for frame in (self.echo or ())[seen:]]
        return tuple(body[1:] if body[0] & 1 else body[1:].decode() for body in bodies)

    def answer_probe(self, answer: Probed) -> None:
        """The sidecar has asked the client, or cannot any more."""
        if self.probe is not None and not self.probe.done():
            self.probe.set_result(answer)
            # Here, since the newcomer may have left meanwhile. Where it did not wait any longer, it is to have it.
            if answer.alive and not self.closing:
                self.echo = None

    def background_started(self, event: Any, future: Any) -> None:
        """A background handler is about to run."""
        if self.background is None:
            self.background = {}
        handler = describe(event)
        self.background[future.txid] = (handler, future)
        self._tell(BackgroundStarted(future.txid, handler))
        future.add_done_callback(self._background_ended)

    def _background_ended(self, future: Any) -> None:
        if self.background is None or self.background.pop(future.txid, None) is None:
            return
        if not self.background:
            self.background = None
        self._tell(BackgroundEnded(future.txid))

    def _tell_background(self) -> None:
        """Tell anew which background handlers run."""
        for txid, (handler, _) in (self.background or {}).items():
            self._tell(BackgroundStarted(txid, handler))

    def tell(self, message: Subscribe | Unsubscribe) -> None:
        """Tell the sidecar what the session wants to hear, as soon as there is a link.

        It does not wait behind what the client has yet to take: a list is read once the sidecar knows of it.
        """
        if self.link is not None and not self.closed:
            self.link.write(session_frames.encode(self.channel, message))
        elif not self.closed:
            self.untold = {**(self.untold or {}), message.id: message}

    def tell_rest(self) -> None:
        """There is a link again: tell what it has to know."""
        self._tell_background()
        untold, self.untold = self.untold, None
        for message in (untold or {}).values():
            self.tell(message)

    def _tell(self, message: BackgroundStarted | BackgroundEnded) -> None:
        if self.link is not None and not self.closed:
            self.link.write(session_frames.encode(self.channel, message))

    def saw_page(self, data: Any) -> None:
        """Remember where the tab is, from an event of its client."""
        router_data = data.get("router_data") if isinstance(data, dict) else None
        if isinstance(router_data, dict) and isinstance(router_data.get("pathname"), str):
            page = {key: router_data[key] for key in ("pathname", "asPath", "query") if key in router_data}
            if page != self.page:
                self.page = _kept_page(page)


# A client says what it likes of its page; of a longer one Reflex's state alone knows.
_MAX_PAGE = 2_048


@lru_cache(maxsize=1024)
def _page(pathname: str, as_path: str) -> dict[str, Any]:
    return {"pathname": pathname, "asPath": as_path, "query": {}}


def _kept_page(page: dict[str, Any]) -> dict[str, Any] | None:
    """One for all tabs that show the same page, since pages are read, never written; None for one that is too long."""
    path, query = page.get("asPath", ""), page.get("query")
    if (
        not isinstance(path, str)
        or len(page["pathname"]) + len(path) + (len(json.dumps(query)) if query else 0) > _MAX_PAGE
    ):
        return None
    return _page(page["pathname"], path) if "asPath" in page and query == {} else page
