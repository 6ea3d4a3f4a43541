"""The worker's link against a real server that plays the sidecar."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import until
from bridgehead import counters
from bridgehead.frames import FrameType, encode, encode_control
from bridgehead.keys import Keyring, base64url
from bridgehead.link import MAX_QUERIES, Link, Worker
from bridgehead.link_address import LinkUrl, LinkUrlError, TcpUrl, UnixUrl, parse_link_url, resolve
from bridgehead.link_pool import LinkPool
from bridgehead.proof import link_mac
from fake_clock import FakeClock
from sidecar import RULES, Connection, Sidecar

SECRET = "the-secret-of-the-tests-and-of-nothing-else-1"
NEXT_SECRET = "the-secret-of-the-tests-and-of-nothing-else-2"


@pytest.fixture(autouse=True)
def fresh_counters() -> Iterator[None]:
    counters.reset()
    yield
    counters.reset()


class WorkerSide:
    """A pool with everything that it needs, and what came of it."""

    def __init__(self, *urls: LinkUrl, secret: str = SECRET, previous: tuple[str, ...] = (), **options: Any) -> None:
        self.clock = FakeClock()
        self.rules: list[Any] = []
        self.name: str | None = options.pop("name", None)
        self.stamp = 1
        self.states: dict[str, Any] = {}
        worker = Worker(
            keyring=Keyring("link", secret, previous),
            name=lambda: self.name,
            learn_name=self._learn,
            manifest=lambda: {"instance": "w", "states": self.states},
            stamp=lambda: self.stamp,
            use_rules=self.rules.append,
            linked=set(),
            answer=options.pop("answer", None),
        )
        self.missed = 0
        options.setdefault("on_missed", self._on_missed)
        self.pool = LinkPool(urls, worker, clock=self.clock, uniform=lambda low, high: high, **options)
        self._task = asyncio.create_task(self.pool.run())

    def _on_missed(self, link: Link) -> None:
        self.missed += 1
        link.send(FrameType.INVALIDATE, {"id": "catch-up", "all": True})

    def _learn(self, name: str) -> None:
        self.name = name

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def redial(self) -> None:
        """Let the delay before the next attempt pass, once it is waited for."""
        await until(lambda: self.clock.sleepers >= 2, "the delay")
        await self.clock.advance(5)


@contextlib.asynccontextmanager
async def linked(sidecar: Sidecar, **options: Any) -> AsyncIterator[WorkerSide]:
    await sidecar.listen()
    side = WorkerSide(TcpUrl("127.0.0.1", sidecar.port), **options)
    try:
        yield side
    finally:
        await side.stop()
        await sidecar.stop()


async def opened(sidecar: Sidecar, count: int = 1) -> Connection:
    await until(lambda: len(sidecar.manifests) >= count, "a manifest")
    return sidecar.connections[-1]


async def test_both_sides_prove_the_secret_and_the_rules_arrive() -> None:
    sidecar = Sidecar(SECRET, "shop")
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        await until(lambda: side.rules, "rules")
        assert side.rules == [RULES]
        assert connection.manifests == [{"instance": "w", "states": {}}]
        assert side.name == "shop"
        assert len(side.pool.open_links) == 1
        assert counters.get("link.connected") == 1
        await side.stop()
        await until(lambda: connection.closed, "the end")
    assert connection.received(FrameType.GOAWAY) == [{"reason": "shutdown"}]


async def test_a_unix_socket(tmp_path: Path) -> None:
    sidecar = await Sidecar(SECRET).listen(path=str(tmp_path / "link.sock"))
    side = WorkerSide(UnixUrl(str(tmp_path / "link.sock")))
    await opened(sidecar)
    await side.stop()
    await sidecar.stop()


async def test_rules_that_come_later_arrive_too() -> None:
    sidecar = Sidecar(SECRET)
    async with linked(sidecar) as side:
        await opened(sidecar)
        sidecar.broadcast_rules({"version": 2})
        await until(lambda: len(side.rules) == 2, "the second rules")
        assert side.rules[1] == RULES | {"version": 2}


async def test_a_manifest_that_changed_is_sent_again() -> None:
    sidecar = Sidecar(SECRET)
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        side.stamp, side.states = 2, {"a.b": {}}
        await side.clock.advance(5)
        await until(lambda: len(connection.manifests) == 2, "the second manifest")
        assert connection.manifests[1]["states"] == {"a.b": {}}


async def test_a_sidecar_with_another_secret_learns_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def liar(connection: Connection) -> None:
        connection.hello()
        auth = (await connection.receive()).json()
        connection.welcome(auth["nonce"])
        while True:
            await connection.receive()

    sidecar = Sidecar(NEXT_SECRET, behaviour=liar)
    async with linked(sidecar) as side:
        await until(lambda: counters.get("link.failed"), "the refusal")
        [connection] = sidecar.connections
        await until(lambda: connection.closed, "the end")
        assert [frame.type for frame in connection.frames] == [FrameType.AUTH, FrameType.ERROR]
        assert connection.received(FrameType.ERROR)[0]["code"] == "AUTH"
        assert not side.rules
        assert side.name is None
    assert SECRET not in caplog.text
    assert "AUTH" in caplog.text


async def test_a_worker_with_another_secret_is_told_and_dials_again() -> None:
    sidecar = Sidecar(NEXT_SECRET)
    async with linked(sidecar) as side:
        await until(lambda: counters.get("link.failed") == 1, "the refusal")
        await side.redial()
        await until(lambda: counters.get("link.failed") == 2, "the second refusal")
        assert not sidecar.manifests


async def test_a_workers_own_proof_cannot_be_sent_back() -> None:
    async def mirror(connection: Connection) -> None:
        connection.hello()
        auth = (await connection.receive()).json()
        connection.send(FrameType.WELCOME, {"mac": auth["mac"], "heartbeat": 5000})
        while True:
            await connection.receive()

    sidecar = Sidecar(SECRET, behaviour=mirror)
    async with linked(sidecar):
        await until(lambda: counters.get("link.failed"), "the refusal")
        assert [frame.type for frame in sidecar.connections[0].frames] == [FrameType.AUTH, FrameType.ERROR]


async def test_a_proof_of_another_handshake_is_worth_nothing() -> None:
    old: list[str] = []

    async def replaying(connection: Connection) -> None:
        connection.nonce = base64url(bytes(32))
        connection.hello()
        auth = (await connection.receive()).json()
        about = {"name": sidecar.name, "sidecar_nonce": connection.nonce, "worker_nonce": auth["nonce"]}
        old.append(link_mac(sidecar.keyring.current, "sidecar", **about))
        connection.send(FrameType.WELCOME, {"mac": old[0], "heartbeat": 5000})
        while True:
            frame = await connection.receive()
            if frame.type == FrameType.MANIFEST:
                return

    sidecar = Sidecar(SECRET, behaviour=replaying)
    async with linked(sidecar) as side:
        await until(lambda: counters.get("link.lost") == 1, "the first link's end")
        await side.redial()
        await until(lambda: counters.get("link.failed") == 1, "the refusal")
        assert [frame.type for frame in sidecar.connections[1].frames] == [FrameType.AUTH, FrameType.ERROR]


async def test_while_a_secret_is_changed_both_are_accepted() -> None:
    sidecar = Sidecar(SECRET)
    sidecar.keyring = Keyring("link", NEXT_SECRET, (SECRET,))
    async with linked(sidecar, previous=(NEXT_SECRET,)):
        await opened(sidecar)


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        ({"v": [2]}, "VERSION"),
        ({"v": "1"}, "VERSION"),
        ({"name": "another"}, "NAME"),
        ({"name": 7}, "FRAME"),
        ({"name": "a\nb"}, "FRAME"),
        ({"name": ""}, "FRAME"),
        ({"nonce": "short"}, "FRAME"),
        ({"nonce": None}, "FRAME"),
        ({"instance": None}, "FRAME"),
    ],
)
async def test_a_wrong_hello_gets_its_code_and_no_proof(hello: dict[str, Any], code: str) -> None:
    async def wrong(connection: Connection) -> None:
        connection.hello(**hello)
        while True:
            await connection.receive()

    sidecar = Sidecar(SECRET, "shop", behaviour=wrong)
    async with linked(sidecar, name="shop"):
        await until(lambda: sidecar.connections and sidecar.connections[0].closed, "the end")
        assert [frame.type for frame in sidecar.connections[0].frames] == [FrameType.ERROR]
        assert sidecar.connections[0].received(FrameType.ERROR)[0]["code"] == code


@pytest.mark.parametrize("welcome", [{"heartbeat": 0}, {"heartbeat": "5"}, {"heartbeat": True}, {"heartbeat": 10**9}])
async def test_a_wrong_welcome_ends_the_link(welcome: dict[str, Any]) -> None:
    async def wrong(connection: Connection) -> None:
        connection.hello()
        connection.welcome((await connection.receive()).json()["nonce"], **welcome)
        while True:
            await connection.receive()

    sidecar = Sidecar(SECRET, behaviour=wrong)
    async with linked(sidecar):
        await until(lambda: sidecar.connections and sidecar.connections[0].closed, "the end")
        assert sidecar.connections[0].received(FrameType.ERROR)[0]["code"] == "FRAME"
        assert not sidecar.connections[0].received(FrameType.MANIFEST)


@pytest.mark.parametrize(
    "data",
    [
        (4_097).to_bytes(4) + b"\x01\0\0\0\0",
        b"\xff\xff\xff\xff",
        bytes(4),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        encode(1, 0, b"{"),
        encode(1, 0, b"[" * 4_000),
        encode(1, 7, b"{}"),
        encode_control(FrameType.RULES, RULES),
        encode_control(FrameType.WELCOME, {"mac": "x", "heartbeat": 5000}),
        encode(40, 3, b"x"),
    ],
    ids=["oversized", "huge", "empty", "http", "half", "deep", "channel", "rules", "welcome", "virtual"],
)
async def test_frames_that_may_not_come_before_the_proof_end_the_link(data: bytes) -> None:
    async def wrong(connection: Connection) -> None:
        connection.send_bytes(data)
        while True:
            await connection.receive()

    sidecar = Sidecar(SECRET, behaviour=wrong)
    async with linked(sidecar):
        await until(lambda: sidecar.connections and sidecar.connections[0].closed, "the end")
        assert sidecar.connections[0].received(FrameType.ERROR)[0]["code"] == "FRAME"


async def test_after_the_proof_frames_may_be_large_and_not_endless() -> None:
    sidecar = Sidecar(SECRET)
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        sidecar.broadcast_rules({"version": 2, "padding": "x" * 2_000_000})
        await until(lambda: len(side.rules) == 2, "large rules")
        connection.send_bytes((16 * 1024 * 1024 + 1).to_bytes(4) + b"\x05\0\0\0\0")
        await until(lambda: connection.closed, "the end")
        assert connection.received(FrameType.ERROR)[0]["code"] == "FRAME"


async def test_types_of_a_later_version_are_passed_over() -> None:
    sidecar = Sidecar(SECRET)
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        connection.send_bytes(encode(10, 0, b"{}") + encode(31, 0, b"") + encode(32, 9, b"x") + encode(255, 1, b""))
        connection.send(FrameType.PING, {"t": 5})
        await until(lambda: connection.received(FrameType.PONG), "the answer")
        assert connection.received(FrameType.PONG) == [{"t": 5}]
        assert side.pool.open_links


async def test_a_handshake_that_stands_still_ends_after_five_seconds() -> None:
    async def still(connection: Connection) -> None:
        while True:
            await connection.receive()

    sidecar = Sidecar(SECRET, behaviour=still)
    async with linked(sidecar) as side:
        await until(lambda: sidecar.connections and side.clock.slept.count(5.0) >= 2, "the handshake")
        await side.clock.advance(4.9)
        assert not sidecar.connections[0].closed
        await side.clock.advance(0.2)
        await until(lambda: sidecar.connections[0].closed, "the end")


async def test_a_silent_sidecar_is_pinged_and_then_left() -> None:
    sidecar = Sidecar(SECRET, heartbeat_ms=1_000)
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        for count in (1, 2):
            await side.clock.advance(1)
            await until(lambda count=count: len(connection.received(FrameType.PING)) >= count, "a ping")
        assert side.pool.open_links
        sidecar.mute = True
        for _ in range(5):
            await side.clock.advance(1)
        await until(lambda: connection.closed, "the end")
        assert counters.get("link.lost") == 1
        sidecar.mute = False
        await side.redial()
        await opened(sidecar, 2)


async def test_a_sidecar_that_answers_is_never_left() -> None:
    sidecar = Sidecar(SECRET, heartbeat_ms=1_000)
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        for count in range(1, 11):
            await side.clock.advance(1)
            await until(lambda count=count: len(connection.received(FrameType.PING)) >= count, "a ping")
            connection.send(FrameType.PING, {"t": count})
            await until(lambda count=count: len(connection.received(FrameType.PONG)) >= count, "the answer")
        assert counters.get("link.lost") == 0


async def test_a_worker_that_stood_still_itself_blames_nobody() -> None:
    sidecar = Sidecar(SECRET, heartbeat_ms=1_000)
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        await side.clock.jump(60)
        await until(lambda: connection.received(FrameType.PING), "a ping")
        assert side.pool.open_links
        assert counters.get("link.lost") == 0


async def test_delays_double_to_five_seconds_with_full_jitter() -> None:
    highs: list[float] = []
    sidecar = await Sidecar(SECRET).listen()
    url = TcpUrl("127.0.0.1", sidecar.port)
    await sidecar.stop()
    side = WorkerSide(url)

    def uniform(low: float, high: float) -> float:
        assert low == 0
        highs.append(high)
        return high / 2

    side.pool._uniform = uniform
    for count in range(1, 10):
        await until(lambda count=count: len(highs) >= count, "a delay")
        await side.redial()
    assert highs[:9] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert counters.get("link.failed") >= 9
    await side.stop()


async def test_a_sidecar_that_comes_back_is_found_again() -> None:
    sidecar = await Sidecar(SECRET).listen()
    side = WorkerSide(TcpUrl("127.0.0.1", sidecar.port))
    await opened(sidecar)
    await sidecar.stop()
    await until(lambda: not side.pool.open_links, "the loss")
    again = await Sidecar(SECRET).listen(port=sidecar.port)
    await side.redial()
    await opened(again)
    assert counters.get("link.connected") == 2
    await side.stop()
    await again.stop()


async def test_a_link_cut_in_the_middle_of_a_frame_is_dialed_again() -> None:
    sidecar = Sidecar(SECRET)
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        connection.send_bytes(encode_control(FrameType.RULES, RULES)[:20])
        connection.cut()
        await until(lambda: counters.get("link.lost") == 1, "the loss")
        await side.redial()
        await opened(sidecar, 2)


async def test_every_address_of_a_name_gets_a_link_and_new_ones_are_found() -> None:
    first, second = await Sidecar(SECRET).listen(), await Sidecar(SECRET).listen()
    addresses = [TcpUrl("127.0.0.1", first.port)]

    async def lookup(url: LinkUrl) -> list[LinkUrl]:
        return list(addresses)

    side = WorkerSide(TcpUrl("sidecars.example", 1), resolve=lookup)
    await opened(first)
    addresses.append(TcpUrl("127.0.0.1", second.port))
    await side.clock.advance(10)
    await opened(second)
    assert len(side.pool.open_links) == 2
    addresses.pop(0)
    await first.stop()
    await until(lambda: len(side.pool.open_links) == 1, "the loss")
    await side.redial()
    await until(lambda: len(side.pool._dialing) == 1, "the end of dialing an address that is gone")
    await side.stop()
    await second.stop()


async def test_a_name_server_that_fails_costs_no_link() -> None:
    sidecar = await Sidecar(SECRET).listen()
    fails = False

    async def lookup(url: LinkUrl) -> list[LinkUrl]:
        if fails:
            raise OSError("no name server")
        return [TcpUrl("127.0.0.1", sidecar.port)]

    side = WorkerSide(TcpUrl("sidecars.example", 1), resolve=lookup)
    await opened(sidecar)
    fails = True
    await side.clock.advance(10)
    sidecar.connections[0].cut()
    await until(lambda: not side.pool.open_links, "the loss")
    await side.redial()
    await opened(sidecar, 2)
    await side.stop()
    await sidecar.stop()


async def test_one_sidecar_with_two_addresses_gets_one_link() -> None:
    sidecar = await Sidecar(SECRET).listen()
    twin = Sidecar(SECRET)
    twin.instance = sidecar.instance
    await twin.listen()
    side = WorkerSide(TcpUrl("127.0.0.1", sidecar.port), TcpUrl("127.0.0.1", twin.port))
    await until(lambda: sidecar.connections and twin.connections, "both")
    await until(lambda: [c for s in (sidecar, twin) for c in s.connections if c.closed], "the end of one")
    assert len(side.pool.open_links) == 1
    [left] = [c for s in (sidecar, twin) for c in s.connections if c.closed]
    assert left.received(FrameType.GOAWAY) == [{"reason": "duplicate"}]
    assert not left.manifests
    await side.stop()
    await sidecar.stop()
    await twin.stop()


async def test_a_missing_sidecar_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "bridgehead")
    sidecar = await Sidecar(SECRET).listen()
    await sidecar.stop()
    side = WorkerSide(TcpUrl("127.0.0.1", sidecar.port))
    for count in (1, 2, 3):
        await until(lambda count=count: counters.get("link.failed") >= count, "a failure")
        await side.redial()
    await side.stop()
    assert caplog.text.count("no sidecar at") == 1


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("tcp://127.0.0.1:8082", TcpUrl("127.0.0.1", 8082)),
        ("tcp://sidecar", TcpUrl("sidecar", 8082)),
        ("sidecar:9000", TcpUrl("sidecar", 9000)),
        ("tcp://[::1]:9000", TcpUrl("::1", 9000)),
        ("unix:/run/bridgehead.sock", UnixUrl("/run/bridgehead.sock")),
        ("unix:///run/bridgehead.sock", UnixUrl("/run/bridgehead.sock")),
    ],
)
def test_link_urls(text: str, url: LinkUrl) -> None:
    assert parse_link_url(text) == url


@pytest.mark.parametrize("text", ["", "unix:", "http://x", "tcp://", "tcp://x:y", "tcp://x:99999", "tcp://a@b", "a/b"])
def test_wrong_link_urls_say_so(text: str) -> None:
    with pytest.raises(LinkUrlError):
        parse_link_url(text)


async def test_addresses_of_a_name() -> None:
    assert await resolve(TcpUrl("127.0.0.1", 5)) == [TcpUrl("127.0.0.1", 5)]
    assert TcpUrl("127.0.0.1", 5) in await resolve(TcpUrl("localhost", 5))
    assert await resolve(UnixUrl("/x")) == [UnixUrl("/x")]


async def test_queries_are_answered_side_by_side_and_no_more_than_so_many() -> None:
    sidecar = Sidecar(SECRET)
    asked: list[Any] = []
    go = asyncio.Event()

    async def answer(query: Any) -> Any:
        asked.append(query["cookie"])
        await go.wait()
        return {"id": query["id"], "result": {"kind": "anonymous"}, "at": 1}

    async with linked(sidecar, answer=answer):
        connection = await opened(sidecar)
        for number in range(MAX_QUERIES + 1):
            connection.send(FrameType.AUTH_QUERY, {"id": number, "cookie": str(number)})
        busy = await until(lambda: connection.received(FrameType.AUTH_REPLY), "an answer")
        assert [(body["id"], body["result"]) for body in busy] == [
            (MAX_QUERIES, {"kind": "unavailable", "cause": "busy"})
        ]
        assert len(asked) == MAX_QUERIES
        go.set()
        await until(lambda: len(connection.received(FrameType.AUTH_REPLY)) == MAX_QUERIES + 1, "all answers")
        ids = [body["id"] for body in connection.received(FrameType.AUTH_REPLY)[1:]]
        assert sorted(ids) == list(range(MAX_QUERIES))


async def test_what_is_told_reaches_every_sidecar() -> None:
    sidecars = [await Sidecar(SECRET).listen() for _ in range(2)]
    side = WorkerSide(*(TcpUrl("127.0.0.1", sidecar.port) for sidecar in sidecars))
    try:
        for sidecar in sidecars:
            await opened(sidecar)
        body = {"id": "1", "user": "auth.user:42"}
        side.pool.broadcast(FrameType.INVALIDATE, body, must_hear=True)
        for sidecar in sidecars:
            assert await until(lambda sidecar=sidecar: sidecar.received(FrameType.INVALIDATE), "it") == [body]
        assert side.missed == 0
    finally:
        await side.stop()
        for sidecar in sidecars:
            await sidecar.stop()


@pytest.mark.parametrize("when", ["before the link broke", "while there was none"])
async def test_a_sidecar_that_may_have_missed_something_is_told_to_forget_everything(when: str) -> None:
    sidecar = Sidecar(SECRET)
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        if when.startswith("before"):
            side.pool.broadcast(FrameType.INVALIDATE, {"id": "1", "all": True}, must_hear=True)
        connection.cut()
        await until(lambda: not side.pool.open_links, "the end of the link")
        if when.startswith("while"):
            side.pool.broadcast(FrameType.INVALIDATE, {"id": "1", "all": True}, must_hear=True)
        await side.redial()
        again = await opened(sidecar, 2)
        assert await until(lambda: again.received(FrameType.INVALIDATE), "it") == [{"id": "catch-up", "all": True}]
        again.cut()


async def test_a_sidecar_that_missed_nothing_keeps_what_it_knows() -> None:
    sidecar = Sidecar(SECRET)
    async with linked(sidecar) as side:
        (await opened(sidecar)).cut()
        await until(lambda: not side.pool.open_links, "the end of the link")
        side.pool.tell_session({"t": "x", "session": None, "cookie": None})
        await side.redial()
        await opened(sidecar, 2)
        assert side.missed == 0


async def test_a_sidecar_that_stops_reading_loses_its_link() -> None:
    sidecar = Sidecar(SECRET)
    async with linked(sidecar) as side:
        connection = await opened(sidecar)
        connection.pause()
        body = {"id": "1", "user": "x" * 1_000_000}
        for _ in range(60):
            side.pool.broadcast(FrameType.INVALIDATE, body, must_hear=True)
        await until(lambda: not side.pool.open_links, "the end of the link")
