"""A client whose session the test's sidecar carries over a link, packet by packet."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from backend import until
from bridgehead import session_frames as sf
from bridgehead.frames import Frame
from bridgehead.session_frames import Message
from sidecar import Connection

HEADERS = (("Host", "desk.example"), ("User-Agent", "a browser"), ("Origin", "https://desk.example"))
NAMESPACE = "/_event"


class VirtualClient:
    def __init__(
        self, connection: Connection, *, token: str | None = None, session: str | None = None, cookie: str = ""
    ) -> None:
        self.connection = connection
        self.token = token or str(uuid.uuid4())
        self.session = session or str(uuid.uuid4())
        self.headers = HEADERS + ((("Cookie", cookie),) if cookie else ())
        self.target = f"{NAMESPACE}/?token={self.token}&EIO=4&transport=websocket"
        self.n = 0
        self.channel = 0
        # Everything of the worker's, in order; and the same by kind.
        self.messages: list[Message] = []
        self._seen = self._numbered_from = 0
        self.gives_credit = True
        self.answers_probes: bool | None = None
        self.kept: tuple[str, ...] = ()
        # They stay when the session moves.
        self.subscriptions: dict[str, sf.Subscribe] = {}

    # What came

    def of[T: Message](self, kind: type[T]) -> list[T]:
        return [message for message in self.messages if isinstance(message, kind)]

    @property
    def texts(self) -> list[str]:
        return [message.payload.decode() for message in self.of(sf.Server) if not message.binary]

    def events(self, name: str = "event") -> list[Any]:
        """The arguments of the Socket.IO events with this name."""
        head = f"42{NAMESPACE},"
        found = [json.loads(text.removeprefix(head)) for text in self.texts if text.startswith(head)]
        return [event[1] if len(event) > 1 else None for event in found if event[0] == name]

    def state(self, state: str = "desk___desk____desk_state") -> dict[str, Any]:
        """The values that the browser would have now."""
        values: dict[str, Any] = {}
        for update in self.events():
            for name, delta in (update.get("delta") or {}).items():
                if name.endswith(state):
                    values |= {key.removesuffix("_rx_state_"): value for key, value in delta.items()}
        return values

    @property
    def received(self) -> int:
        return max((m.n for m in self._attach_messages() if isinstance(m, sf.Received)), default=0)

    def outcome(self, n: int) -> str | None:
        return next((m.outcome for m in self._attach_messages() if isinstance(m, sf.Done) and m.n == n), None)

    def _attach_messages(self) -> list[Message]:
        """Those since numbers began with 1."""
        return self.messages[self._numbered_from :]

    def clear(self) -> None:
        """Forget what came."""
        self.messages.clear()
        self._seen = self._numbered_from = 0

    # What it does

    def on_frame(self, frame: Frame) -> None:
        message = sf.decode(frame)
        assert message is not None
        self.messages.append(message)
        match message:
            case sf.Server() if self.gives_credit:
                self.put(sf.Credit(len(message.payload)))
            case sf.Probe() if self.answers_probes is not None:
                self.put(sf.Probed(self.answers_probes, () if self.answers_probes else self.kept))
            case sf.Subscribe():
                self.subscriptions[message.id] = message
            case sf.Unsubscribe():
                self.subscriptions.pop(message.id, None)
            case sf.Detached() | sf.AttachRefused():
                self.connection.clients.pop(frame.channel, None)

    def put(self, message: Message) -> None:
        self.connection.send_bytes(sf.encode(self.channel, message))

    async def attach(self, connection: Connection | None = None, **changed: Any) -> sf.Attached | sf.AttachRefused:
        self.attach_soon(connection, **changed)
        return await self.attached()

    def attach_soon(
        self, connection: Connection | None = None, *, detach: sf.DetachReason | None = None, **changed: Any
    ) -> None:
        """`detach`: it leaves in the same chunk."""
        self.connection = connection or self.connection
        self.channel = self.connection.register(self)
        if not changed.get("resume"):
            self.n = 0
            self._numbered_from = len(self.messages)
        self._seen = len(self.messages)
        attach = {
            "session": self.session,
            "target": self.target,
            "headers": self.headers,
            "client": "203.0.113.9",
            **changed,
        }
        leaves = b"" if detach is None else sf.encode(self.channel, sf.Detach(detach))
        self.connection.send_bytes(sf.encode(self.channel, sf.Attach(**attach)) + leaves)

    async def attached(self) -> sf.Attached | sf.AttachRefused:
        def answer() -> Any:
            kinds = sf.Attached | sf.AttachRefused
            return next((m for m in self.messages[self._seen :] if isinstance(m, kinds)), None)

        found: sf.Attached | sf.AttachRefused = await until(answer, "the answer to an ATTACH", 20)
        return found

    def send(self, payload: str | bytes, *, done: bool = False) -> int:
        """Send an Engine.IO frame; its number."""
        self.n += 1
        binary = isinstance(payload, bytes)
        self.put(sf.Client(self.n, payload if isinstance(payload, bytes) else payload.encode(), binary, done))
        return self.n

    def connect(self, auth: Any = None) -> int:
        """The CONNECT packet of a session that was moved, or with a boot event."""
        return self.send(f"40{NAMESPACE}," + ("" if auth is None else json.dumps(auth)), done=True)

    def event(self, name: str, path: str = "/", **payload: Any) -> int:
        if "." not in name:
            name = f"reflex___state____state.desk___desk____desk_state.{name}"
        router_data = {"pathname": path.partition("?")[0], "asPath": path, "query": {}}
        return self.send(
            f"42{NAMESPACE}," + json.dumps(["event", {"name": name, "payload": payload, "router_data": router_data}]),
            done=True,
        )

    async def done(self, n: int, seconds: float = 15) -> str:
        found: str = await until(lambda: self.outcome(n), f"DONE of {n}", seconds)
        return found

    async def run(self, name: str, path: str = "/", **payload: Any) -> str:
        """Send an event and wait for its DONE."""
        return await self.done(self.event(name, path, **payload))

    async def open(self, connection: Connection | None = None, **changed: Any) -> VirtualClient:
        """Attach, connect and hydrate."""
        answer = await self.attach(connection, **changed)
        assert isinstance(answer, sf.Attached), answer
        await self.done(self.connect())
        await self.run("reflex___state____state.hydrate")
        return self

    async def detach(self, reason: sf.DetachReason = "closed") -> sf.Detached:
        before = len(self.of(sf.Detached))
        self.put(sf.Detach(reason))
        found: list[sf.Detached] = await until(lambda: self.of(sf.Detached)[before:], "DETACHED")
        return found[0]

    async def inject(self, name: str, *, background: bool = False, **payload: Any) -> str:
        self.n += 1
        if "." not in name:
            name = f"reflex___state____state.desk___desk____desk_state.{name}"
        self.put(sf.Inject(self.n, name, payload, background))
        return await self.done(self.n)

    async def resync(self) -> str:
        self.n += 1
        self.put(sf.Resync(self.n))
        return await self.done(self.n)


async def settle(seconds: float) -> None:
    """Let time pass in which something must not happen."""
    await asyncio.sleep(seconds)
