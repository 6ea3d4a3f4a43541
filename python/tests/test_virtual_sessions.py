"""Virtual sessions of a real worker: its app notices nothing of the link."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from backend import until
from bridgehead import session_frames as sf
from bridgehead.annotation import token_hash
from bridgehead.background import stop_background
from bridgehead.frames import Frame, FrameDecoder, FrameType
from bridgehead.virtual_sessions import VirtualSessions
from bridgehead.virtual_socket import WINDOW, VirtualSocket
from desk import Desk, desk
from reflex_client import HYDRATE, ROOT, ReflexClient
from sidecar import Connection
from virtual_client import VirtualClient, settle

pytestmark = pytest.mark.asyncio(loop_scope="module")
STATE = f"{ROOT}.desk___desk____desk_state"
IS_010 = metadata.version("reflex").startswith("0.10")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with desk(tmp_path_factory.mktemp("desk")) as the_desk:
        await the_desk.start(BRIDGEHEAD_CAPACITY="40")
        yield the_desk


@pytest_asyncio.fixture(loop_scope="module")
async def link(running: Desk) -> Connection:
    return await running.link()


def label() -> str:
    return uuid.uuid4().hex


async def test_the_manifest_says_that_sessions_may_come(link: Connection) -> None:
    manifest = link.manifests[0]
    assert manifest["sessions"] is True
    assert manifest["maxPayload"] == 1_000_000
    assert manifest["persistent"] is True
    assert manifest["capacity"] == 40
    assert uuid.UUID(manifest["tokens"])
    assert (manifest["schema"] is not None) == IS_010


async def test_an_event_runs_and_its_delta_comes_before_its_done(link: Connection) -> None:
    client = await VirtualClient(link).open()
    n = client.event("add", label="one")
    assert await client.done(n) == "ended"
    assert client.state() | {"is_hydrated": None} == {
        "count": 1,
        "text": "one",
        "doubled": 2,
        "described": "1 one",
        "theme": "light",
        "visits": "none",
        "is_hydrated": None,
    }
    kinds = [type(message) for message in client.messages]
    assert kinds.index(sf.Received) < kinds.index(sf.Server)
    assert isinstance(client.messages[-1], sf.Done)
    assert client.received == n
    await client.detach()


async def test_the_app_sees_headers_address_and_page_as_over_a_connection_of_its_own(
    running: Desk, link: Connection
) -> None:
    text = label()
    client = await VirtualClient(link, cookie="sessionid=abc").open()
    await client.run("add", path="/item/42?colour=red", label=text)
    seen = await running.probe("add", label=text)
    direct_text = label()
    headers = {"Origin": "https://desk.example", "User-Agent": "a browser", "Host": "desk.example"}
    async with ReflexClient(running.workers[0], headers={**headers, "Cookie": "sessionid=abc"}) as direct:
        await direct.send(HYDRATE)
        await direct.send_raw(direct.event(f"{STATE}.add", {"label": direct_text}, path="/item/42"))
        over_websocket = await running.probe("add", label=direct_text)
    assert seen["path"] == over_websocket["path"]
    assert seen["token"] == client.token
    assert seen["ip"] == "203.0.113.9"
    shared = ("host", "user-agent", "origin", "cookie")
    assert {key: seen["headers"][key] for key in shared} == {key: over_websocket["headers"][key] for key in shared}
    assert seen["headers"]["asgi-scope-client"] == "203.0.113.9"
    await client.detach()


async def test_connect_has_a_done_with_the_event_in_it(link: Connection) -> None:
    client = VirtualClient(link)
    assert isinstance(await client.attach(), sf.Attached)
    page = {"pathname": "/", "asPath": "/", "query": {}}
    boot = {"name": f"{ROOT}.hydrate_and_load", "payload": {}, "router_data": page}
    # reflex 0.9 takes no event in CONNECT.
    n = client.connect({"event": boot} if IS_010 else None)
    assert await client.done(n) == "ended"
    assert client.texts[0].startswith("40/_event,")
    assert client.state().get("count") == (0 if IS_010 else None)
    await client.detach()


async def test_a_frontend_of_another_build_is_told(link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    # reflex 0.9 compares no schemas.
    await client.done(client.connect({"state_schema": "another"} if IS_010 else None))
    assert len(client.events("state_mismatch")) == (1 if IS_010 else 0)
    await client.detach()


async def test_a_frontend_made_for_this_app_is_not_told(link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    await client.done(client.connect({"state_schema": link.manifests[0]["schema"]} if IS_010 else None))
    assert client.events("state_mismatch") == []
    await client.detach()


async def test_pings_and_client_errors_reach_reflex(running: Desk, link: Connection) -> None:
    client = await VirtualClient(link).open()
    assert await client.done(client.send('42/_event,["ping"]', done=True)) == "ended"
    assert client.events("ping") == ["pong"]
    text = label()
    error = json.dumps(["client_error", {"error_type": "x", "message": text}])
    assert await client.done(client.send(f"42/_event,{error}", done=True)) == "ended"
    if IS_010:
        await until(lambda: text in running.workers[0].log, "the error in the log")
    await client.detach()


async def test_done_waits_for_all_that_an_event_chains_and_not_for_background_handlers(
    running: Desk, link: Connection
) -> None:
    client = await VirtualClient(link).open()
    text = label()
    n = client.event("chain", label=text, seconds=0.05)
    await client.done(n)
    assert len(running.probes("slow.ended", label=f"{text}-2")) == 1
    assert client.state()["count"] == 2
    assert await client.run("start", label=text) == "ended"
    await running.probe("tick.begun", label=text)
    assert client.of(sf.BackgroundStarted)
    await client.detach("move")


async def test_how_an_event_ended(link: Connection) -> None:
    client = await VirtualClient(link).open()
    assert await client.run("fail", label=label()) == "raised"
    assert await client.run("nobody_has_this_handler") == "raised"
    assert await client.done(client.send('42/_event,["event","not an object"]', done=True)) == "ended"
    assert await client.run("add") == "ended"
    await client.detach()


async def test_numbers_that_came_before_are_taken_once(running: Desk, link: Connection) -> None:
    client = await VirtualClient(link).open()
    text = label()
    n = client.event("add", label=text)
    client.n -= 1
    client.event("add", label=text)
    await client.done(n)
    await client.run("add")
    assert len(running.probes("add", label=text)) == 1
    await client.detach()


async def test_acknowledgements_attachments_and_other_namespaces(running: Desk, link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    await client.done(client.send('40/echo,{"who":"me"}', done=True))
    assert client.texts[0].startswith("40/echo,")
    # An event with an acknowledgement, two attachments there and back.
    client.send('452-/echo,7["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1},"text"]')
    client.send(b"\x00\xff")
    await client.done(client.send(b"", done=True))
    await until(lambda: len([m for m in client.of(sf.Server) if m.binary]) == 2, "the attachments")
    answer = next(text for text in client.texts if text.startswith("462-/echo,7"))
    assert json.loads(answer.removeprefix("462-/echo,7"))[0] == {"who": "me"}
    assert [m.payload for m in client.of(sf.Server) if m.binary] == [b"\x00\xff", b""]
    # An event from the server whose answer calls back.
    text = label()
    await client.done(client.send(f'42/echo,["ask","{text}"]', done=True))
    asked = next(t for t in client.texts if '"question"' in t)
    number = asked.removeprefix("42/echo,").partition("[")[0]
    client.send(f'43/echo,{number}["{text}"]')
    await running.probe("echo.answer", answer=[text])
    # Its own connect saw the client.
    assert (await running.probe("echo.connect", remote="203.0.113.9"))["query"].startswith(f"token={client.token}")
    # DONE is also known for handlers that are none of Reflex's.
    slow = label()
    await client.done(client.send(f'42/echo,["slowly","{slow}",0.05]', done=True))
    assert running.probes("echo.slowly", label=slow)
    await client.detach()
    await running.probe("echo.disconnect")


async def test_the_app_may_disconnect_a_client_or_close_its_session(running: Desk, link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    await client.done(client.send("40/echo,", done=True))
    await client.done(client.send('42/echo,["leave"]', done=True))
    assert client.texts[-1] == "41/echo,"
    await client.done(client.send("40/echo,", done=True))
    client.send('42/echo,["close"]')
    ended: list[sf.Detached] = await until(lambda: client.of(sf.Detached), "DETACHED")
    assert ended == [sf.Detached("closed")]


async def test_a_client_that_leaves_after_its_last_event_has_it_run(running: Desk, link: Connection) -> None:
    client = await VirtualClient(link).open()
    text = label()
    client.event("add", label=text)
    assert await client.detach("closed") == sf.Detached("closed")
    await running.probe("add", label=text)
    # Nothing is left of it: the next one with this token is no duplicate.
    again = await VirtualClient(link, token=client.token).open()
    assert again.events("new_token") == []
    await again.detach()


async def test_a_tab_that_comes_back_while_the_app_still_takes_leave_of_it_keeps_its_token(link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    await client.done(client.send("40/echo,", done=True))
    await client.done(client.connect())
    await client.run("reflex___state____state.hydrate")
    await client.run("add")
    await client.done(client.send('42/echo,["linger",1.0]', done=True))
    client.put(sf.Detach("closed"))
    await settle(0.2)
    assert client.of(sf.Detached) == []
    again = await VirtualClient(link, token=client.token).open()
    assert again.events("new_token") == []
    await again.run("add")
    assert again.state()["count"] == 2
    await until(lambda: client.of(sf.Detached), "DETACHED")
    # The former session's end takes nothing from it.
    await again.run("add")
    assert again.state()["count"] == 3
    await again.detach()


async def test_a_client_that_leaves_while_it_is_attached(link: Connection) -> None:
    first = await VirtualClient(link).open()
    second = VirtualClient(link, token=first.token)
    second.attach_soon()
    await until(lambda: first.of(sf.Probe), "PROBE")
    assert await second.detach("closed") == sf.Detached("closed")
    assert await first.run("add") == "ended"
    await first.detach()


async def test_a_client_that_leaves_before_its_attach_begins(link: Connection) -> None:
    client = VirtualClient(link)
    client.attach_soon(detach="closed")
    await until(lambda: client.messages, "an answer")
    assert client.messages == [sf.Detached("closed")]
    # Its channel is free again.
    link.clients[client.channel] = client
    client.put(sf.Attach(client.session, client.target, client.headers, "203.0.113.9"))
    assert isinstance(await client.attached(), sf.Attached)
    await client.detach()


async def test_a_client_that_leaves_before_it_has_said_anything_has_no_receipt(link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    assert await client.detach("closed") == sf.Detached("closed")
    assert client.of(sf.Received) == []


async def test_a_newcomer_that_leaves_lets_the_former_session_end_all_the_same(link: Connection) -> None:
    first = VirtualClient(link)
    await first.attach()
    await first.done(first.send("40/echo,", done=True))
    await first.done(first.connect())
    await first.done(first.send('42/echo,["linger",0.5]', done=True))
    second = VirtualClient(link, token=first.token)
    second.attach_soon(takeover=True)
    # The app takes leave of the former one meanwhile.
    await settle(0.2)
    assert await second.detach("closed") == sf.Detached("closed")
    await until(lambda: first.of(sf.Detached), "DETACHED")
    assert first.of(sf.Detached) == [sf.Detached("takeover")]


async def test_a_takeover_from_another_worker_asks_who_has_the_tab_by_now(link: Connection) -> None:
    first = await VirtualClient(link).open()
    first.answers_probes = True
    second = VirtualClient(link, token=first.token)
    refused = await second.attach(takeover=True, former="a worker that died")
    assert refused == sf.AttachRefused("taken", "the tab lives in another session")
    assert await first.run("add") == "ended"
    first.answers_probes = False
    await second.open(takeover=True, former="a worker that died")
    assert first.of(sf.Detached) == [sf.Detached("takeover")]
    assert second.events("new_token") == []
    # The same session once more: its sidecar had given up on the link.
    probes = len(second.of(sf.Probe))
    third = VirtualClient(link, token=first.token, session=second.session)
    await third.open(takeover=True, former=link.manifests[0]["tokens"])
    assert len(second.of(sf.Probe)) == probes
    assert third.events("new_token") == []
    await third.detach()


async def test_of_two_newcomers_the_later_one_asks_the_one_that_was_faster(link: Connection) -> None:
    holder = await lingering(await VirtualClient(link).open(), 1.0)
    late, fast = VirtualClient(link, token=holder.token), VirtualClient(link, token=holder.token)
    # It sees the former session to its end, and the other one does not wait for that.
    late.attach_soon()
    fast.attach_soon()
    await until(lambda: holder.of(sf.Probe), "PROBE")
    holder.put(sf.Probed(alive=False))
    fast.answers_probes = True
    assert isinstance(await fast.attached(), sf.Attached)
    assert late.messages == []
    await fast.done(fast.connect())
    await fast.run("reflex___state____state.hydrate")
    assert isinstance(await late.attached(), sf.Attached)
    await late.done(late.connect())
    assert len(late.events("new_token")) == 1
    assert fast.events("new_token") == []
    await fast.run("add", label="mine")
    assert fast.state()["text"] == "mine"
    await fast.detach()
    await late.detach()


async def test_a_session_that_loses_its_token_to_one_that_was_attached_meanwhile_is_told(link: Connection) -> None:
    first = VirtualClient(link)
    second = VirtualClient(link, token=first.token)
    for client in (first, second):
        assert isinstance(await client.attach(takeover=True), sf.Attached)
    await first.done(first.connect({}))
    await second.done(second.connect({}))
    await until(lambda: first.of(sf.Detached), "DETACHED")
    assert first.of(sf.Detached) == [sf.Detached("takeover")]
    await second.run("add", label="mine")
    assert second.state()["text"] == "mine"
    assert second.events("new_token") == []
    await second.detach()


async def test_two_live_tabs_with_one_token_still_get_theirs(running: Desk, link: Connection) -> None:
    first = await VirtualClient(link).open()
    first.answers_probes = True
    await first.run("add", label="first")
    second = await VirtualClient(link, token=first.token).open()
    (new,) = second.events("new_token")
    assert new != first.token
    await second.run("add", label="second")
    assert second.state()["count"] == 1
    assert first.events("new_token") == []
    assert await first.run("add", label="first") == "ended"
    assert first.state()["count"] == 2
    await first.detach()
    await second.detach()


async def test_a_dead_clients_session_goes_to_the_newcomer_with_what_was_kept(link: Connection) -> None:
    first = await VirtualClient(link).open()
    await first.run("add", label="kept")
    first.answers_probes, first.kept = False, ('42/_event,["event",{"delta":{"kept":{}}}]', "43/_event,1[]")
    second = VirtualClient(link, token=first.token)
    assert isinstance(await second.attach(), sf.Attached)
    assert first.of(sf.Detached) == [sf.Detached("takeover")]
    await second.done(second.connect())
    assert second.texts[0].startswith("40/_event,")
    assert tuple(second.texts[1:3]) == first.kept
    await second.run("add", label="mine")
    assert second.events("new_token") == []
    assert second.state()["count"] == 2
    await second.detach()


async def test_what_crosses_the_answer_about_a_dead_client_is_handed_on_once(link: Connection) -> None:
    first = await VirtualClient(link).open()
    second = VirtualClient(link, token=first.token)
    second.attach_soon()
    await until(lambda: first.of(sf.Probe), "PROBE")
    before = len(first.of(sf.Server))
    await first.run("add", label="seen")
    seen = len(first.of(sf.Server)) - before
    kept = tuple(first.texts[-seen:])
    # It runs on while the answer is on its way.
    await first.run("add", label="crossed")
    crossed = tuple(first.texts[before + seen :])
    assert kept
    assert crossed
    first.put(sf.Probed(alive=False, kept=('451-["b"]', "bAQ==", *kept), seen=seen))
    assert isinstance(await second.attached(), sf.Attached)
    await second.done(second.connect())
    assert second.texts[0].startswith("40/_event,")
    assert tuple(second.texts[1 : 2 + seen + len(crossed)]) == ('451-["b"]', *kept, *crossed)
    assert [message.payload for message in second.of(sf.Server) if message.binary] == [b"\x01"]
    await second.detach()


async def test_an_older_sidecar_is_believed_to_have_what_came_before_its_answer(link: Connection) -> None:
    first = await VirtualClient(link).open()
    second = VirtualClient(link, token=first.token)
    second.attach_soon()
    await until(lambda: first.of(sf.Probe), "PROBE")
    await first.run("add", label="its")
    first.put(sf.Probed(alive=False, kept=('42["its"]',)))
    assert isinstance(await second.attached(), sf.Attached)
    n = second.connect()
    await second.done(n)
    assert [text for text in second.texts if '"its"' in text] == ['42["its"]']
    await second.detach()


async def test_a_sidecar_that_does_not_answer_a_probe_has_a_dead_client(link: Connection) -> None:
    first = await VirtualClient(link).open()
    second = await VirtualClient(link, token=first.token).open()
    assert second.events("new_token") == []
    await second.detach()


async def test_forced_attaches_ask_nobody(link: Connection) -> None:
    first = await VirtualClient(link).open()
    second = await VirtualClient(link, token=first.token).open(force=True)
    assert first.of(sf.Probe) == []
    assert len(second.events("new_token")) == 1
    await first.detach()
    await second.detach()


async def test_a_takeover_on_the_same_worker(link: Connection) -> None:
    first = await VirtualClient(link).open()
    await first.run("add")
    second = await VirtualClient(link, token=first.token).open(takeover=True)
    assert first.of(sf.Detached) == [sf.Detached("takeover")]
    assert second.events("new_token") == []
    await second.run("add")
    assert second.state()["count"] == 2
    await second.detach()


async def test_a_direct_connection_beside_it_is_its_own(running: Desk, link: Connection) -> None:
    async with ReflexClient(running.workers[0]) as direct:
        await direct.send(HYDRATE)
        text = label()
        await direct.send_raw(direct.event(f"{STATE}.add", {"label": text}))
        await running.probe("add", label=text)
        # Its token is held by a real connection, which nobody can probe: Reflex's own answer.
        virtual = await VirtualClient(link, token=direct.token).open()
        assert len(virtual.events("new_token")) == 1
        await virtual.detach()


async def test_a_slow_client_makes_its_session_wait_and_no_other(link: Connection) -> None:
    client, other = await VirtualClient(link).open(), await VirtualClient(link).open()
    client.gives_credit = False
    sizes: list[int] = []
    for _ in range(8):
        n = client.event("much", label=label(), size=100_000)
        sizes.append(n)
    # One or two of them fit into what was given; DONE comes behind the frames.
    await until(lambda: sum(len(m.payload) for m in client.of(sf.Server)) > WINDOW, "the window's end")
    assert await other.run("add") == "ended"
    await settle(0.2)
    assert client.outcome(sizes[-1]) is None
    sent = sum(len(m.payload) for m in client.of(sf.Server))
    assert WINDOW < sent < WINDOW + 210_000
    client.gives_credit = True
    client.put(sf.Credit(sent))
    assert await client.done(sizes[-1]) == "ended"
    await client.detach()
    await other.detach()


async def test_a_session_that_waits_for_too_much_is_ended_as_slow(link: Connection) -> None:
    client = await VirtualClient(link).open()
    client.gives_credit = False
    for _ in range(9):
        client.event("much", label=label(), size=700_000)
    ended: list[sf.Detached] = await until(lambda: client.of(sf.Detached), "DETACHED", 30)
    assert ended == [sf.Detached("slow")]


async def test_credit_comes_back_as_the_app_takes_packets(link: Connection) -> None:
    client = await VirtualClient(link).open()
    size = 30_000
    last = 0
    for _ in range(8):
        last = client.event("add", label="y" * size)
    await client.done(last)
    given = sum(message.bytes for message in client.of(sf.Credit))
    assert 65_536 <= given <= 9 * (size + 1_000)
    await client.detach()


async def test_resync_brings_what_was_missed_and_resets_nothing(link: Connection) -> None:
    client = await VirtualClient(link).open()
    await client.run("set_theme", theme="dark")
    await client.run("add", label="seen")
    client.clear()
    assert await client.resync() == "ended"
    (update,) = client.events()
    assert not update.get("events")
    delta = {key.removesuffix("_rx_state_"): value for key, value in update["delta"][STATE].items()}
    assert delta == {"count": 1, "text": "seen", "doubled": 2, "described": "1 seen", "theme": "dark"}
    assert update["delta"][ROOT].get("is_hydrated_rx_state_", True) is True
    # The state goes on as before: nothing of it is sent twice.
    client.clear()
    await client.run("add", label="seen")
    assert client.state() == {"count": 2, "doubled": 4, "described": "2 seen", "text": "seen"}
    await client.detach()


async def test_no_state_no_resync(link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    await client.done(client.connect({}))
    assert await client.resync() == "raised"
    assert client.events() == []
    await client.detach()


async def test_an_injected_event_runs_where_the_tab_is(running: Desk, link: Connection) -> None:
    client = await VirtualClient(link, cookie="sessionid=abc").open()
    await client.run("add", path="/item/42?colour=red", label=label())
    text = label()
    assert await client.inject("add", label=text) == "ended"
    seen = await running.probe("add", label=text)
    assert seen["path"] == "/item/[number]"
    assert seen["headers"]["cookie"] == "sessionid=abc"
    assert client.state()["count"] == 2
    assert await client.inject("nobody_has_this_handler") == "raised"
    # Moved: this worker has not seen an event of the tab, and asks its state.
    await client.detach("move")
    await client.attach(takeover=True)
    client.connect({})
    text = label()
    assert await client.inject("add", label=text) == "ended"
    assert (await running.probe("add", label=text))["path"] == "/item/[number]"
    await client.detach()


async def test_background_handlers_are_told_and_moved_exactly(running: Desk, link: Connection) -> None:
    client, other = await VirtualClient(link).open(), await VirtualClient(link).open()
    mine, others = label(), label()
    await client.run("start", label=mine)
    await client.run("tick", label=f"{mine}-2", every=0.05)
    await other.run("start", label=others)
    await client.run("once", label=label())
    await until(lambda: len(client.of(sf.BackgroundEnded)) == 1, "the end of one")
    for text in (mine, f"{mine}-2", others):
        await running.probe("tick.begun", label=text)
    names = [message.handler.name for message in client.of(sf.BackgroundStarted)]
    assert names == [f"{STATE}.tick", f"{STATE}.tick", f"{STATE}.once"]
    detached = await client.detach("move")
    payloads = [{"label": mine, "every": 0.05}, {"label": f"{mine}-2", "every": 0.05}]
    assert detached == sf.Detached("move", tuple(sf.RunningHandler(f"{STATE}.tick", payload) for payload in payloads))
    for text in (mine, f"{mine}-2"):
        await running.probe("tick.ended", label=text)
    assert not running.probes("tick.ended", label=others)
    await client.attach(takeover=True)
    client.connect({})
    count = client.state()["count"]
    for handler in detached.background:
        assert handler.payload is not None
        assert await client.inject(handler.name, background=True, **handler.payload) == "ended"
    await until(lambda: client.state()["count"] > count + 5, "ticks")
    assert len(running.probes("tick.begun", label=mine)) == 2
    await client.detach("move")
    await other.detach("move")
    await running.probe("tick.ended", label=others)


async def test_a_background_handler_of_on_load_is_known_too(running: Desk, link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    page = {"pathname": "/loading", "asPath": "/loading", "query": {}}
    if IS_010:
        await client.done(
            client.connect({"event": {"name": f"{ROOT}.hydrate_and_load", "payload": {}, "router_data": page}})
        )
    else:
        client.connect()
        await client.run(f"{ROOT}.hydrate", path="/loading")
        await client.run(f"{ROOT}.reflex___state____on_load_internal_state.on_load_internal", path="/loading")
    await until(lambda: client.of(sf.BackgroundStarted), "BACKGROUND")
    detached = await client.detach("move")
    assert [handler.payload for handler in detached.background] == [{"label": "on_load", "every": 0.05}]


async def test_a_payload_that_is_too_large_is_not_told(link: Connection) -> None:
    client = await VirtualClient(link).open()
    await client.run("once", label="z" * 70_000)
    (started,) = await until(lambda: client.of(sf.BackgroundStarted), "BACKGROUND")
    assert started.handler == sf.RunningHandler(f"{STATE}.once", None)
    await client.detach()


async def test_what_has_not_begun_when_a_session_moves_has_not_run(running: Desk, link: Connection) -> None:
    client = await VirtualClient(link).open()
    text = label()
    slow = client.event("slow", label=text, seconds=1.0)
    waiting = [client.event("add", label=f"{text}-{number}") for number in range(3)]
    await running.probe("slow.begun", label=text)
    await until(lambda: client.received == waiting[-1], "RECEIVED")
    detached = await client.detach("move")
    assert detached.unrun == tuple(waiting)
    assert [client.outcome(n) for n in (slow, *waiting)] == [None] * 4
    await running.probe("slow.ended", label=text)
    await settle(0.2)
    assert not [n for n in range(3) if running.probes("add", label=f"{text}-{n}")]


async def test_a_packet_that_a_move_cuts_off_is_not_done(link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    await client.done(client.send("40/echo,", done=True))
    n = client.send(f'42/echo,["slowly","{label()}",30]', done=True)
    await until(lambda: client.received == n, "RECEIVED")
    await settle(0.1)
    detached = await client.detach("move")
    assert n not in detached.unrun
    assert client.outcome(n) is None


async def lingering(client: VirtualClient, seconds: float) -> VirtualClient:
    """Let the app take so long to take leave of this client."""
    await client.done(client.send("40/echo,", done=True))
    await client.done(client.send(f'42/echo,["linger",{seconds}]', done=True))
    return client


async def test_an_event_that_a_handler_yields_once_a_move_has_begun_leaves_its_packet_undone(
    running: Desk, link: Connection
) -> None:
    client = await lingering(await VirtualClient(link).open(), 1.0)
    text = label()
    n = client.event("later", label=text, seconds=0.4)
    await running.probe("later.begun", label=text)
    detached = await client.detach("move")
    assert running.probes("later.ended", label=text)
    assert running.probes("add", label=text) == []
    assert n not in detached.unrun
    assert client.outcome(n) is None


async def test_an_event_that_waits_for_the_state_of_a_session_that_moves_is_not_done(
    running: Desk, link: Connection
) -> None:
    client = await lingering(await VirtualClient(link).open(), 1.0)
    text = label()
    await client.run("hold", label=text, seconds=30)
    await running.probe("hold", label=text)
    n = client.event("add", label=text)
    await until(lambda: client.received == n, "RECEIVED")
    await settle(0.2)
    await client.detach("move")
    assert running.probes("add", label=text) == []
    assert client.outcome(n) is None


@pytest.mark.skipif(not IS_010, reason="reflex 0.9 loads a page by an event of its own, and cancels none")
async def test_a_page_load_that_a_move_cancels_leaves_its_connect_undone(running: Desk, link: Connection) -> None:
    client = VirtualClient(link)
    await client.attach()
    await lingering(client, 1.0)
    page = {"pathname": "/slow", "asPath": "/slow", "query": {}}
    n = client.connect({"event": {"name": f"{ROOT}.hydrate_and_load", "payload": {}, "router_data": page}})
    await running.probe("slow.begun", label="slow page")
    detached = await client.detach("move")
    assert n not in detached.unrun
    assert client.outcome(n) is None


async def test_a_lost_link_keeps_its_sessions_for_the_next(running: Desk) -> None:
    link = await running.link()
    client = await VirtualClient(link).open()
    text = label()
    await client.run("start", label=text)
    slow = client.event("slow", label=text, seconds=0.5)
    await running.probe("slow.begun", label=text)
    n = client.n
    seen = len(client.of(sf.Server))
    before = len(running.sidecar.connections)
    link.cut()
    await running.probe("slow.ended", label=text)
    next_link = await running.link(before)
    answer = await client.attach(next_link, resume=True, seen=seen)
    assert isinstance(answer, sf.Attached)
    assert answer.received == n
    assert answer.sent >= seen
    assert answer.open is not None
    assert set(answer.open) <= {slow}
    # What it could not send follows, what runs is told anew, and numbers go on.
    assert await client.done(slow) == "ended"
    assert client.of(sf.BackgroundStarted)[-1].handler.payload == {"label": text, "every": 0.05}
    assert await client.run("add", label=text) == "ended"
    assert client.events("new_token") == []
    assert await client.resync() == "ended"
    assert not running.probes("tick.ended", label=text)
    await client.detach("move")


async def test_sessions_of_a_lost_link_end_after_5_seconds(running: Desk) -> None:
    link = await running.link()
    client = await VirtualClient(link).open()
    text = label()
    await client.run("start", label=text)
    await running.probe("tick.begun", label=text)
    before = len(running.sidecar.connections)
    link.cut()
    next_link = await running.link(before)
    assert await client.attach(next_link, resume=True, session=str(uuid.uuid4())) == sf.AttachRefused(
        "unknown", "this worker has no such session"
    )
    await running.probe("tick.ended", label=text)
    refused = await client.attach(next_link, resume=True)
    assert isinstance(refused, sf.AttachRefused)
    assert refused.error == "unknown"
    # Its token is free.
    await client.open(next_link)
    assert client.events("new_token") == []
    await client.detach()


@pytest.mark.parametrize("is_itself", [True, False])
async def test_a_session_that_is_brought_from_a_lost_link_has_no_background_handlers_left(
    running: Desk, *, is_itself: bool
) -> None:
    link = await running.link()
    client = await VirtualClient(link).open()
    text = label()
    await client.run("start", label=text)
    await running.probe("tick.begun", label=text)
    before = len(running.sidecar.connections)
    link.cut()
    next_link = await running.link(before)
    if is_itself:
        # Its sidecar gave the session up, and attaches it anew.
        answer = await client.attach(next_link, takeover=True, former=link.manifests[0]["tokens"])
    else:
        # Its client came back meanwhile, in another session.
        client = VirtualClient(next_link, token=client.token)
        answer = await client.attach(takeover=True)
    assert answer == sf.Attached()
    # Both start its handlers again.
    assert running.probes("tick.ended", label=text)
    await client.done(client.connect({}))
    assert client.events("new_token") == []
    await client.detach()


async def test_a_session_whose_link_is_lost_as_it_ends_cannot_be_taken_up(running: Desk) -> None:
    link = await running.link()
    client = await lingering(await VirtualClient(link).open(), 1.0)
    client.put(sf.Detach("closed"))
    await settle(0.2)
    assert client.of(sf.Detached) == []
    before = len(running.sidecar.connections)
    link.cut()
    assert await client.attach(await running.link(before), resume=True) == sf.AttachRefused(
        "unknown", "this worker has no such session"
    )


async def test_a_sidecar_that_takes_a_session_up_hears_whose_it_is_by_now(running: Desk) -> None:
    link = await running.link()
    client, other = await VirtualClient(link).open(), await VirtualClient(link).open()
    before = len(running.sidecar.connections)
    await client.run("log_in", session_key="a-new-session")
    link.cut()
    next_link = await running.link(before)
    for each in (client, other):
        assert isinstance(await each.attach(next_link, resume=True), sf.Attached)
        assert await each.run("add") == "ended"
    assert next_link.received(FrameType.SESSION) == [
        {"t": token_hash(client.token), "session": client.session, "cookie": "a-new-session"}
    ]
    for each in (client, other):
        await each.detach()


async def test_a_client_that_leaves_as_its_lost_session_is_taken_up_ends_it(running: Desk) -> None:
    link = await running.link()
    client = await VirtualClient(link).open()
    text = label()
    await client.run("start", label=text)
    await running.probe("tick.begun", label=text)
    background = client.of(sf.BackgroundStarted)[-1].handler
    before = len(running.sidecar.connections)
    link.cut()
    client.attach_soon(await running.link(before), resume=True, detach="move")
    await until(lambda: client.of(sf.Detached), "DETACHED")
    assert client.of(sf.Detached)[0].background == (background,)
    await running.probe("tick.ended", label=text)


async def test_those_that_end_after_5_seconds_are_not_found_by_a_link_that_comes_then(running: Desk) -> None:
    link = await running.link()
    # Sessions end 50 at a time: the first ones take long, and the last one waits for its turn.
    first, slow = await VirtualClient(link).open(), VirtualClient(link)
    text = label()
    await first.run("start", label=text)
    await slow.attach()
    await slow.done(slow.send("40/echo,", done=True))
    await slow.done(slow.send('42/echo,["linger",1.5]', done=True))
    others = [VirtualClient(link) for _ in range(60)]
    for other in others:
        await other.attach()
    await others[-1].done(others[-1].connect())
    await others[-1].run("reflex___state____state.hydrate")
    late = label()
    await others[-1].run("start", label=late)
    await running.probe("tick.begun", label=text)
    await running.probe("tick.begun", label=late)
    left = len(running.probes("echo.disconnect"))
    before = len(running.sidecar.connections)
    link.cut()
    next_link = await running.link(before)
    await running.probe("tick.ended", label=text)
    # What runs of the last one ends with all others'.
    await running.probe("tick.ended", label=late)
    assert len(running.probes("echo.disconnect")) == left
    assert await others[-1].attach(next_link, resume=True) == sf.AttachRefused(
        "unknown", "this worker has no such session"
    )


async def test_a_session_that_is_lost_again_has_its_5_seconds_from_then_on(running: Desk) -> None:
    link = await running.link()
    client = await VirtualClient(link).open()
    text = label()
    await client.run("start", label=text)
    await running.probe("tick.begun", label=text)
    began = asyncio.get_running_loop().time()
    # Taken up at once, lost again after 3 s, and taken up again when the time of the first loss is over.
    for lost_after, taken_after in ((0, 0), (3, 5.5)):
        await asyncio.sleep(max(0, began + lost_after - asyncio.get_running_loop().time()))
        before = len(running.sidecar.connections)
        link.cut()
        link = await running.link(before)
        await asyncio.sleep(max(0, began + taken_after - asyncio.get_running_loop().time()))
        assert isinstance(await client.attach(link, resume=True), sf.Attached)
    assert not running.probes("tick.ended", label=text)
    await client.detach("move")


async def test_a_sidecar_that_leaves_in_order_takes_its_sessions_along(running: Desk) -> None:
    link = await running.link()
    client = await VirtualClient(link).open()
    before = len(running.sidecar.connections)
    link.send(FrameType.GOAWAY, {"reason": "shutdown"})
    await link.close()
    next_link = await running.link(before)
    refused = await client.attach(next_link, resume=True)
    assert isinstance(refused, sf.AttachRefused)
    again = await VirtualClient(next_link, token=client.token).open()
    assert again.events("new_token") == []
    await again.detach()


async def test_nothing_is_given_to_the_app_from_a_link_that_is_lost(running: Desk) -> None:
    link = await running.link()
    client = await VirtualClient(link).open()
    before = len(running.sidecar.connections)
    texts = [label() for _ in range(20)]
    for text in texts:
        client.event("add", label=text)
    link.cut()
    next_link = await running.link(before)
    answer = await client.attach(next_link, resume=True)
    assert isinstance(answer, sf.Attached)
    ran = [text for text in texts if running.probes("add", label=text)]
    first = client.n - len(texts)
    assert len(ran) <= answer.received - first
    # What was not received is sent again, once.
    client.n = answer.received
    for text in texts[answer.received - first :]:
        client.event("add", label=text)
    await client.run("add")
    assert [len(running.probes("add", label=text)) for text in texts] == [1] * len(texts)
    await client.detach()


async def test_frames_that_no_sidecar_sends_end_the_link(running: Desk) -> None:
    for message in (sf.Attached(), sf.Received(1), sf.Detached("closed")):
        link = await running.link()
        before = len(running.sidecar.connections)
        link.send_bytes(sf.encode(1, message))
        await until(lambda link=link: link.closed, "the end of the link")
        assert link.received(FrameType.ERROR)[0]["code"] == "FRAME"
        await running.link(before)


async def test_frames_on_a_channel_that_is_free_are_ignored(running: Desk) -> None:
    link = await running.link()
    link.send_bytes(sf.encode(99, sf.Client(1, b"40/_event,")) + sf.encode(99, sf.Detach("closed")))
    client = await VirtualClient(link).open()
    await client.detach()


async def test_attaches_run_beside_each_other(link: Connection) -> None:
    clients = [VirtualClient(link) for _ in range(50)]
    await asyncio.gather(*(client.open() for client in clients))
    await asyncio.gather(*(client.run("add", label="all") for client in clients))
    assert [client.state()["count"] for client in clients] == [1] * 50
    await asyncio.gather(*(client.detach() for client in clients))


async def test_a_worker_tells_its_figures(link: Connection) -> None:
    clients = [await VirtualClient(link).open() for _ in range(3)]
    before = len(link.received(FrameType.STATS))
    stats: list[dict[str, Any]] = await until(lambda: link.received(FrameType.STATS)[before + 1 :], "STATS", 15)
    assert stats[0]["sessions"] >= 3
    assert stats[0]["inFlight"] == 0
    assert stats[0]["lagMs"] >= 0
    assert stats[0]["rss"] > 20_000_000
    for client in clients:
        await client.detach()


# Moments that no sidecar can choose


class StubLink:
    """A link whose kernel takes what was written when the test says so."""

    sidecar = "a sidecar"
    is_congested = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.takes = asyncio.Event()

    def write(self, frame: bytes) -> None:
        self.written.append(frame)

    async def handed_over(self) -> None:
        await self.takes.wait()


class StubApp:
    """As much of an app as its sessions touch; each packet stays with it until the test says `goes_on`."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.goes_on = asyncio.Event()
        self.eio = SimpleNamespace(generate_id=lambda: "eio", sockets={}, _trigger_event=self._trigger_event)
        self.sio = SimpleNamespace(
            eio=self.eio,
            environ={},
            manager=SimpleNamespace(sid_from_eio_sid=lambda *_: None),
            start_background_task=None,
            _handle_event_internal=None,
        )
        tokens = SimpleNamespace(sid_to_token={}, link_token_to_sid=None, disconnect_token=None)
        self.event_namespace = SimpleNamespace(namespace="/_event", _token_manager=tokens)
        self._registration_context = SimpleNamespace(event_handlers={})

    async def _trigger_event(self, _: str, __: str, data: bytes, **___: Any) -> None:
        self.got.append(data)
        await self.goes_on.wait()


