"""Publishing from processes that have no link: into the outbox, over Redis, over the HTTP API, or with one warning."""

from __future__ import annotations

import asyncio
import http.server
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

import bridgehead
from board import Database, Databases, in_django, python, start
from bridgehead.live import ChangeError, courier, publishing
from bridgehead.live.change import Change
from bridgehead.live.courier import Courier, Refused
from bridgehead.live.worker import LiveChanges
from bridgehead.settings import Settings
from redis_server import RedisServer

KEY = "the-key-of-the-tests"


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    made = Databases()
    yield made
    made.stop()


@pytest.fixture
def database(databases: Databases) -> Database:
    return databases.make()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


class Admin:
    """As much of a sidecar's admin listener as a publisher meets. `answers` are given first, then 202."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.answers: list[int] = []
        admin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                admin.requests.append((self.path, dict(self.headers), body))
                status = admin.answers.pop(0) if admin.answers else 202
                answer = json.dumps({"error": {"code": "x", "message": f"because of {status}"}}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environment = {
            "BRIDGEHEAD_API_URL": f"http://127.0.0.1:{self._server.server_address[1]}/",
            "BRIDGEHEAD_API_KEY": KEY,
        }

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def admin() -> Iterator[Admin]:
    server = Admin()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "db.sqlite3"
    python(["-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"], TEST_DATABASE=str(file))
    return file


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> dict[str, str]:
    """The board app on SQLite, where nothing of PostgreSQL helps."""
    return {"TEST_DATABASE": str(shutil.copy(sqlite_template, tmp_path))}


class TestTriggers:
    def test_installing_is_idempotent_and_can_be_looked_at_before(self, database: Database) -> None:
        text, before = database.manage("install --dry-run", "status")
        assert "CREATE TABLE IF NOT EXISTS bridgehead_change" in text
        assert """SELECT bridgehead_track('"board_item"'::regclass, 'board.item');""" in text
        assert before.splitlines() == [
            "outbox: not installed",
            "board.card: not tracked",
            "board.item: not tracked",
            "board.order: not tracked",
        ]
        # What was printed is what is run.
        database.execute(text)
        database.execute("ALTER TABLE board_card DISABLE TRIGGER bridgehead_insert")
        tracked = ["board.card: disabled", "board.item: tracked", "board.order: tracked"]
        untracked = ["board.card: disabled", "board.item: not tracked", "board.order: tracked"]
        gone = ["outbox: not installed", *(line.partition(":")[0] + ": not tracked" for line in tracked)]
        said = database.manage(
            "status",
            "install board.Item",
            "install board.itemproxy",
            "remove board.item",
            "status",
            "install",
            "status",
        )
        assert [text.splitlines()[1:] for text in said] == [
            tracked,
            tracked,
            tracked,
            untracked,
            untracked,
            ["board.card: tracked", *tracked[1:]],
            ["board.card: tracked", *tracked[1:]],
        ]
        said = database.manage("remove", "remove", "remove board.item", "status")
        assert said[0].splitlines() == said[1].splitlines() == said[3].splitlines() == gone
        assert database.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'bridgehead%'") == []

    def test_what_cannot_be_tracked_is_refused_with_a_reason(self, database: Database, sqlite: dict[str, str]) -> None:
        composite, unknown, no_label, second, after = database.manage(
            "install board.Seat", "install board.nothing", "install board", "install auth.user board.Seat", "status"
        )
        assert "composite primary key" in composite
        assert "composite primary key" in second
        assert "is no model" in unknown
        assert "is no model" in no_label
        assert "outbox: not installed" in after
        done = python(["-m", "django", "bridgehead_triggers", "install"], fails=True, **sqlite)
        assert "triggers need PostgreSQL" in done.stderr
        assert "Traceback" not in done.stderr

    def test_nothing_is_half_installed(self, database: Database) -> None:
        database.execute("ALTER TABLE board_order DROP CONSTRAINT board_order_pkey")
        (said,) = database.manage("install")
        assert "error: nothing was changed" in said
        assert database.execute("SELECT to_regclass('bridgehead_change') IS NULL") == [(True,)]

    def test_every_way_to_write_is_seen_once_and_only_when_it_is_committed(self, database: Database) -> None:
        database.manage("install board.item")
        python(
            in_django(
                "from django.db import connection, transaction\n"
                "item = Item.objects.create(owner='ada', title='saved')\n"
                "item.rank = 2; item.save()\n"
                "Item.objects.bulk_create([Item(owner='ada', title=f'b{n}') for n in range(3)])\n"
                "Item.objects.filter(title__startswith='b').update(rank=7)\n"
                "connection.cursor().execute('UPDATE board_item SET rank = 8 WHERE id = 4')\n"
                "ItemProxy.objects.get(pk=2).delete()\n"
                "try:\n"
                "    with transaction.atomic():\n"
                "        Item.objects.all().delete()\n"
                "        bridgehead.publish(item, 'updated')\n"
                "        1 / 0\n"
                "except ZeroDivisionError: pass\n"
                "with transaction.atomic():\n"
                "    bridgehead.publish('board.card', 'updated', 'by hand')\n"
                "    Card.objects.create(id='6f9619ff-8b86-d011-b42d-00c04fc964ff', text='not tracked')\n"
                "SpecialItem.objects.create(owner='bob', title='child', colour='red')\n"
            ),
            **database.environment,
        )
        database.execute("UPDATE board_item SET rank = 9 WHERE id = 1")
        assert sorted(database.outbox()) == sorted(
            [
                ("board.item", "created", "1"),
                ("board.item", "updated", "1"),
                *(("board.item", "created", str(n)) for n in (2, 3, 4)),
                *(("board.item", "updated", str(n)) for n in (2, 3, 4)),
                ("board.item", "updated", "4"),
                ("board.item", "deleted", "2"),
                ("board.card", "updated", "by hand"),
                ("board.card", "created", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
                ("board.item", "created", "5"),
                ("board.item", "updated", "1"),
            ]
        )

    def test_async_code_writes_into_the_outbox_too(self, database: Database) -> None:
        database.manage("install board.item")
        python(
            in_django(
                "import asyncio\n"
                "async def work():\n"
                "    bridgehead.publish('board.order', 'updated', 2**53)\n"
                "    await Order.objects.acreate(tenant='acme')\n"
                "    bridgehead.push('all', toast='hi')\n"
                "asyncio.run(work())\n"
            ),
            **database.environment,
        )
        assert sorted(database.outbox())[1:] == [
            ("board.order", "created", "1"),
            ("board.order", "updated", "9007199254740992"),
        ]
        assert database.execute("SELECT tags FROM bridgehead_change WHERE action = 'created'") == [(["tenant:acme"],)]
        ((push,),) = database.execute("SELECT pk FROM bridgehead_change WHERE action = 'push'")
        assert json.loads(push)["push"].items() >= {"to": {"all": True}, "toast": "hi"}.items()
        assert json.loads(push)["deployment"] == "default"

    def test_an_outbox_that_may_not_be_written_to_costs_no_transaction(
        self, database: Database, redis_server: RedisServer
    ) -> None:
        database.manage("install board.item")
        database.execute("CREATE ROLE weak LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO weak")
        database.execute(
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO weak; REVOKE ALL ON bridgehead_change FROM weak"
        )
        heard = hear(redis_server, "bridgehead:default:changes")
        url = database.environment["TEST_POSTGRES"].replace("board@", "weak@")
        python(in_django("Card.objects.create(text='x')"), TEST_POSTGRES=url, REDIS_URL=redis_server.url)
        assert database.execute("SELECT text FROM board_card") == [("x",)]
        assert [change["model"] for change in heard(1)] == ["board.card"]


SEVERAL = """
from django.conf import settings
here = settings.DATABASES["default"]
settings.DATABASES["apart"] = {**here, "NAME": os.environ["TEST_APART"]}
settings.DATABASES["nowhere"] = {**here, "NAME": "nowhere"}
class Router:
    def db_for_write(self, model, **hints):
        return {"card": "apart", "order": "nowhere"}.get(model._meta.model_name)
