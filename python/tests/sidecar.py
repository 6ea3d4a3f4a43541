"""A small sidecar that speaks docs/PROTOCOL.md to the worker's link, rightly or wrongly as a test asks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from bridgehead.frames import FIRST_VIRTUAL_TYPE, LIMIT, Frame, FrameDecoder, FrameType, encode_control
from bridgehead.keys import Keyring, base64url
from bridgehead.proof import link_mac, link_mac_fits

RULES: dict[str, Any] = {"version": 1, "mode": "inherit", "resolve": False, "shadow": False, "rules": []}
LIVE = (FrameType.CHANGES, FrameType.GAP, FrameType.WATCH)


class Lane(Protocol):
    """A client whose session the sidecar carries."""

    def on_frame(self, frame: Frame) -> None: ...


class Connection:
    """One worker's connection."""

    def __init__(self, sidecar: Sidecar, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sidecar = sidecar
        self.frames: list[Frame] = []
        self.nonce = base64url(secrets.token_bytes(32))
        self.manifests: list[dict[str, Any]] = []
        self.closed = False
        self.mute = False
        self.clients: dict[int, Lane] = {}
        self._channels = 0
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder(LIMIT)
        self._unread: list[Frame] = []

    def send(self, frame_type: FrameType, body: dict[str, Any]) -> None:
        self.send_bytes(encode_control(frame_type, body))

    def register(self, client: Lane) -> int:
        """A channel for a client's session."""
        self._channels += 1
        self.clients[self._channels] = client
        return self._channels

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> Frame:
        """The worker's next frame; `EOFError` at the end."""
        while not self._unread:
            chunk = await self._reader.read(65_536)
            if not chunk:
                raise EOFError
            self._unread.extend(self._decoder.feed(chunk))
        frame = self._unread.pop(0)
        self.frames.append(frame)
        return frame

    def received(self, frame_type: FrameType) -> list[dict[str, Any]]:
        bodies = [frame.json() for frame in self.frames if frame.type == frame_type]
        return self._said(bodies) if frame_type == FrameType.SESSION else bodies

    def _said(self, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What each SESSION says, as a sidecar takes it: signed for this link, and none twice."""
        auth = next(frame.json() for frame in self.frames if frame.type == FrameType.AUTH)
        key = self.sidecar.keyring.get(auth["kid"])
        assert key is not None
        about = {"name": self.sidecar.name, "sidecar_nonce": self.nonce, "worker_nonce": auth["nonce"]}
        for body in bodies:
            assert link_mac_fits(body["mac"], key, "session", **about, said=body["said"])
        said = [json.loads(body["said"]) for body in bodies]
        assert [body.pop("n") for body in said] == list(range(1, len(said) + 1))
        return said

    def hello(self, **changed: Any) -> None:
        body = {"v": [1], "name": self.sidecar.name, "instance": self.sidecar.instance, "nonce": self.nonce}
        self.send(FrameType.HELLO, body | changed)

    def welcome(self, worker_nonce: str, **changed: Any) -> None:
        mac = link_mac(
            self.sidecar.keyring.current,
            "sidecar",
            name=self.sidecar.name,
            sidecar_nonce=self.nonce,
            worker_nonce=worker_nonce,
        )
        self.send(FrameType.WELCOME, {"mac": mac, "heartbeat": self.sidecar.heartbeat_ms} | changed)

    async def serve(self) -> None:
        """What a right sidecar does."""
        self.hello()
        auth = (await self.receive()).json()
        key = self.sidecar.keyring.get(auth["kid"])
        about = {"name": self.sidecar.name, "sidecar_nonce": self.nonce, "worker_nonce": auth["nonce"]}
        if key is None or not link_mac_fits(auth["mac"], key, "worker", **about):
            self.send(FrameType.ERROR, {"code": "AUTH", "message": "the proof does not fit"})
            return
        self.welcome(auth["nonce"])
        while True:
            frame = await self.receive()
            if frame.type == FrameType.MANIFEST:
                self.manifests.append(frame.json())
                self.send(FrameType.RULES, self.sidecar.rules)
            elif frame.type == FrameType.PING and not (self.sidecar.mute or self.mute):
                self.send(FrameType.PONG, frame.json())
            elif frame.type in LIVE and self.sidecar.on_live is not None:
                self.sidecar.on_live(self, frame)
            elif frame.type >= FIRST_VIRTUAL_TYPE and (client := self.clients.get(frame.channel)) is not None:
                client.on_frame(frame)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def pause(self) -> None:
        """Read nothing any more."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume(self) -> None:
        """Read again."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    def cut(self) -> None:
        """As a cable that is pulled: a reset, no goodbye."""
        self._writer.transport.abort()


Behaviour = Callable[[Connection], Awaitable[None]]


class Sidecar:
    def __init__(
        self,
        secret: str,
        name: str = "default",
        *,
        behaviour: Behaviour = Connection.serve,
        heartbeat_ms: int = 5_000,
    ) -> None:
        self.keyring = Keyring("link", secret)
        self.name = name
        self.instance = str(uuid.uuid4())
        self.rules = RULES
        self.mute = False
        self.heartbeat_ms = heartbeat_ms
        self.behaviour = behaviour
        # Who sees to live changes.
        self.on_live: Callable[[Connection, Frame], None] | None = None
        self.connections: list[Connection] = []
        self.failures: list[BaseException] = []
        self.port = 0
        self._queries = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, *, port: int = 0, path: str | None = None, host: str = "127.0.0.1") -> Sidecar:
        if path is not None:
            self._server = await asyncio.start_unix_server(self._accept, path)
        else:
            self._server = await asyncio.start_server(self._accept, host, port)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self.connections.append(connection)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.behaviour(connection)
        except (EOFError, OSError):
            pass
        except Exception as error:
            self.failures.append(error)
        finally:
            connection.closed = True
            await connection.close()
            self._tasks.discard(task)

    def broadcast_rules(self, rules: dict[str, Any]) -> None:
        self.rules = RULES | rules
        for connection in self.connections:
            if not connection.closed:
                connection.send(FrameType.RULES, self.rules)

    async def ask(self, cookie: str, **changed: Any) -> dict[str, Any]:
        """Who a session cookie belongs to, as the newest worker says."""
        connection = next(c for c in reversed(self.connections) if c.manifests and not c.closed)
        self._queries += 1
        query = self._queries
        connection.send(FrameType.AUTH_QUERY, {"id": query, "cookie": cookie, **changed})
        for _ in range(2_000):
            if found := [reply for reply in connection.received(FrameType.AUTH_REPLY) if reply["id"] == query]:
                return found[0]
            await asyncio.sleep(0.005)
        raise AssertionError("no answer within 10 s")

    def received(self, frame_type: FrameType) -> list[dict[str, Any]]:
        return [body for connection in self.connections for body in connection.received(frame_type)]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        assert not self.failures, self.failures

    @property
    def manifests(self) -> list[dict[str, Any]]:
        return [manifest for connection in self.connections for manifest in connection.manifests]


class SidecarThread:
    """A sidecar in a thread of its own, for tests whose worker is another process."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.run(sidecar.listen())

    def run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def wait_until(self, condition: Callable[[], object], what: str, seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s for {what}"
            time.sleep(0.02)

    def set_rules(self, *rules: dict[str, Any], **changed: Any) -> None:
        entries = [{"state": None, "handler": None, "path": None, "tier": None, "login": None} | rule for rule in rules]

        async def broadcast() -> None:
            self.sidecar.broadcast_rules({"rules": entries, **changed})

        self.run(broadcast())

    def wait_for_manifest(self, after: int = 0) -> dict[str, Any]:
        """The first manifest of the connections after so many."""
        self.wait_until(lambda: [c for c in self.sidecar.connections[after:] if c.manifests], "a manifest")
        return next(c for c in self.sidecar.connections[after:] if c.manifests).manifests[0]

    def stop(self) -> None:
        self.run(self.sidecar.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