def stub_socket(sessions: Any, link: Any) -> VirtualSocket:
    return VirtualSocket(SimpleNamespace(generate_id=lambda: "eio"), sessions, link, 1, "a session")


def packet(n: int) -> Frame:
    (frame,) = FrameDecoder().feed(sf.encode(1, sf.Client(n, b"%d" % n, binary=True)))
    return frame


async def at_work() -> tuple[StubApp, StubLink, VirtualSessions]:
    """The app works on a session's first packet, and the kernel takes nothing any more."""
    app, link = StubApp(), StubLink()
    sessions = VirtualSessions(app)
    sessions.opened(link)  # type: ignore[arg-type]
    socket = stub_socket(sessions, link)
    sessions._links[link].sockets[1] = socket  # type: ignore[index]
    link.takes.set()
    await sessions.on_frames(link, [packet(1)])  # type: ignore[arg-type]
    await until(lambda: app.got == [b"1"], "the first packet")
    link.takes.clear()
    return app, link, sessions


async def test_the_app_gets_no_packet_before_the_kernel_has_its_received() -> None:
    app, link, sessions = await at_work()
    # The next ones come meanwhile.
    chunk = asyncio.create_task(sessions.on_frames(link, [packet(2), packet(3)]))  # type: ignore[arg-type]
    await settle(0.05)
    app.goes_on.set()
    await settle(0.05)
    socket = sessions._links[link].sockets[1]  # type: ignore[index]
    assert socket.received == 3
    assert app.got == [b"1"]
    link.takes.set()
    await chunk
    await until(lambda: app.got == [b"1", b"2", b"3"], "the rest")
    assert socket.inbox is None


