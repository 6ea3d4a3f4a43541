"""What changes a user or a session is told once, after the commit, and only then."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import alogin, alogout, login, logout, update_session_auth_hash
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest
from django.test import override_settings
from django.utils import timezone

from backend import SOURCE, TESTS
from bridgehead.annotation import session_hash
from bridgehead.django import invalidate_all, invalidate_session, invalidate_user, invalidation
from bridgehead.django.snapshot import user_key
from bridgehead.keys import Keyring
from bridgehead.publisher import Publisher, channel_of
from django_site import ENGINES, MODEL_BACKEND, log_in, store
from people.models import Customer, Person, PersonProxy
from redis_server import RedisServer

SECRET = "the-secret-of-the-tests-and-of-nothing-else-1"
KEYRING = Keyring("cache", SECRET)
NAME = "people-shop"


def read(text: str) -> dict[str, Any]:
    """As a sidecar reads it."""
    kid, payload, mac = text.split(".")
    key = KEYRING.get(kid)
    assert key is not None
    assert key.sign(f"{kid}.{payload}".encode()) == mac
    body = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert isinstance(body, dict)
    assert len(body.pop("id")) >= 16
    return body


class Listener:
    """A sidecar's ear: everything that is told from now on."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, decode_responses=True)
        self._subscription = self._client.pubsub()
        self._subscription.subscribe(channel_of(NAME))
        self._next()

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + 15
        while (message := self._subscription.get_message(timeout=1)) is None:
            assert time.monotonic() < end, "nothing was told"
        return dict(message)

    def heard(self) -> list[dict[str, Any]]:
        """All that was told so far."""
        last = secrets.token_hex(8)
        invalidate_session(last)
        found = []
        while (body := read(self._next()["data"])) != {"session": session_hash(last)}:
            found.append(body)
        return found

    def close(self) -> None:
        self._subscription.close()
        self._client.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path_factory.mktemp("redis")).start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def publisher(server: RedisServer) -> Iterator[Publisher]:
    made = Publisher(server.url, KEYRING)
    yield made
    made.close()