settings.DATABASE_ROUTERS = [Router()]
django.setup()
from bridgehead.live import outbox
from bridgehead.live.change import Change
def tell(*models, **where):
    changes = [Change(f"board.{model}", "updated", "1") for model in models]
    try:
        return outbox.write_apart(changes, [], **where)
    except Exception as error:
        return type(error).__name__
"""


class TestSeveralDatabases:
    """Items are in the one with an outbox, cards in one that has none, and orders' cannot be reached."""

    @pytest.fixture
    def told(self, databases: Databases, database: Database) -> Callable[[str], Any]:
        database.manage("install")
        environment = {**database.environment, "TEST_APART": databases.make().name}

        def run(code: str, **more: str) -> Any:
            done = python(["-c", f"import django, os\n{SEVERAL}{code}"], **environment, **more)
            return done.stdout.split()

        return run

    @pytest.mark.parametrize("models", ["item card", "card item", "order card item", "card order item"])
    def test_an_outbox_takes_all_in_whatever_order(
        self, database: Database, told: Callable[..., Any], models: str
    ) -> None:
        assert told(f"print(tell(*{models.split()}))") == ["True"]
        assert [model for model, _, _ in database.outbox()] == [f"board.{model}" for model in models.split()]

    def test_what_has_none_of_its_own_is_not_given_to_others_first(
        self, database: Database, told: Callable[..., Any]
    ) -> None:
        code = "print(tell('card'), tell('order'), tell('card', anywhere=True), tell('order', anywhere=True))"
        assert told(code) == ["False", "OperationalError", "True", "True"]
        assert [model for model, _, _ in database.outbox()] == ["board.card", "board.order"]

    def test_a_change_without_another_way_is_told_there(
        self, database: Database, told: Callable[..., Any], admin: Admin
    ) -> None:
        publish = "import bridgehead\nbridgehead.publish('board.card', 'updated', 1)"
        told(publish)
        assert database.outbox() == [("board.card", "updated", "1")]
        told(publish, **admin.environment)
        assert len(database.outbox()) == 1
        assert [body["changes"][0]["model"] for _, _, body in admin.requests] == ["board.card"]