async def test_a_detach_comes_after_the_packets_before_it() -> None:
    socket = stub_socket(None, StubLink())
    client, detach = sf.Client(1, b"", binary=True), sf.Detach("closed")
    assert socket.receive(client)
    socket.receive_detach(detach)
    assert socket.take() is None
    socket.acknowledged = 1
    assert [socket.take(), socket.take(), socket.take()] == [client, detach, None]


async def test_what_a_lost_session_received_is_the_apps_once_the_next_link_has_said_so() -> None:
    app, link, sessions = await at_work()
    next_link = StubLink()
    chunk = asyncio.create_task(sessions.on_frames(link, [packet(2)]))  # type: ignore[arg-type]
    await settle(0.05)
    chunk.cancel()
    sessions.lost(link, in_order=False)  # type: ignore[arg-type]
    sessions.opened(next_link)  # type: ignore[arg-type]
    (attach,) = FrameDecoder().feed(sf.encode(1, sf.Attach("a session", "/", (), "203.0.113.9", resume=True)))
    chunk = asyncio.create_task(sessions.on_frames(next_link, [attach, packet(3)]))  # type: ignore[arg-type]
    await settle(0.05)
    app.goes_on.set()
    await settle(0.05)
    assert app.got == [b"1"]
    next_link.takes.set()
    await chunk
    await until(lambda: app.got == [b"1", b"2", b"3"], "the rest")


