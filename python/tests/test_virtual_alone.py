"""Workers of other kinds: without Redis, with short pings, with less to give, and with sessions of their own alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from backend import until
from bridgehead import session_frames as sf
from bridgehead.frames import FrameType
from desk import desk
from reflex_client import HYDRATE, ReflexClient
from virtual_client import VirtualClient, settle


async def test_without_redis_tokens_are_this_workers_alone(tmp_path: Path) -> None:
    async with desk(tmp_path, with_redis=False) as running:
        link = await running.start()
        assert link.manifests[0]["tokens"] is None
        assert link.manifests[0]["persistent"] is False
        first = await VirtualClient(link).open()
        await first.run("add")
        # A dead client, a takeover, a live twin, a move to the same worker, a lost link.
        first.answers_probes = False
        second = await VirtualClient(link, token=first.token).open()
        assert second.events("new_token") == []
        third = await VirtualClient(link, token=first.token).open(takeover=True)
        assert third.events("new_token") == []
        assert second.of(sf.Detached) == [sf.Detached("takeover")]
        third.answers_probes = True
        twin = await VirtualClient(link, token=first.token).open()
        assert len(twin.events("new_token")) == 1
        await third.detach("move")
        await third.attach(takeover=True)
        await third.done(third.connect({}))
        await third.run("add")
        assert third.state()["count"] == 2
        assert await third.resync() == "ended"
        before = len(running.sidecar.connections)
        link.cut()
        next_link = await running.link(before)
        assert isinstance(await third.attach(next_link, resume=True), sf.Attached)
        await third.run("add")
        assert third.state()["count"] == 3
        assert third.events("new_token") == []


async def test_a_worker_that_takes_no_sessions_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path, BRIDGEHEAD_LINK_SESSIONS="false") as running:
        link = await running.start()
        assert link.manifests[0]["sessions"] is False
        client = VirtualClient(link)
        client.attach_soon()
        await settle(0.3)
        assert client.messages == []
        assert not link.closed
        async with ReflexClient(running.workers[0]) as direct:
            await direct.send(HYDRATE)
            await until(lambda: direct.updates, "an update")


async def test_engineios_own_pings_leave_virtual_sessions_alone(tmp_path: Path) -> None:
    async with desk(tmp_path, REFLEX_SOCKET_INTERVAL="1", REFLEX_SOCKET_TIMEOUT="1") as running:
        link = await running.start()
        client = await VirtualClient(link).open()
        # The first real connection starts engineio's service task, which looks at every socket.
        async with ReflexClient(running.workers[0]) as direct:
            await direct.send(HYDRATE)
            await until(lambda: direct.updates, "an update")
            await settle(4)
            assert await client.run("add") == "ended"
        assert client.of(sf.Detached) == []
        assert all(text.startswith("4") for text in client.texts)
        await client.detach()


async def test_a_sidecar_that_reads_slowly_holds_its_sessions_back_and_loses_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as running:
        link = await running.start()
        clients = await asyncio.gather(*(VirtualClient(link).open() for _ in range(30)))
        link.pause()
        for client in clients:
            for _ in range(2):
                client.event("much", label="x", size=100_000)
        # Far more than the kernel's buffers and the link's own bound.
        await settle(2)
        assert running.probes("much")
        link.resume()
        await asyncio.gather(*(client.done(client.n, 60) for client in clients))
        assert all(client.state()["text"] == "x" * 100_000 for client in clients)
        assert [client.outcome(client.n - 1) for client in clients] == ["ended"] * 30
        assert not link.closed


async def test_two_sidecars_at_once(tmp_path: Path) -> None:
    from reflex_client import SECRET
    from sidecar import Sidecar

    other = await Sidecar(SECRET).listen()
    async with desk(tmp_path) as running:
        urls = f"tcp://127.0.0.1:{running.sidecar.port},tcp://127.0.0.1:{other.port}"
        link = await running.start(BRIDGEHEAD_LINK_URL=urls)
        (other_link,) = await until(lambda: [c for c in other.connections if c.manifests], "the other link")
        client = await VirtualClient(link).open()
        await client.run("add")
        # Its client reconnects through the other sidecar: the worker asks over the first one's link.
        client.answers_probes, client.kept = False, ('42/_event,["event",{"delta":{}}]',)
        again = VirtualClient(other_link, token=client.token)
        await again.open()
        assert tuple(again.texts[1:2]) == client.kept
        assert again.events("new_token") == []
        assert client.of(sf.Detached) == [sf.Detached("takeover")]
        # The first sidecar's link is lost: the other one's sessions do not notice.
        link.cut()
        assert await again.run("add") == "ended"
        assert again.state()["count"] == 2
        link = await running.link(1)
        # A session that the first sidecar lost is nobody's to resume but its own.
        assert isinstance(await again.attach(link, resume=True), sf.AttachRefused)
        third = await VirtualClient(link).open()
        before = len(other.connections)
        other_link.cut()
        await until(lambda: len([c for c in other.connections[before:] if c.manifests]) == 1, "the other link again")
        assert await third.run("add") == "ended"
        assert other_link.received(FrameType.ERROR) == []
    await other.stop()