def hear(server: RedisServer, channel: str) -> Callable[[int], list[dict[str, Any]]]:
    """Subscribe; gives what waits for so many changes."""
    subscription = redis.Redis.from_url(server.url, decode_responses=True).pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(channel)
    subscription.get_message(timeout=5)

    def changes(count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        end = time.monotonic() + 15
        while len(found) < count:
            assert time.monotonic() < end, found
            if message := subscription.get_message(timeout=0.2):
                found += json.loads(message["data"])["changes"]
        return found

    return changes


SAVES = """
from django.db import transaction
Item.objects.create(owner='ada', title='x')
try:
    with transaction.atomic():
        Item.objects.create(owner='ada', title='rolled back')
        bridgehead.publish('board.item', 'updated', 99)
        1 / 0
except ZeroDivisionError: pass
order = Order.objects.create(tenant='acme')
order.tenant = 'other'; order.save()
order.delete()
"""


class TestRedis:
    @pytest.mark.parametrize("bus", ["", "redis"])
    def test_the_channel_gets_what_is_committed(
        self, sqlite: dict[str, str], redis_server: RedisServer, bus: str
    ) -> None:
        heard = hear(redis_server, "bridgehead:shop:changes")
        environment = sqlite | {"BRIDGEHEAD_LIVE_BUS": bus, "BRIDGEHEAD_NAME": "shop", "REDIS_URL": redis_server.url}
        python(in_django(SAVES), **environment)
        changes = heard(4)
        assert [(c["model"], c["action"], c["pk"], c.get("tags")) for c in changes] == [
            ("board.item", "created", 1, None),
            ("board.order", "created", 1, ["tenant:acme"]),
            # Those who show it under its old tag hear that it left.
            ("board.order", "updated", 1, ["tenant:other", "tenant:acme"]),
            ("board.order", "deleted", 1, ["tenant:other"]),
        ]
        assert len({change["id"] for change in changes}) == 4

    def test_the_stream_gets_messages_as_sidecars_read_them(
        self, sqlite: dict[str, str], redis_server: RedisServer
    ) -> None:
        environment = {"BRIDGEHEAD_LIVE_BUS": "redis-streams", "BRIDGEHEAD_REDIS_URL": redis_server.url}
        python(
            in_django("for n in range(250): bridgehead.publish('board.item', 'updated', n)"), **sqlite, **environment
        )
        entries = redis.Redis.from_url(redis_server.url, decode_responses=True).xrange("bridgehead:default:stream")
        messages = [json.loads(fields["message"])["changes"] for _, fields in entries]
        assert [change["pk"] for message in messages for change in message] == list(range(250))
        assert max(map(len, messages)) <= 100

    def test_changes_wait_for_a_redis_that_is_away(self, sqlite: dict[str, str], tmp_path: Path) -> None:
        server = RedisServer(tmp_path)
        # Without a client that hears it, the stream keeps it.
        process = start(
            in_django("bridgehead.publish('board.item', 'updated', 1)\ninput()"),
            **sqlite,
            BRIDGEHEAD_LIVE_BUS="redis-streams",
            REDIS_URL=server.url,
        )
        assert process.stderr is not None
        try:
            assert "changes cannot be delivered" in next(line for line in process.stderr if "changes" in line)
            server.start()
            process.communicate("\n", timeout=30)
            assert redis.Redis.from_url(server.url).xlen("bridgehead:default:stream") == 1
        finally:
            process.kill()
            process.wait()
            server.stop()

    def test_pushes_go_over_the_bus_where_there_is_no_api_and_never_before_the_commit(
        self, sqlite: dict[str, str], redis_server: RedisServer
    ) -> None:
        code = (
            "from django.db import transaction\n"
            "try:\n"
            "    with transaction.atomic():\n"
            "        bridgehead.push('all', toast='rolled back'); 1 / 0\n"
            "except ZeroDivisionError: pass\n"
            "bridgehead.push({'group': 'editors'}, script='1 + 1')"
        )
        python(in_django(code), **sqlite, BRIDGEHEAD_LIVE_BUS="redis-streams", REDIS_URL=redis_server.url)
        entries = redis.Redis.from_url(redis_server.url, decode_responses=True).xrange("bridgehead:default:stream")
        (push,) = (json.loads(fields["message"])["push"] for _, fields in entries)
        assert push.items() >= {"to": {"group": "editors"}, "script": "1 + 1"}.items()
        assert push["id"]
        assert type(push["at"]) is int


class TestHttp:
    def test_the_api_gets_it_once_however_often_it_must_be_asked(self, sqlite: dict[str, str], admin: Admin) -> None:
        admin.answers = [503, 500]
        python(in_django(SAVES), **sqlite, **admin.environment, BRIDGEHEAD_LIVE_BUS="memory", REDIS_URL="redis://x")
        keys = [headers["Idempotency-Key"] for _, headers, _ in admin.requests]
        assert keys[0] == keys[1] == keys[2]
        told = [body["changes"] for _, _, body in admin.requests[2:]]
        changes = [change for batch in told for change in batch]
        assert [(change["model"], change["action"]) for change in changes] == [
            ("board.item", "created"),
            ("board.order", "created"),
            ("board.order", "updated"),
            ("board.order", "deleted"),
        ]
        assert {path for path, _, _ in admin.requests} == {"/api/publish"}
        assert {headers["Authorization"] for _, headers, _ in admin.requests} == {f"Bearer {KEY}"}

    def test_what_is_refused_is_told_with_the_reason_and_never_with_the_key(
        self, sqlite: dict[str, str], admin: Admin
    ) -> None:
        admin.answers = [401]
        done = python(in_django("bridgehead.publish('board.item', 'updated', 1)"), **sqlite, **admin.environment)
        assert "1 changes were refused" in done.stderr
        assert "answers 401: because of 401" in done.stderr
        assert KEY not in done.stderr
        assert len(admin.requests) == 1

    def test_pushes(self, sqlite: dict[str, str], admin: Admin) -> None:
        admin.answers = [503]
        python(
            in_django(
                "bridgehead.push('all', toast='Closing soon')\n"
                "bridgehead.push({'user': 42}, event='shop.orders.Orders.paid', payload={'order': 7})\n"
                "bridgehead.push({'path': '/order'}, redirect='/thanks')\n"
            ),
            **sqlite,
            **admin.environment,
        )
        assert [(path, body) for path, _, body in admin.requests[1:]] == [
            ("/api/push", {"to": {"all": True}, "toast": "Closing soon"}),
            ("/api/push", {"to": {"user": 42}, "event": {"name": "shop.orders.Orders.paid", "payload": {"order": 7}}}),
            ("/api/push", {"to": {"path": "/order"}, "redirect": "/thanks"}),
        ]
        assert admin.requests[0][1]["Idempotency-Key"] == admin.requests[1][1]["Idempotency-Key"]


def test_without_any_way_one_line_says_so(sqlite: dict[str, str]) -> None:
    done = python(in_django(f"{SAVES}\nbridgehead.push('all', toast='x')\nbridgehead.push('all', toast='y')"), **sqlite)
    assert done.stderr.count("changes made in this process are not published") == 1
    assert done.stderr.count("nothing is pushed") == 1
    assert "Traceback" not in done.stderr


def test_a_composite_key_cannot_be_registered(sqlite: dict[str, str]) -> None:
    code = in_django("from bridgehead.live import register\nregister(Seat)")
    assert "board.Seat has a composite primary key and cannot be live" in python(code, fails=True, **sqlite).stderr


def test_what_is_no_change_is_refused_where_it_is_said() -> None:
    for arguments in (
        ("shop.product", "changed", 1),
        ("product", "updated", 1),
        ("shop.product", "updated", None),
        ("shop.product", "updated", (1, 2)),
        (object(), "updated", 1),
    ):
        with pytest.raises(ChangeError):
            bridgehead.publish(*arguments)
    with pytest.raises(ChangeError):
        bridgehead.publish("shop.product", "updated", 1, tags="tenant:acme")


@pytest.mark.parametrize(
    ("to", "what"),
    [
        ("everybody", {"toast": "x"}),
        ({}, {"toast": "x"}),
        ({"user": 1, "path": "/"}, {"toast": "x"}),
        ({"sessions": 1}, {"toast": "x"}),
        ("all", {}),
        ("all", {"toast": "x", "redirect": "/"}),
        ("all", {"payload": {}, "toast": "x"}),
    ],
)
def test_what_is_no_push_is_refused_where_it_is_said(to: Any, what: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"to is|give one"):
        bridgehead.push(to, **what)


def test_settings_of_a_publisher() -> None:
    read = Settings.from_environment(
        {
            "BRIDGEHEAD_LIVE_BUS": "redis-streams",
            "BRIDGEHEAD_API_URL": "https://sidecar:8081",
            "BRIDGEHEAD_API_KEY": KEY,
        }
    )
    assert (read.live_bus, read.api_url, read.api_key) == ("redis-streams", "https://sidecar:8081", KEY)
    assert KEY not in repr(read)
    wrong = Settings.from_environment({"BRIDGEHEAD_LIVE_BUS": "kafka", "BRIDGEHEAD_API_URL": "sidecar:8081"})
    assert (wrong.live_bus, wrong.api_url) == (None, None)


class TestCourier:
    def test_it_keeps_the_order_and_tries_again(self) -> None:
        taken: list[int] = []
        failures = iter([True, False, True])

        def deliver(items: list[int]) -> None:
            if next(failures, False):
                raise OSError("not now")
            taken.extend(items)

        carrying = Courier("things", deliver, at_once=7)
        for item in range(50):
            carrying.put(item)
        carrying.close()
        assert taken == list(range(50))

    def test_what_is_refused_holds_nothing_up(self) -> None:
        taken: list[int] = []

        def deliver(items: list[int]) -> None:
            if items == [1]:
                raise Refused("no")
            taken.extend(items)

        carrying = Courier("things", deliver, at_once=1)
        for item in range(4):
            carrying.put(item)
        carrying.close()
        assert taken == [0, 2, 3]

    def test_too_many_become_one_thing_that_comes_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(courier, "MAX_WAITING", 10)
        gate = threading.Event()
        taken: list[int] = []

        def deliver(items: list[int]) -> None:
            gate.wait(10)
            taken.extend(items)

        carrying = Courier("things", deliver, at_once=3, overflowed=lambda item: -1)
        for item in range(100):
            carrying.put(item)
        gate.set()
        carrying.close()
        assert taken == [*range(10), -1]


@given(st.lists(st.integers(), max_size=30), st.integers(1, 5))
def test_a_courier_delivers_everything_in_order(items: list[int], at_once: int) -> None:
    taken: list[int] = []
    carrying = Courier("things", taken.extend, at_once=at_once)
    for item in items:
        carrying.put(item)
    carrying.close()
    assert taken == items


def test_what_is_on_its_way_when_a_worker_stops_goes_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rest: list[Any] = []
    monkeypatch.setattr(publishing, "send_rest", lambda changes, gaps: rest.extend([*changes, *gaps]))
    change = Change("nowhere.thing", "updated", "1")

    async def work() -> None:
        live = LiveChanges(uses_django=False)
        assert live.publish(change)
        assert live.publish_gap("nowhere.thing")
        await live.close()
        await asyncio.sleep(0)
        assert not live.publish(change)
        assert not live.publish_gap("nowhere.thing")

    asyncio.run(work())
    assert rest == [change, "nowhere.thing"]


def test_publishing_in_an_event_loop_without_django_never_waits() -> None:
    async def work() -> None:
        bridgehead.publish("nowhere.thing", "updated", 1)

    asyncio.run(work())
