"""Sessions that go from one worker to another: in order, after a crash, and from a worker that is only cut off."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from backend import until
from bridgehead import session_frames as sf
from bridgehead.frames import FrameType
from desk import Desk, desk
from reflex_client import ROOT
from sidecar import Connection
from virtual_client import VirtualClient, settle

pytestmark = pytest.mark.asyncio(loop_scope="module")
STATE = f"{ROOT}.desk___desk____desk_state"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    # A killed worker leaves its state's lock: a short one keeps the tests short.
    async with desk(
        tmp_path_factory.mktemp("moves"), heartbeat_ms=2_000, REFLEX_REDIS_LOCK_EXPIRATION="3000"
    ) as the_desk:
        yield the_desk


async def pair(running: Desk) -> tuple[Connection, Connection]:
    """Two workers that are well."""
    while len(running.live()) < 2:
        await running.start()
    return running.live()[0], running.live()[1]


def label() -> str:
    return uuid.uuid4().hex


async def arrive(client: VirtualClient, link: Connection, *, background: tuple[sf.RunningHandler, ...] = ()) -> None:
    """What a sidecar does to move a session to a worker."""
    former = client.connection.manifests[0]["tokens"]
    answer = await client.attach(link, takeover=True, former=former)
    assert isinstance(answer, sf.Attached), answer
    await client.done(client.connect({}), 30)
    for handler in background:
        await client.inject(handler.name, background=True, **(handler.payload or {}))


async def test_a_session_is_moved_in_order(running: Desk) -> None:
    first, second = await pair(running)
    client = await VirtualClient(first).open()
    await client.run("add", path="/item/7", label="one")
    text = label()
    await client.run("start", label=text)
    await running.probe("tick.begun", label=text)
    detached = await client.detach("move")
    await running.probe("tick.ended", label=text)
    await arrive(client, second, background=detached.background)
    client.clear()
    assert await client.run("add", label="two") == "ended"
    assert client.state()["count"] >= 2
    assert client.events("new_token") == []
    await until(lambda: len(running.probes("tick.begun", label=text)) == 2, "the handler on the other worker")
    begun = running.probes("tick.begun", label=text)
    assert [line["pid"] for line in begun] == [first.manifests[0]["pid"], second.manifests[0]["pid"]]
    # Back again, and once more: records and maps follow.
    for link in (first, second, first):
        await client.detach("move")
        await arrive(client, link)
        assert await client.run("add", label="on") == "ended"
    assert client.events("new_token") == []
    await client.detach("move")


async def test_a_handler_that_still_runs_on_the_old_worker_reaches_the_tab_over_the_new_one(running: Desk) -> None:
    first, second = await pair(running)
    client = await VirtualClient(first).open()
    text = label()
    client.event("slow", label=text, seconds=1.0)
    await running.probe("slow.begun", label=text)
    await client.detach("move")
    # The new worker's CONNECT waits for the state's lock, which the handler holds.
    await arrive(client, second)
    await running.probe("slow.ended", label=text)
    assert await client.resync() == "ended"
    assert client.state()["text"] == text
    await client.detach()


async def test_a_session_with_a_holder_elsewhere_is_sent_there(running: Desk) -> None:
    first, second = await pair(running)
    client = await VirtualClient(first).open()
    await client.run("add")
    other = VirtualClient(second, token=client.token)
    assert await other.attach() == sf.AttachRefused(
        "elsewhere", "another worker has this token", first.manifests[0]["tokens"]
    )
    # There its client is asked, and is dead.
    client.answers_probes = False
    await other.open(first)
    assert other.events("new_token") == []
    await other.run("add")
    assert other.state()["count"] == 2
    await other.detach()


async def test_a_session_whose_tab_came_back_elsewhere_ends_nobody(running: Desk) -> None:
    first, second = await pair(running)
    live = await VirtualClient(second).open()
    live.answers_probes = True
    await live.run("add")
    # What a sidecar does that held the tab before, at a worker that has died.
    stale = VirtualClient(first, token=live.token)
    assert await stale.attach(takeover=True, former="a worker that died") == sf.AttachRefused(
        "elsewhere", "another worker has this token", second.manifests[0]["tokens"]
    )
    assert await stale.attach(second, takeover=True, former="a worker that died") == sf.AttachRefused(
        "taken", "the tab lives in another session"
    )
    await live.run("add")
    assert live.state()["count"] == 2
    assert live.events("new_token") == []
    assert live.of(sf.Detached) == []
    await live.detach()


async def test_after_a_crash_nobody_gets_a_new_token(running: Desk) -> None:
    first, second = await pair(running)
    clients = [await VirtualClient(first).open() for _ in range(10)]
    for client in clients:
        await client.run("add", label="before")
    text = label()
    clients[0].event("slow", label=text, seconds=30)
    await clients[1].run("start", label=text)
    running_there = clients[1].of(sf.BackgroundStarted)[-1].handler
    await running.probe("slow.begun", label=text)
    await running.probe("tick.begun", label=text)
    running.signal(first, signal.SIGKILL)
    await until(lambda: first.closed, "the end of the link")
    # The record of the dead worker stands still, and only a takeover helps.
    refused = await VirtualClient(second, token=clients[2].token).attach()
    assert isinstance(refused, sf.AttachRefused)
    assert (refused.error, refused.instance) == ("elsewhere", first.manifests[0]["tokens"])
    # All at once: one of them waits for the lock that the killed handler holds, and holds up no other.
    begun = time.monotonic()
    waiting = asyncio.gather(arrive(clients[0], second), arrive(clients[1], second, background=(running_there,)))
    await asyncio.gather(*(arrive(client, second) for client in clients[2:]))
    assert time.monotonic() - begun < 3
    await waiting
    for client in clients:
        client.clear()
        assert await client.resync() == "ended"
        assert client.state()["count"] >= 1
        assert await client.run("add", label="after") == "ended"
        assert client.events("new_token") == []
    await until(lambda: len(running.probes("tick.begun", label=text)) == 2, "the handler on the other worker")
    for client in clients:
        await client.detach("move")


async def test_a_worker_that_hangs_and_comes_back_harms_nobody(running: Desk) -> None:
    first, second = await pair(running)
    client = await VirtualClient(first).open()
    text = label()
    await client.run("start", label=text)
    await running.probe("tick.begun", label=text)
    running.signal(first, signal.SIGSTOP)
    # Given while it hangs; the sidecar then gives the worker up.
    lost = label()
    client.event("add", label=lost)
    await settle(4)
    first.cut()
    await arrive(client, second)
    await client.run("add", label="there")
    running.signal(first, signal.SIGCONT)
    # After 5 s without its link it ends what it had.
    await running.probe("tick.ended", label=text)
    await settle(0.5)
    assert running.probes("add", label=lost) == []
    client.clear()
    assert await client.run("add", label="still there") == "ended"
    assert client.state()["text"] == "still there"
    assert client.events("new_token") == []
    assert client.of(sf.Detached) == []
    # Its record is the new worker's still.
    again = await until(lambda: [c for c in running.live() if c is not second], "the link of the one that hung")
    refused = await VirtualClient(again[0], token=client.token).attach()
    assert isinstance(refused, sf.AttachRefused)
    assert refused.instance == second.manifests[0]["tokens"]
    await client.detach()


async def test_a_stalled_loop_gives_the_app_nothing_before_the_sidecar_answers(running: Desk) -> None:
    first, _ = await pair(running)
    client = await VirtualClient(first).open()
    first.mute = True
    running.signal(first, signal.SIGSTOP)
    await settle(4)
    lost = label()
    client.event("add", label=lost)
    running.signal(first, signal.SIGCONT)
    pings = len(first.received(FrameType.PING))
    await until(lambda: len(first.received(FrameType.PING)) > pings, "PING")
    await settle(0.3)
    assert running.probes("add", label=lost) == []
    assert client.received == client.n - 1
    first.mute = False
    first.send(FrameType.PONG, first.received(FrameType.PING)[-1])
    assert await client.done(client.n) == "ended"
    await client.detach()


async def test_a_worker_that_stops_has_its_sessions_moved_first(running: Desk) -> None:
    first, second = await pair(running)
    moved, busy = await VirtualClient(first).open(), await VirtualClient(first).open()
    text = label()
    slow = busy.event("slow", label=text, seconds=1.5)
    await running.probe("slow.begun", label=text)
    running.signal(first, signal.SIGTERM)
    await until(lambda: first.received(FrameType.DRAIN), "DRAIN")
    assert first.received(FrameType.DRAIN) == [{"seconds": 10.0}]
    refused = await VirtualClient(first).attach()
    assert isinstance(refused, sf.AttachRefused)
    assert refused.error == "draining"
    # It serves on meanwhile.
    assert await moved.run("add", label="meanwhile") == "ended"
    assert await busy.done(slow) == "ended"
    for client in (moved, busy):
        await client.detach("move")
        await arrive(client, second)
        await client.run("add", label="there")
        assert client.events("new_token") == []
    await until(lambda: first.closed, "the end of the worker")
    assert first.received(FrameType.GOAWAY) == [{"reason": "shutdown"}]
    assert moved.state()["count"] == 2
    for client in (moved, busy):
        await client.detach()


async def test_a_link_that_comes_back_to_a_worker_that_stops_is_told_so(running: Desk) -> None:
    first, second = await pair(running)
    client = await VirtualClient(first).open()
    await client.run("add", label="before")
    running.signal(first, signal.SIGTERM)
    await until(lambda: first.received(FrameType.DRAIN), "DRAIN")
    before = len(running.sidecar.connections)
    await settle(0.1)
    first.cut()
    # It waits for its sidecar, which may take the session up.
    link = await running.link(before)
    assert link.manifests[0]["pid"] == first.manifests[0]["pid"]
    (told,) = await until(lambda: link.received(FrameType.DRAIN), "DRAIN")
    assert 0 < told["seconds"] < 9.9
    kinds = [frame.type for frame in link.frames]
    assert kinds.index(FrameType.MANIFEST) < kinds.index(FrameType.DRAIN)
    assert isinstance(await client.attach(link, resume=True), sf.Attached)
    await client.run("add", label="meanwhile")
    await client.detach("move")
    await arrive(client, second)
    await client.run("add", label="there")
    assert client.state()["count"] == 3
    await until(lambda: link.closed, "the end of the worker")
    assert link.received(FrameType.GOAWAY) == [{"reason": "shutdown"}]
    await client.detach()


async def test_a_worker_without_sessions_stops_at_once(running: Desk) -> None:
    first, _ = await pair(running)
    begun = time.monotonic()
    running.signal(first, signal.SIGTERM)
    await until(lambda: first.closed, "the end of the link")
    assert time.monotonic() - begun < 5
    # A sidecar that has none there would go on choosing it.
    assert first.received(FrameType.DRAIN) == [{"seconds": 10.0}]