async def test_two_lost_sessions_with_one_id_do_not_hide_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    link = StubLink()
    sessions = VirtualSessions(StubApp())
    sessions.opened(link)  # type: ignore[arg-type]
    first, second = stub_socket(sessions, link), stub_socket(sessions, link)
    sessions._links[link].sockets.update({1: first, 2: second})  # type: ignore[index]
    ended: list[tuple[VirtualSocket, str]] = []
    monkeypatch.setattr(sessions, "end_soon", lambda socket, reason: ended.append((socket, reason)))
    sessions.lost(link, in_order=False)  # type: ignore[arg-type]
    assert ended == [(first, "move")]
    assert sessions.take_lost(link.sidecar, "a session") is second


async def test_what_a_session_says_is_kept_no_longer_than_its_client_is_in_doubt() -> None:
    socket = stub_socket(None, StubLink())
    socket.echo, socket.probe = [], asyncio.get_running_loop().create_future()
    # The newcomer who asked may have left.
    socket.answer_probe(sf.Probed(alive=True))
    assert socket.echo is None


async def test_a_background_handler_that_has_just_ended_is_not_listed() -> None:
    loop = asyncio.get_running_loop()
    ended, runs, returned = (loop.create_future() for _ in range(3))
    ended.set_result(None)
    task = asyncio.create_task(settle(0))
    await task
    handlers = [sf.RunningHandler(name, {}) for name in ("ended", "runs", "returned")]
    socket = stub_socket(None, StubLink())
    socket.background = dict(zip("abc", zip(handlers, (ended, runs, returned), strict=True), strict=True))
    assert await stop_background(socket, SimpleNamespace(_tasks={"c": task})) == (handlers[1],)
    assert runs.cancelled()
