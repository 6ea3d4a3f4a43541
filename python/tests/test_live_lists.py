"""Live lists in real workers on PostgreSQL: right for each user, whoever changes the rows, wherever the session is."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from backend import until
from board import Board, Databases, board, handler, in_django, python, rows, shows, titles, worker_log
from bridgehead import session_frames as sf
from bridgehead.live.change import Change
from bridgehead.virtual_socket import WINDOW
from reflex_client import ReflexClient
from sidecar import Connection
from virtual_client import settle

WRITER = "writer_state"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    made = Databases()
    yield made
    made.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> AsyncIterator[Board]:
    """Two of them, for all tests here."""
    database = await asyncio.to_thread(databases.make)
    async with board(tmp_path_factory.mktemp("board"), database) as started:
        await asyncio.gather(started.start(), started.start())
        await until(lambda: len(started.live()) == 2, "two links")
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def running(workers: Board) -> AsyncIterator[tuple[Board, Connection, Connection]]:
    """With the links of the two, and nothing left of the test before."""
    await asyncio.to_thread(workers.clear)
    first, second = workers.live()
    yield workers, first, second
    for client in {client for link in workers.live() for client in link.clients.values()}:
        await client.detach()


async def test_a_row_saved_in_a_worker_appears_in_its_place_in_every_worker_for_its_owner_alone(
    running: tuple[Board, Connection, Connection],
) -> None:
    started, first, second = running
    ada, ada2 = await started.viewer(first, "ada"), await started.viewer(second, "ada")
    bob, nobody = await started.viewer(second, "bob"), await started.viewer(first, None)
    for title, rank in (("second", 2), ("third", 3), ("first", 1)):
        await bob.run(handler(WRITER, "add"), owner="ada", title=title, rank=rank)
    await shows(ada, "first", "second", "third")
    await shows(ada2, "first", "second", "third")
    assert [change.action for change in started.bus.changes] == ["created"] * 3
    assert rows(bob) == rows(nobody) == []
    # Rows move, leave with another owner, come with one, and go.
    database = started.database
    await asyncio.to_thread(
        python,
        in_django(
            "for title, rank in (('first', 9),): Item.objects.filter(title=title).update(rank=rank)\n"
            "Item.objects.filter(title='second').update(owner='bob')\n"
            "Item.objects.get(title='third').delete()"
        ),
        **database.environment,
    )
    started.bus.publish(Change("board.item", "updated", 1))
    await shows(ada, "first")
    await shows(bob, "second")
    assert rows(nobody) == []


async def test_what_is_rolled_back_is_never_published(running: tuple[Board, Connection, Connection]) -> None:
    started, link, _ = running
    ada = await started.viewer(link, "ada")
    await ada.run(handler(WRITER, "roll_back"), owner="ada")
    await started.probe("rolled_back")
    await ada.run(handler(WRITER, "add"), owner="ada", title="real", rank=1)
    await shows(ada, "real")
    assert [(change.action, change.pk) for change in started.bus.changes] == [("created", 2)]


async def test_a_browser_that_makes_changes_up_only_has_its_own_rows_read_anew(
    running: tuple[Board, Connection, Connection],
) -> None:
    started, link, _ = running
    ada, bob = await started.viewer(link, "ada"), await started.viewer(link, "bob")
    await ada.run(handler(WRITER, "add"), owner="ada", title="secret", rank=1)
    await shows(ada, "secret")
    change = {"model": "board.item", "action": "created", "pk": 1, "title": "x"}
    for live in (
        {"subscription": "x", "changes": [change], "reload": False},
        {"subscription": "x", "changes": [change | {"action": "deleted"}], "reload": True, "rows": [change]},
        {"changes": "x" * 1_000},
        {},
    ):
        for client in (ada, bob):
            assert await client.run(handler("item_list", "apply_live_change"), live=live) == "ended"
    assert rows(bob) == []
    assert titles(ada) == ["secret"]
    assert link.manifests[0]["publishes"] is True
    # What the app wrote for itself is nothing that a browser can run.
    for hook in ("live_queryset", "live_row", "live_tags", "live_pks"):
        assert handler("item_list", hook) not in str(link.manifests)
        assert hook not in link.manifests[0]["states"][handler("item_list", "x")[:-2]]["handlers"]


async def test_pages_have_a_limit_and_a_page_that_is_gone_gives_way(
    running: tuple[Board, Connection, Connection],
) -> None:
    started, link, _ = running
    database = started.database
    insert = "INSERT INTO board_item (title, owner, rank) SELECT 't' || n, 'ada', n FROM generate_series(1, 6) n"
    await asyncio.to_thread(database.execute, insert)
    ada = await started.viewer(link, "ada")
    await shows(ada, "t1", "t2", "t3", "t4")
    shown = ada.state("board___board____item_list")
    assert shown["live_has_more"] is True
    await ada.run(handler("item_list", "live_turn"), page=1)
    await shows(ada, "t5", "t6")
    for page in (10**30, -5, "x", None):
        assert await ada.run(handler("item_list", "live_turn"), page=page) in ("ended", "raised")
    await ada.run(handler("item_list", "live_turn"), page=1)
    await asyncio.to_thread(database.execute, "DELETE FROM board_item WHERE rank > 3")
    started.bus.gap()
    await shows(ada, "t1", "t2", "t3")
    shown = ada.state("board___board____item_list")
    assert (shown["live_page"], shown["live_has_more"]) == (0, False)


async def test_after_a_gap_every_list_is_right_and_nothing_is_sent_where_nothing_changed(
    running: tuple[Board, Connection, Connection],
) -> None:
    started, link, _ = running
    ada, bob = await started.viewer(link, "ada"), await started.viewer(link, "bob")
    await asyncio.to_thread(
        started.database.execute, "INSERT INTO board_item (title, owner, rank) VALUES ('x', 'ada', 1)"
    )
    await settle(0.2)
    assert rows(ada) == []
    before = len(bob.events())
    started.bus.gap()
    await shows(ada, "x")
    await until(lambda: bob.outcome(bob.n), "the reload")
    assert not [update for update in bob.events()[before:] if "live_rows" in str(update)]


async def test_another_key_and_rows_of_a_dataclass_and_a_handler_that_narrows_the_list(
    running: tuple[Board, Connection, Connection],
) -> None:
    started, link, _ = running
    client = await started.viewer(link, None, "card_list")
    key = uuid.uuid4()
    await asyncio.to_thread(
        python,
        in_django(f"Card.objects.create(id='{key}', text='b'); Card.objects.create(text='a')"),
        **started.database.environment,
    )
    started.bus.publish(Change("board.card", "created", str(key)))
    await until(lambda: [row["text"] for row in rows(client, "card_list")] == ["b", "a"], "the cards in order")
    assert rows(client, "card_list")[0]["id"] == str(key)
    heard = await started.probe("heard", label="board.card")
    assert heard["pk"] == repr(key)
    await client.run(handler("card_list", "find"), text="a")
    assert [row["text"] for row in rows(client, "card_list")] == ["a"]
    (subscription,) = client.subscriptions.values()
    assert (subscription.pks, subscription.tags) == (None, None)
    await client.run(handler("card_list", "live_unsubscribe"))
    assert client.subscriptions == {}


async def test_a_subscription_does_not_wait_for_a_client_that_takes_nothing(
    running: tuple[Board, Connection, Connection],
) -> None:
    started, link, _ = running
    client = await started.viewer(link, None, "card_list")
    client.gives_credit = False
    # More than the client was given, and something that waits behind it.
    client.event(handler("card_list", "find"), text="x" * (WINDOW + 1))
    waiting = client.event(handler("card_list", "live_turn"), page=0)
    client.event(handler("card_list", "live_unsubscribe"))
    await until(lambda: client.subscriptions == {}, "UNSUBSCRIBE")
    last = client.event(handler("card_list", "live_subscribe"))
    await until(lambda: client.subscriptions, "SUBSCRIBE")
    await until(lambda: client.received == last, "RECEIVED")
    assert client.outcome(waiting) is None
    client.gives_credit = True
    client.put(sf.Credit(2 * WINDOW))
    assert await client.done(last) == "ended"
    # The last one of an id counts, also once what waited has come.
    assert client.subscriptions != {}


async def test_subscriptions_may_be_narrow(running: tuple[Board, Connection, Connection]) -> None:
    started, link, _ = running
    client = await started.viewer(link, None, "order_list")
    (subscription,) = client.subscriptions.values()
    assert subscription.model == "board.order"
    assert subscription.tags == ("tenant:acme",)
    assert subscription.pks == (1, str(2**60))
    assert subscription.handler == handler("order_list", "apply_live_change")


async def test_on_load_subscribes_and_a_moved_session_stays_live(running: tuple[Board, Connection, Connection]) -> None:
    started, first, second = running
    ada = await started.client(first, "ada").open()
    await ada.run("reflex___state____state.reflex___state____on_load_internal_state.on_load_internal")
    assert len(ada.subscriptions) == 2
    await ada.detach("move")
    await ada.attach(second, takeover=True)
    await ada.done(ada.connect({}))
    bob = await started.client(first, "bob").open()
    await bob.run(handler(WRITER, "add"), owner="ada", title="after the move", rank=1)
    await shows(ada, "after the move")


async def test_a_list_is_right_after_a_crash_of_its_worker(running: tuple[Board, Connection, Connection]) -> None:
    started, first, _ = running
    third = await started.start()
    ada, bob = await started.viewer(third, "ada"), await started.client(first, "bob").open()
    started.signal(third, signal.SIGKILL)
    await until(lambda: third.closed, "the end of the worker")
    await bob.run(handler(WRITER, "add"), owner="ada", title="meanwhile", rank=1)
    third.clients.clear()
    await ada.attach(first, takeover=True)
    await ada.done(ada.connect({}), 30)
    started.bus.gap()
    await bob.run(handler(WRITER, "add"), owner="ada", title="after the crash", rank=2)
    await shows(ada, "meanwhile", "after the crash")


async def test_a_worker_whose_database_was_away_fails_one_event_and_goes_on(
    running: tuple[Board, Connection, Connection],
) -> None:
    started, first, _ = running
    writer = await started.client(first, "ada").open()

    async def add(title: str) -> object:
        return await writer.run(handler(WRITER, "add"), owner="ada", title=title, rank=1)

    assert await add("before") == "ended"
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    started.database.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")
    assert [await add("lost"), await add("after")] == ["raised", "ended"]
    assert started.database.execute("SELECT title FROM board_item ORDER BY id") == [("before",), ("after",)]
    await until(lambda: len(started.probes("heard")) == 4, "both rows in both workers")


async def test_every_broadcaster_hears_each_change_once_whatever_happens(
    running: tuple[Board, Connection, Connection],
) -> None:
    started, first, second = running
    both = {c.manifests[0]["pid"] for c in (first, second)}
    await until(lambda: started.bus.watched() == [["board.card", "board.item"]] * 2, "what is watched")
    bob = await started.client(first, "bob").open()
    await bob.run(handler(WRITER, "add"), owner="ada", title="one", rank=1)
    await until(lambda: {line["pid"] for line in started.probes("heard")} == both, "the change in both workers")
    # Once more, as over a second link.
    started.bus.publish(*started.bus.changes)
    started.bus.publish(Change("board.item", "deleted", 1), Change("auth.user", "updated", 1))
    await until(lambda: len(started.probes("heard", action="deleted")) == 2, "the next change in both workers")
    heard = sorted((line["pid"], line["label"], line["action"], line["pk"]) for line in started.probes("heard"))
    assert heard == sorted((pid, "board.item", action, "1") for pid in both for action in ("created", "deleted"))
    started.bus.gap()
    await until(
        lambda: len(started.probes("heard", action="gap", pk="None")) == 4, "the gap of two models in two workers"
    )


async def test_changes_wait_for_a_sidecar_that_takes_them(running: tuple[Board, Connection, Connection]) -> None:
    started, link, _ = running
    bus = started.bus
    bob = await started.client(link, "bob").open()
    bus.refuses = 2
    await bob.run(handler(WRITER, "by_hand"), pk="7")
    await until(lambda: bus.changes, "the change")
    assert [(change.model, change.action, change.pk, change.tags) for change in bus.changes] == [
        ("board.item", "updated", "7", ("a",))
    ]
    assert len(bus.batches) == 3
    # Over a link that is lost before it says that the bus has it, and then over the next.
    bus.is_mute = True
    await bob.run(handler(WRITER, "by_hand"), pk="8")
    await until(lambda: len(bus.batches) == 4, "the unanswered change")
    bus.is_mute = False
    connections = len(started.sidecar.connections)
    link.cut()
    await started.link(connections)
    await until(lambda: len(bus.changes) == 2, "the change over the next link")
    assert bus.changes[-1].pk == "8"
    assert bus.batches[-1][2] == bus.batches[-2][2]


async def test_a_session_without_a_link_has_its_list_loaded(running: tuple[Board, Connection, Connection]) -> None:
    started, _, _ = running
    await asyncio.to_thread(
        started.database.execute, "INSERT INTO board_item (title, owner, rank) VALUES ('x', 'ada', 1)"
    )
    client = ReflexClient(started.workers[0])
    client.cookie = f"sessionid={started.database.sessions['ada']}"
    async with client:
        for _ in range(2):
            await client.send(handler("item_list", "live_subscribe"))
        await until(lambda: "'title': 'x'" in str(client.updates), "the list")
    assert worker_log(started).count("live lists are loaded and not live") == 1


async def test_what_is_too_much_to_wait_becomes_a_gap(running: tuple[Board, Connection, Connection]) -> None:
    started, link, _ = running
    bus = started.bus
    bob = await started.client(link, "bob").open()
    bus.is_mute = True
    await bob.run(handler(WRITER, "flood"), count=10_500)
    await until(lambda: bus.batches, "the first batch")
    bus.is_mute = False
    # The link that does not answer is lost; the next takes all that waited.
    connections = len(started.sidecar.connections)
    link.cut()
    await started.link(connections)
    await until(lambda: bus.gaps, "the gap", 30)
    # The worker held what it was asked for until the answer, and 10,000 in all.
    assert [change.pk for change in bus.changes] == list(range(10_000))
    assert bus.gaps == ["board.item"]
    assert max(len(changes) for _, _, changes in bus.batches) == 1_000


async def test_where_triggers_are_installed_signals_are_silent_and_speak_again_once_they_are_gone(
    running: tuple[Board, Connection, Connection],
) -> None:
    started, link, _ = running
    bus, database = started.bus, started.database
    ada, bob = await started.viewer(link, "ada"), await started.client(link, "bob").open()

    async def save_and_mark(title: str) -> list[str]:
        """What the worker published itself when it saved."""
        bus.forget()
        await bob.run(handler(WRITER, "add"), owner="ada", title=title, rank=1)
        await bob.run(handler(WRITER, "by_hand"), pk="mark")
        await until(lambda: [change for change in bus.changes if change.pk == "mark"], "the change behind")
        return [change.action for change in bus.changes if change.pk != "mark"]

    assert await save_and_mark("before") == ["created"]
    await asyncio.to_thread(database.manage, "install board.item")
    # Seen within 5 s.
    saves = 0
    while await save_and_mark(f"with {saves}"):
        saves += 1
        assert saves < 1_000
    database.execute("DELETE FROM bridgehead_change")
    bus.forget()
    await bob.run(handler(WRITER, "bulk"), owner="ada", count=300)
    await bob.run(handler(WRITER, "add"), owner="ada", title="one", rank=1)
    await started.probe("bulk_done")
    written = database.outbox()
    assert len(written) == len(set(written)) == 901
    assert [action for _, action, _ in written].count("created") == 301
    assert bus.changes == []
    bus.gap()
    await until(lambda: "before" in titles(ada), "the list")
    await asyncio.to_thread(database.manage, "remove")
    # At once: that there is a trigger is never only remembered.
    assert await save_and_mark("after") == ["created"]