@pytest.fixture
def told(server: RedisServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(invalidation, "_publisher", publisher)
    monkeypatch.setattr(invalidation, "_prepared", True)
    monkeypatch.setattr(invalidation, "_own_name", lambda: NAME)
    listener = Listener(server.url)
    yield listener
    listener.close()


def person(**fields: Any) -> Person:
    return Person.objects.create_user(f"{uuid.uuid4().hex}@people.example", "engine", **fields)


def of_user(user: Person) -> dict[str, Any]:
    return {"user": user_key(user)}


def of_session(key: str) -> dict[str, Any]:
    return {"session": session_hash(key)}


def request_with(key: str | None = None) -> HttpRequest:
    request = HttpRequest()
    request.session = store(key)
    return request


@pytest.fixture
def user(told: Listener) -> Person:
    made = person()
    told.heard()
    return made


def test_saving_a_user_is_told_once(told: Listener, user: Person) -> None:
    user.is_active = False
    user.save()
    assert told.heard() == [of_user(user)]
    user.save(update_fields=["is_staff", "last_login"])
    assert told.heard() == [of_user(user)]


def test_a_login_is_no_change_of_the_user(told: Listener, user: Person) -> None:
    user.last_login = timezone.now()
    user.save(update_fields=["last_login"])
    assert told.heard() == []


def test_a_new_password_is_told(told: Listener, user: Person) -> None:
    user.set_password("another")
    user.save()
    assert told.heard() == [of_user(user)]


def test_deleting_a_user_is_told_once(told: Listener, user: Person) -> None:
    gone = of_user(user)
    user.delete()
    assert told.heard() == [gone]


def test_users_deleted_together_are_told_one_by_one(told: Listener) -> None:
    keys = [person().pk for _ in range(3)]
    gone = [of_user(Person(pk=key)) for key in keys]
    told.heard()
    Person.objects.filter(pk__in=keys).delete()
    assert sorted(told.heard(), key=str) == sorted(gone, key=str)


def test_proxies_and_children_are_their_user(told: Listener, user: Person) -> None:
    PersonProxy.objects.get(pk=user.pk).save()
    assert told.heard() == [of_user(user)]
    customer = Customer.objects.create(email=uuid.uuid4().hex)
    assert told.heard() == [of_user(customer)]
    customer.save()
    assert told.heard() == [of_user(customer)]
    gone = of_user(customer)
    customer.delete()
    assert told.heard() == [gone]


def test_other_models_concern_nobody(told: Listener) -> None:
    Group.objects.create(name=uuid.uuid4().hex)
    assert told.heard() == []


def test_nothing_is_told_before_the_commit(told: Listener, user: Person) -> None:
    with transaction.atomic():
        user.save()
        assert told.heard() == []
        with transaction.atomic():
            user.save()
        assert told.heard() == []
    assert told.heard() == [of_user(user), of_user(user)]


def test_nothing_is_told_of_what_is_rolled_back(told: Listener, user: Person) -> None:
    @transaction.atomic
    def change_in_vain() -> None:
        user.save()
        log_in(user)
        user.groups.set([Group.objects.create(name=uuid.uuid4().hex)])
        raise RuntimeError("rolled back")

    with pytest.raises(RuntimeError):
        change_in_vain()
    with transaction.atomic():
        with pytest.raises(RuntimeError):
            change_in_vain()
        user.save()
    assert told.heard() == [of_user(user)]


def test_without_autocommit_it_is_told_at_once(told: Listener, user: Person) -> None:
    transaction.set_autocommit(False)
    try:
        user.save()
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert told.heard() == [of_user(user)]


def add_group(user: Person, group: Group) -> None:
    user.groups.add(group)


def add_user(user: Person, group: Group) -> None:
    group.user_set.add(user)


def add_permission(user: Person, group: Group) -> None:
    user.user_permissions.add(Permission.objects.all()[0])


@pytest.mark.parametrize("change", [add_group, add_user, add_permission])
def test_a_users_own_rights(told: Listener, user: Person, change: Callable[[Person, Group], None]) -> None:
    change(user, Group.objects.create(name=uuid.uuid4().hex))
    assert told.heard() == [of_user(user)]


def remove_group(user: Person, group: Group) -> None:
    user.groups.remove(group)


def clear_groups(user: Person, group: Group) -> None:
    user.groups.clear()


def remove_user(user: Person, group: Group) -> None:
    group.user_set.remove(user)


def clear_users(user: Person, group: Group) -> None:
    group.user_set.clear()


def grant(user: Person, group: Group) -> None:
    group.permissions.add(Permission.objects.get(codename="view_team"))


def grant_from_there(user: Person, group: Group) -> None:
    Permission.objects.get(codename="view_team").group_set.add(group)


def revoke(user: Person, group: Group) -> None:
    group.permissions.remove(Permission.objects.get(codename="add_team"))


def revoke_all(user: Person, group: Group) -> None:
    group.permissions.clear()


def revoke_from_there(user: Person, group: Group) -> None:
    Permission.objects.get(codename="add_team").group_set.clear()


def delete_group(user: Person, group: Group) -> None:
    group.delete()


def delete_groups(user: Person, group: Group) -> None:
    Group.objects.filter(pk=group.pk).delete()


CHANGES = [
    remove_group,
    clear_groups,
    remove_user,
    clear_users,
    grant,
    grant_from_there,
    revoke,
    revoke_all,
    revoke_from_there,
    delete_group,
    delete_groups,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("members", [1, 3])
def test_a_groups_rights_are_its_users(told: Listener, change: Callable[[Person, Group], None], members: int) -> None:
    Group.objects.all().delete()
    group = Group.objects.create(name=uuid.uuid4().hex)
    group.permissions.add(Permission.objects.get(codename="add_team"))
    users = [person() for _ in range(members)]
    group.user_set.add(*users)
    told.heard()
    change(users[0], group)
    expected = users[:1] if change in (remove_group, clear_groups, remove_user) else users
    assert sorted(told.heard(), key=str) == sorted(map(of_user, expected), key=str)


def test_a_large_group_is_everybody(told: Listener) -> None:
    group = Group.objects.create(name=uuid.uuid4().hex)
    users = Person.objects.bulk_create([Person(email=uuid.uuid4().hex) for _ in range(101)])
    group.user_set.add(*users)
    assert told.heard() == [{"all": True}]
    group.permissions.add(Permission.objects.get(codename="view_team"))
    assert told.heard() == [{"all": True}]
    group.delete()
    assert told.heard() == [{"all": True}]


def test_a_permission_that_is_deleted_is_everybodys(told: Listener) -> None:
    kept = Permission.objects.get(codename="view_team")
    made = Permission.objects.create(codename=uuid.uuid4().hex, name="x", content_type=kept.content_type)
    assert told.heard() == []
    made.delete()
    assert told.heard() == [{"all": True}]


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.rpartition(".")[2])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    with override_settings(SESSION_ENGINE=request.param):
        yield request.param


def test_a_login_and_a_logout_are_told_by_their_session(told: Listener, user: Person, engine: str) -> None:
    request = request_with()
    login(request, user, backend=MODEL_BACKEND)
    request.session.save()
    key = request.session.session_key
    assert told.heard() == [of_session(key)]
    again = request_with(key)
    again.user = user
    logout(again)
    assert told.heard() == [of_session(key)]


def test_the_same_in_an_event_loop(told: Listener, user: Person, engine: str) -> None:
    async def work() -> str:
        request = request_with()
        await alogin(request, user, backend=MODEL_BACKEND)
        await request.session.asave()
        key = str(request.session.session_key)
        assert await sync_to_async(told.heard)() == [of_session(key)]
        again = request_with(key)
        await alogout(again)
        return key

    key = asyncio.run(work())
    assert told.heard() == [of_session(key)]


def test_a_logout_that_is_cancelled_meanwhile_is_told(
    told: Listener, user: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = log_in(user)
    told.heard()
    reached, go_on = threading.Event(), threading.Event()
    original = Session.delete

    def delete(row: Session, **named: Any) -> Any:
        deleted = original(row, **named)
        reached.set()
        go_on.wait(15)
        return deleted

    monkeypatch.setattr(Session, "delete", delete)

    async def work() -> None:
        leaving = asyncio.create_task(alogout(request_with(key)))
        assert await asyncio.to_thread(reached.wait, 15)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        go_on.set()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))

    asyncio.run(work())
    assert not Session.objects.filter(pk=key).exists()
    assert told.heard() == [of_session(key)]


