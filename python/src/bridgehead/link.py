"""One link to a sidecar, the worker's side (docs/PROTOCOL.md, "Link").

The worker proves that it knows the secret, and says nothing of itself before the sidecar has proved it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bridgehead.clock import Clock
from bridgehead.frames import (
    FIRST_VIRTUAL_TYPE,
    LIMIT,
    Frame,
    FrameDecoder,
    FrameError,
    FrameType,
    encode_control,
)
from bridgehead.keys import Keyring, base64url
from bridgehead.proof import NONCE_BYTES, link_mac, link_mac_fits

logger = logging.getLogger("bridgehead")

VERSION = 1
HANDSHAKE_SECONDS = 5.0
SILENT_HEARTBEATS = 3
MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS = 50, 60_000
MAX_QUERIES = 64
_CLOSE_SECONDS = 1.0
# Twice the longest frame: a slow sidecar may be handed one of those, behind what others had.
_MAX_UNSENT_BYTES = 2 * LIMIT
# With more than this on its way, sessions keep their frames back.
_CONGESTED_BYTES = 1024 * 1024
_READ_BYTES = 65_536
# After so many heartbeats of silence, this process may have stood still for so long that the sidecar gave it up.
_DOUBTFUL_HEARTBEATS = 1.5
_NONCE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_MAX_NAME = 200

Code = Literal["VERSION", "AUTH", "NAME", "FRAME", "TIMEOUT", "MANIFEST"]


class LinkError(Exception):
    """The link ended for a reason that has a code of the protocol. `told` says that the sidecar sent it."""

    def __init__(self, code: str, message: str, *, told: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.told = told


class LinkLost(Exception):
    """The connection ended, or nothing came for too long."""


class LinkDuplicate(Exception):
    """There is a link with this sidecar already, over another of its addresses."""


class Sessions(Protocol):
    """Those who keep the virtual sessions of all links.

    `on_frames` gets the session frames of one chunk; `lost` comes exactly once for each `opened`, with `in_order` where
    either side said GOAWAY; `drained` after `Link.is_congested` was true.
    """

    def opened(self, link: Link) -> None: ...

    async def on_frames(self, link: Link, frames: list[Frame]) -> None: ...

    def drained(self, link: Link) -> None: ...

    def lost(self, link: Link, *, in_order: bool) -> None: ...


class Live(Protocol):
    """Those who publish and hear live changes. `lost` comes exactly once for each `opened`."""

    def opened(self, link: Link) -> None: ...

    def on_frame(self, link: Link, frame: Frame) -> None: ...

    def lost(self, link: Link) -> None: ...


@dataclass(frozen=True, slots=True)
class Worker:
    """What a link must know of its worker.

    `name` gives the deployment's name once it is known; `stamp` changes when the manifest does; `linked` holds the
    sidecars that have a link, by their instance; `answer` gives the AUTH_REPLY to an AUTH_QUERY, and never raises.
    """

    keyring: Keyring
    name: Callable[[], str | None]
    learn_name: Callable[[str], None]
    manifest: Callable[[], Mapping[str, Any]]
    stamp: Callable[[], object]
    use_rules: Callable[[Mapping[str, Any]], None]
    linked: set[str]
    answer: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]] | None = None
    sessions: Sessions | None = None
    live: Live | None = None


class Link:
    """One connection, from its first byte to its last. `run` returns only by raising."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        worker: Worker,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        on_open: Callable[[Link], None] = lambda link: None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._worker = worker
        self._clock = clock
        self._nonce = base64url(random_bytes(NONCE_BYTES))
        self._on_open = on_open
        self._decoder = FrameDecoder()
        self._step: Literal["hello", "welcome", "open"] = "hello"
        self._hello_name = ""
        self._hello_nonce = ""
        self._sidecar = ""
        self._key = worker.keyring.current
        self._told_sessions = 0
        self._heartbeat = 5.0
        self._last_sent = self._last_received = self._last_chunk = clock.monotonic()
        self._sent_stamp: object = None
        self._watcher: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._in_order = False
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._uncongesting: asyncio.Task[None] | None = None
        self._doubt: int | None = None
        self._held: list[Frame] = []
        self._questions: dict[int, asyncio.Future[bool]] = {}
        self._last_stamp = 0

    @property
    def name(self) -> str:
        """The deployment's name, as the sidecar says it."""
        return self._hello_name

    @property
    def sidecar(self) -> str:
        """The sidecar's instance."""
        return self._sidecar

    @property
    def is_open(self) -> bool:
        """Both sides have proved the secret."""
        return self._step == "open"

    async def run(self) -> None:
        """Shake hands, then serve until the link ends."""
        self._watch(self._limit_handshake())
        try:
            await self._read()
        except FrameError as error:
            self._send_error("FRAME", str(error))
            raise LinkError("FRAME", str(error)) from error
        except LinkError as error:
            if not error.told:
                self._send_error(error.code, error.message)
            raise
        except LinkDuplicate:
            self._send(FrameType.GOAWAY, {"reason": "duplicate"})
            raise
        except asyncio.CancelledError:
            self._in_order = True
            if self.is_open:
                self._send(FrameType.GOAWAY, {"reason": "shutdown"})
            raise
        except OSError as error:
            raise self._failure or LinkLost(str(error)) from error
        finally:
            for task in self._answering:
                task.cancel()
            if self.is_open:
                self._worker.linked.discard(self._sidecar)
                if self._worker.sessions is not None:
                    self._worker.sessions.lost(self, in_order=self._in_order)
                if self._worker.live is not None:
                    self._worker.live.lost(self)
                for question in self._questions.values():
                    _answer(question, taken=False)
            await self._close()

    async def _read(self) -> None:
        while chunk := await self._reader.read(_READ_BYTES):
            now = self._clock.monotonic()
            if now - self._last_chunk > _DOUBTFUL_HEARTBEATS * self._heartbeat:
                self._be_in_doubt()
            self._last_received = self._last_chunk = now
            for frame in self._decoder.feed(chunk):
                if frame.type >= FIRST_VIRTUAL_TYPE and self.is_open and self._worker.sessions is not None:
                    self._held.append(frame)
                else:
                    self._on_frame(frame)
            if self._held and self._doubt is None and self._worker.sessions is not None:
                held, self._held = self._held, []
                await self._worker.sessions.on_frames(self, held)
            await self._writer.drain()
        raise self._failure or LinkLost("the sidecar closed the connection")

    def _on_frame(self, frame: Frame) -> None:
        if frame.type == FrameType.ERROR:
            body = frame.json()
            code, message = (str(body.get(key, ""))[:200] for key in ("code", "message"))
            raise LinkError(code, message, told=True)
        match self._step, frame.type:
            case "hello", FrameType.HELLO:
                self._on_hello(frame.json())
            case "welcome", FrameType.WELCOME:
                self._on_welcome(frame.json())
            case "open", FrameType.RULES:
                self._worker.use_rules(frame.json())
            case "open", FrameType.PING:
                self._send(FrameType.PONG, {"t": frame.json().get("t")})
            case "open", FrameType.PONG:
                self._on_pong(frame.json().get("t"))
            case "open", FrameType.GOAWAY:
                self._in_order = True
                logger.info("the sidecar is about to leave: %s", str(frame.json().get("reason", ""))[:200])
            case "open", FrameType.AUTH_QUERY if self._worker.answer is not None:
                self._answer(frame.json())
            case "open", FrameType.CHANGES | FrameType.CHANGED | FrameType.GAP if self._worker.live is not None:
                self._worker.live.on_frame(self, frame)
            case "open", kind if kind > FrameType.GOAWAY:
                pass  # a later version's; this one can do without
            case _:
                raise FrameError(f"frame type {frame.type} may not come now")

    def _on_hello(self, body: Mapping[str, Any]) -> None:
        versions, name, nonce, instance = (body.get(key) for key in ("v", "name", "nonce", "instance"))
        if not isinstance(versions, list) or VERSION not in versions:
            raise LinkError("VERSION", f"this worker speaks version {VERSION}")
        if not (isinstance(name, str) and 0 < len(name) <= _MAX_NAME and name.isprintable()):
            raise FrameError("HELLO has no name")
        if not (isinstance(nonce, str) and _NONCE.fullmatch(nonce)) or not isinstance(instance, str):
            raise FrameError("HELLO has no nonce or no instance")
        own = self._worker.name()
        if own is not None and own != name:
            raise LinkError("NAME", f"the sidecar serves {name!r}, this worker belongs to {own!r}")
        self._hello_name, self._hello_nonce, self._sidecar = name, nonce, instance
        self._step = "welcome"
        key = self._key
        mac = link_mac(key, "worker", name=name, sidecar_nonce=nonce, worker_nonce=self._nonce)
        self._send(FrameType.AUTH, {"v": VERSION, "kid": key.kid, "nonce": self._nonce, "mac": mac})

    def _on_welcome(self, body: Mapping[str, Any]) -> None:
        about = {"name": self._hello_name, "sidecar_nonce": self._hello_nonce, "worker_nonce": self._nonce}
        keys = self._worker.keyring.keys
        if not any(link_mac_fits(body.get("mac"), key, "sidecar", **about) for key in keys):
            raise LinkError("AUTH", "the proof does not fit")
        heartbeat = body.get("heartbeat")
        if type(heartbeat) is not int or not MIN_HEARTBEAT_MS <= heartbeat <= MAX_HEARTBEAT_MS:
            raise FrameError("WELCOME has no heartbeat")
        if self._sidecar in self._worker.linked:
            raise LinkDuplicate
        self._worker.linked.add(self._sidecar)
        self._step = "open"
        self._heartbeat = heartbeat / 1000
        self._decoder.limit = LIMIT
        if self._worker.sessions is not None:
            # Waiting for the transport then means until the kernel has everything.
            self._writer.transport.set_write_buffer_limits(high=0)
            self._worker.sessions.opened(self)
        self._worker.learn_name(self._hello_name)
        self._send_manifest()
        if self._worker.live is not None:
            self._worker.live.opened(self)
        self._watch(self._beat())
        self._on_open(self)

    def _answer(self, query: Mapping[str, Any]) -> None:
        if len(self._answering) >= MAX_QUERIES:
            self._send(FrameType.AUTH_REPLY, _busy(query))
            return
        task = asyncio.create_task(self._find_answer(query))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _find_answer(self, query: Mapping[str, Any]) -> None:
        if self._worker.answer is not None:
            reply = await self._worker.answer(query)
            self.send(FrameType.AUTH_REPLY, reply)

    def send(self, frame_type: FrameType, body: Mapping[str, Any]) -> bool:
        """Send a frame on an open link; false where it is not open, or its sidecar has stopped reading."""
        if not self.is_open or self._writer.is_closing():
            return False
        if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self._failure = LinkLost("the sidecar does not read")
            self._writer.transport.abort()
            return False
        self._send(frame_type, body)
        return True

    def tell_session(self, body: Mapping[str, Any]) -> None:
        """Send SESSION, signed for this link and counted: whose a tab is must not be said by just anybody."""
        self._told_sessions += 1
        said = json.dumps({"n": self._told_sessions, **body}, separators=(",", ":"))
        mac = link_mac(
            self._key,
            "session",
            name=self._hello_name,
            sidecar_nonce=self._hello_nonce,
            worker_nonce=self._nonce,
            said=said,
        )
        self.send(FrameType.SESSION, {"said": said, "mac": mac})

    async def confirmed(self) -> bool:
        """Wait until the sidecar has taken all that was sent until now; false once the link is over.

        It answers a PING in its place among the frames.
        """
        asked = self._next_stamp()
        question: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._questions[asked] = question
        try:
            return self.send(FrameType.PING, {"t": asked}) and await question
        finally:
            del self._questions[asked]

    def _next_stamp(self) -> int:
        """Of a PING: about Unix time in milliseconds, and no other's, so that each PONG answers one."""
        self._last_stamp = max(self._last_stamp + 1, time.time_ns() // 1_000_000)
        return self._last_stamp

    def _on_pong(self, t: object) -> None:
        if self._doubt is not None and t == self._doubt:
            self._doubt = None
        if isinstance(t, int) and (question := self._questions.get(t)) is not None:
            _answer(question, taken=True)

    @property
    def is_congested(self) -> bool:
        """Whether the sidecar reads more slowly than this worker writes: `Sessions.drained` tells the end of it."""
        return self._uncongesting is not None or self._unsent_bytes > _CONGESTED_BYTES

    def write(self, frame: bytes) -> None:
        """Send a frame of a session, together with all others of this turn of the event loop."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(frame)
        self._unsent_bytes += len(frame)

    async def handed_over(self) -> None:
        """Wait until the kernel has everything that was written; `LinkLost` if it never will."""
        self._flush()
        await self._writer.drain()
        if self._writer.is_closing():
            raise self._failure or LinkLost("the connection is closing")

    def _flush(self) -> None:
        if not self._unsent:
            return
        data = b"".join(self._unsent)
        self._unsent, self._unsent_bytes = [], 0
        if self._writer.is_closing():
            return
        self._last_sent = self._clock.monotonic()
        self._writer.write(data)
        on_its_way = self._writer.transport.get_write_buffer_size()
        if self._uncongesting is None and max(len(data), on_its_way) > _CONGESTED_BYTES:
            self._uncongesting = asyncio.create_task(self._uncongest())

    async def _uncongest(self) -> None:
        with contextlib.suppress(OSError):
            await self._writer.drain()
        self._uncongesting = None
        if self.is_open and not self._writer.is_closing() and self._worker.sessions is not None:
            self._worker.sessions.drained(self)

    def _be_in_doubt(self) -> None:
        """Give the app nothing more until the sidecar answers: it may have given this worker up meanwhile."""
        if self.is_open and self._worker.sessions is not None:
            self._doubt = self._next_stamp()
            self._send(FrameType.PING, {"t": self._doubt})

    def _send_manifest(self) -> None:
        self._sent_stamp = self._worker.stamp()
        self._send(FrameType.MANIFEST, self._worker.manifest())

    def _send_error(self, code: str, message: str) -> None:
        self._send(FrameType.ERROR, {"code": code, "message": message})

    def _send(self, frame_type: FrameType, body: Mapping[str, Any]) -> None:
        self._flush()
        self._last_sent = self._clock.monotonic()
        self._writer.write(encode_control(frame_type, body))

    def _watch(self, coroutine: Any) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        self._watcher = asyncio.create_task(coroutine)
        self._watcher.add_done_callback(self._on_watcher_done)

    def _on_watcher_done(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled() and (error := watcher.exception()) is not None:
            # Without its watcher a link would stay open unheard.
            self._failure = LinkLost(f"watching the link failed: {error!r}")
            self._writer.transport.abort()

    async def _limit_handshake(self) -> None:
        await self._clock.sleep(HANDSHAKE_SECONDS)
        self._failure = LinkError("TIMEOUT", f"the handshake took more than {HANDSHAKE_SECONDS:g} s")
        self._send_error("TIMEOUT", "the handshake took too long")
        # The reader wakes up with the end of the stream; a sidecar that reads nothing cannot hold it.
        self._writer.transport.abort()

    async def _beat(self) -> None:
        while True:
            now = self._clock.monotonic()
            silent_at = self._last_received + SILENT_HEARTBEATS * self._heartbeat
            ping_at = self._last_sent + self._heartbeat
            if now >= silent_at:
                self._failure = LinkLost(f"nothing came for {SILENT_HEARTBEATS} heartbeats")
                self._writer.transport.abort()
                return
            if now >= ping_at:
                self._send(FrameType.PING, {"t": self._next_stamp()})
                continue
            if self._worker.stamp() != self._sent_stamp:
                self._send_manifest()
                continue
            wake_at = min(silent_at, ping_at)
            await self._clock.sleep(wake_at - now)
            if self._clock.monotonic() - wake_at > self._heartbeat:
                # This process stood still itself, so what the sidecar sent is still waiting to be read.
                self._last_received = self._clock.monotonic()

    async def _close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        self._flush()
        if self._uncongesting is not None:
            self._uncongesting.cancel()
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self._writer.transport.abort()
        if self._watcher is not None:
            await asyncio.wait({self._watcher})


def _answer(question: asyncio.Future[bool], *, taken: bool) -> None:
    if not question.done():
        question.set_result(taken)


def _busy(query: Mapping[str, Any]) -> dict[str, Any]:
    result = {"kind": "unavailable", "cause": "busy"}
    return {"id": query.get("id"), "result": result, "at": time.time_ns() // 1_000_000}