def test_what_an_async_write_raises_is_raised(told: Listener, user: Person) -> None:
    session = store(log_in(user))
    told.heard()
    Session.objects.all().delete()
    told.heard()
    with pytest.raises(UpdateError):
        asyncio.run(session.asave())
    assert told.heard() == []


def test_data_in_a_session_is_nobodys_business(told: Listener, user: Person) -> None:
    key = log_in(user)
    told.heard()
    session = store(key)
    session["cart"] = [1, 2, 3]
    session.save()
    session["cart"] = []
    session.save()
    asyncio.run(session.asave())
    assert told.heard() == []


def test_another_user_in_the_same_session_is_told(told: Listener, user: Person) -> None:
    key = log_in(user)
    told.heard()
    session = store(key)
    session["_auth_user_id"] = str(person().pk)
    told.heard()
    session.save()
    assert told.heard() == [of_session(key)]


def test_an_emptied_session_is_told_even_if_nobody_read_it(told: Listener, user: Person) -> None:
    key = log_in(user)
    told.heard()
    session = store(key)
    session.clear()
    session.save()
    assert told.heard() == [of_session(key)]


def test_a_session_without_a_user_is_not_worth_telling(told: Listener) -> None:
    session = store()
    session["cart"] = [1]
    session.save()
    assert told.heard() == []


def test_a_new_key_ends_the_old_one(told: Listener, user: Person) -> None:
    key = log_in(user)
    told.heard()
    request = request_with(key)
    request.user = user
    update_session_auth_hash(request, user)
    request.session.save()
    assert of_session(key) in told.heard()


def test_sessions_deleted_by_their_model_are_told(told: Listener, user: Person) -> None:
    keys = [log_in(user) for _ in range(2)]
    told.heard()
    Session.objects.get(pk=keys[0]).delete()
    assert told.heard() == [of_session(keys[0])]
    Session.objects.filter(pk=keys[1]).delete()
    assert told.heard() == [of_session(keys[1])]


def test_expired_sessions_are_cleared_in_silence(told: Listener, user: Person) -> None:
    keys = [log_in(user) for _ in range(3)]
    Session.objects.filter(pk__in=keys[:2]).update(expire_date=timezone.now() - timedelta(days=1))
    told.heard()
    type(store()).clear_expired()
    assert told.heard() == []
    assert list(Session.objects.filter(pk__in=keys).values_list("pk", flat=True)) == [keys[2]]


def test_a_session_in_a_transaction_waits_for_its_commit(told: Listener, user: Person) -> None:
    key = log_in(user)
    told.heard()
    with transaction.atomic():
        store(key).flush()
        async_to_sync(store(log_in(user)).adelete)()
        assert told.heard() == []
    assert len(told.heard()) >= 2


def test_what_signals_do_not_see_can_be_told(told: Listener, user: Person) -> None:
    Person.objects.filter(pk=user.pk).update(is_staff=True)
    assert told.heard() == []
    invalidate_user(user)
    invalidate_user(user.pk)
    invalidate_user(str(user.pk))
    invalidate_all()
    with transaction.atomic():
        invalidate_user(user, using="default")
        assert told.heard() == [of_user(user)] * 3 + [{"all": True}]
    assert told.heard() == [of_user(user)]


def test_redis_may_be_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = RedisServer(tmp_path)
    publisher = Publisher(server.url, KEYRING)
    monkeypatch.setattr(invalidation, "_publisher", publisher)
    monkeypatch.setattr(invalidation, "_prepared", True)
    monkeypatch.setattr(invalidation, "_own_name", lambda: NAME)
    began = time.monotonic()
    user = person()
    for _ in range(20):
        invalidate_user(user)
    assert time.monotonic() - began < 2
    server.start()
    listener = None
    try:
        listener = Listener(server.url)
        user.save()
        assert of_user(user) in listener.heard()
    finally:
        publisher.close()
        if listener is not None:
            listener.close()
        server.stop()


def test_more_than_it_can_hold_becomes_everything(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridgehead.publisher._MAX_WAITING", 5)
    is_there = threading.Event()
    send, bodies = Publisher._sent, list[dict[str, Any]]()

    def slowly(self: Publisher, channel: str, text: str) -> bool:
        is_there.wait(15)
        time.sleep(0.1)
        assert send(self, channel, text)
        bodies.append(read(text))
        return True

    monkeypatch.setattr(Publisher, "_sent", slowly)
    publisher = Publisher(server.url, KEYRING)
    for number in range(50):
        publisher.publish(NAME, {"id": secrets.token_urlsafe(12), "user": f"people.person:{number}"})
    is_there.set()
    # A process that ends says this, too.
    publisher.close()
    assert bodies[-1] == {"all": True}
    assert len(bodies) <= 8


COMMAND = """
import django_site
from people.models import Person
Person.objects.create_user("cron@people.example", "engine")
"""


def run_command(**environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("BRIDGEHEAD_", "REDIS_"))}
    path = os.pathsep.join((str(TESTS), str(SOURCE)))
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        env={**clean, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_process_without_links_tells_it_over_redis_before_it_ends(server: RedisServer, told: Listener) -> None:
    run_command(BRIDGEHEAD_SECRET=SECRET, BRIDGEHEAD_NAME=NAME, REDIS_URL=server.url)
    bodies = told.heard()
    assert len(bodies) == 1
    assert bodies[0]["user"].startswith("people.person:")


@pytest.mark.parametrize(
    ("environment", "missing"),
    [({}, "BRIDGEHEAD_SECRET"), ({"BRIDGEHEAD_SECRET": SECRET}, "REDIS_URL (or BRIDGEHEAD_REDIS_URL)")],
)
def test_without_redis_it_is_said_once(environment: dict[str, str], missing: str) -> None:
    assert run_command(**environment).count(f"{missing} is not set") == 1
