"""AUTH_QUERY is answered as Django itself would, for any session engine and user model, and changes nothing."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.models import Session
from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone

from backend import free_port
from bridgehead.annotation import session_hash
from bridgehead.django import invalidate_user
from bridgehead.django.auth_source import ANSWER_SECONDS, MAX_QUERIES, AuthSource, find
from bridgehead.handover import unix_ms
from django_site import ENGINES, MODEL_BACKEND, SECRET_KEY, djangos_answer, log_in, store
from people.models import Customer, Person

ROTATED = "another-secret-key-that-the-app-has-since-today"


def person(**fields: Any) -> Person:
    return Person.objects.create_user(f"{uuid.uuid4().hex}@people.example", "engine", **fields)


def asked(cookie: str, *permissions: str) -> dict[str, Any]:
    return find(cookie, permissions)[0]


def answer(cookie: str) -> str:
    result = asked(cookie)
    return str(result["user"]["id"]) if result["kind"] == "user" else str(result["kind"])


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.rpartition(".")[2])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    with override_settings(SESSION_ENGINE=request.param):
        yield request.param


def test_a_login_is_found_with_its_fields(engine: str) -> None:
    user = person(is_staff=True, bio="short")
    began = unix_ms()
    result, at = find(log_in(user), ())
    assert began <= at <= unix_ms()
    assert (result["kind"], result["permissions"]) == ("user", [])
    made = result["user"]
    assert (made["m"], made["id"], made["b"]) == ("people.person", str(user.pk), MODEL_BACKEND)
    assert (made["f"]["email"], made["f"]["is_staff"], made["f"]["bio"]) == (user.email, True, "short")
    assert "never-to-travel" not in repr(made)
    assert "password" not in made["f"]


def test_it_says_when_the_session_ends(engine: str) -> None:
    began = unix_ms()
    result = asked(log_in(person()))
    if engine.rpartition(".")[2] in ("cache", "file"):
        assert "expires" not in result  # these engines do not tell
    else:
        assert 0 <= result["expires"] - began - settings.SESSION_COOKIE_AGE * 1_000 + 1_000 < 10_000
    if not engine.endswith("signed_cookies"):
        ends = timezone.now() + timedelta(minutes=5)
        result = asked(log_in(person(), _session_expiry=ends.isoformat()))
        assert abs(result["expires"] - ends.timestamp() * 1_000) < 2_000


def deactivated(user: Person, cookie: str) -> None:
    user.is_active = False
    user.save()


def deleted(user: Person, cookie: str) -> None:
    user.delete()


def password_changed(user: Person, cookie: str) -> None:
    user.set_password("another")
    user.save()


def flushed(user: Person, cookie: str) -> None:
    store(cookie).flush()


def key_cycled(user: Person, cookie: str) -> None:
    session = store(cookie)
    session.cycle_key()
    session.save()


def emptied(user: Person, cookie: str) -> None:
    session = store(cookie)
    session.clear()
    session.save()


def without_hash(user: Person, cookie: str) -> None:
    session = store(cookie)
    del session["_auth_user_hash"]
    session.save()


def with_strange_key(user: Person, cookie: str) -> None:
    session = store(cookie)
    session["_auth_user_id"] = "no-uuid"
    session.save()


def untouched(user: Person, cookie: str) -> None:
    pass


CHANGES = [
    (untouched, True),
    (deactivated, False),
    (deleted, False),
    (password_changed, False),
    (flushed, False),
    (key_cycled, False),
    (emptied, False),
    (without_hash, False),
]


@pytest.mark.parametrize(("change", "stays"), CHANGES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_what_happens_to_a_session_shows(engine: str, change: Callable[[Person, str], None], stays: bool) -> None:
    user = person()
    cookie = log_in(user)
    pk = str(user.pk)
    change(user, cookie)
    if engine.endswith("signed_cookies") and change not in (deactivated, deleted, password_changed):
        stays = True  # The old cookie holds the old session: nobody can take that back.
    assert answer(cookie) == (pk if stays else "anonymous")
    assert djangos_answer(cookie) == (pk if stays else "anonymous")


@pytest.mark.parametrize(
    "cookie", ["", "x", "no-such-session-at-all", "a" * 4_000, "\ud800", "ü🌉", "../../etc/passwd"]
)
def test_nonsense_is_anonymous(engine: str, cookie: str) -> None:
    assert asked(cookie) == {"kind": "anonymous"}


def test_a_key_that_is_none_is_anonymous() -> None:
    cookie = log_in(person())
    with_strange_key(person(), cookie)
    assert asked(cookie) == {"kind": "anonymous"}


def test_an_expired_session_is_anonymous() -> None:
    cookie = log_in(person())
    Session.objects.filter(pk=cookie).update(expire_date=timezone.now() - timedelta(seconds=1))
    assert answer(cookie) == djangos_answer(cookie) == "anonymous"


def test_a_session_without_a_user_is_anonymous(engine: str) -> None:
    session = store()
    session["cart"] = [1]
    session.save()
    assert asked(session.session_key) == {"kind": "anonymous"}


def test_a_backend_that_is_not_configured_is_anonymous() -> None:
    cookie = log_in(person(), backend="django.contrib.auth.backends.RemoteUserBackend")
    assert answer(cookie) == djangos_answer(cookie) == "anonymous"


def test_a_backend_that_lets_inactive_users_in_is_believed() -> None:
    backend = "django.contrib.auth.backends.AllowAllUsersModelBackend"
    user = person(is_active=False)
    with override_settings(AUTHENTICATION_BACKENDS=[backend]):
        cookie = log_in(user, backend=backend)
        assert answer(cookie) == djangos_answer(cookie) == str(user.pk)
        assert asked(cookie)["user"]["f"]["is_active"] is False


def test_a_rotated_secret_key_with_a_fallback_keeps_the_session_and_changes_nothing(engine: str) -> None:
    user = person()
    cookie = log_in(user)
    with override_settings(SECRET_KEY=ROTATED, SECRET_KEY_FALLBACKS=[SECRET_KEY]):
        assert answer(cookie) == answer(cookie) == str(user.pk)
        assert djangos_answer(cookie) == str(user.pk)


def test_a_rotated_secret_key_without_a_fallback_ends_it(engine: str) -> None:
    cookie = log_in(person())
    with override_settings(SECRET_KEY=ROTATED):
        assert answer(cookie) == "anonymous"
    # Asking deleted nothing, as a page request would have done.
    assert answer(cookie) != "anonymous"


def test_permissions_are_those_that_the_rules_name() -> None:
    user, boss = person(), person(is_superuser=True)
    group = Group.objects.create(name=uuid.uuid4().hex)
    group.permissions.add(Permission.objects.get(codename="add_team"))
    user.groups.add(group)
    user.user_permissions.add(Permission.objects.get(codename="view_team"))
    names = ("people.add_team", "people.view_team", "people.delete_team", "no.such")
    assert asked(log_in(user), *names)["permissions"] == ["people.add_team", "people.view_team"]
    assert asked(log_in(boss), *names)["permissions"] == list(names)


def test_a_child_of_the_user_model_is_its_user() -> None:
    customer = Customer.objects.create(email=f"{uuid.uuid4().hex}@x", discount=3)
    assert answer(log_in(Person.objects.get(pk=customer.pk))) == str(customer.pk)


async def source_answer(cookie: str, source: AuthSource | None = None) -> dict[str, Any]:
    return (await (source or AuthSource()).answer(cookie, ()))["result"]


async def in_thread[T](function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.to_thread(function, *arguments)


async def test_users_of_another_class_are_left_to_django() -> None:
    with override_settings(AUTHENTICATION_BACKENDS=["people.backends.ProxyBackend"]):
        cookie = await in_thread(lambda: log_in(person(), backend="people.backends.ProxyBackend"))
        assert await source_answer(cookie) == {"kind": "unavailable", "cause": "user_class"}


@contextmanager
def renamed(table: str) -> Iterator[None]:
    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")
        connections.close_all()

    rename(table, f"{table}_away")
    try:
        yield
    finally:
        rename(f"{table}_away", table)


@pytest.mark.parametrize("table", ["django_session", "people_person"])
def test_trouble_with_the_database_is_unavailable(table: str, caplog: pytest.LogCaptureFixture) -> None:
    cookie = log_in(person())
    with renamed(table), caplog.at_level(logging.DEBUG):
        assert asyncio.run(source_answer(cookie)) == {"kind": "unavailable", "cause": "database"}
    assert asyncio.run(source_answer(cookie))["kind"] == "user"
    assert cookie not in caplog.text
    assert "no such table" not in caplog.text


async def test_a_cache_that_is_down_is_unavailable() -> None:
    gone = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"redis://127.0.0.1:{free_port()}"}
    engine = "django.contrib.sessions.backends.cache"
    with override_settings(SESSION_ENGINE=engine, CACHES={"default": gone}):
        assert await source_answer("a-session-key-of-somebody") == {"kind": "unavailable", "cause": "session_store"}


async def test_a_cached_session_is_in_the_database_too_when_the_cache_is_down() -> None:
    engine = "django.contrib.sessions.backends.cached_db"
    gone = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"redis://127.0.0.1:{free_port()}"}
    with override_settings(SESSION_ENGINE=engine):
        cookie = await in_thread(lambda: log_in(person()))
        with override_settings(CACHES={"default": gone}):
            assert (await source_answer(cookie))["kind"] in ("user", "unavailable")


async def test_a_database_that_hangs_is_unavailable_in_time_and_no_more_than_so_many_wait() -> None:
    cookie = await in_thread(lambda: log_in(person()))
    source = AuthSource()
    blocker = sqlite3.connect(settings.DATABASES["default"]["NAME"], isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        began = asyncio.get_running_loop().time()
        waiting = [asyncio.create_task(source_answer(cookie, source)) for _ in range(MAX_QUERIES)]
        await asyncio.sleep(0)
        assert await source_answer(cookie, source) == {"kind": "unavailable", "cause": "busy"}
        assert await asyncio.gather(*waiting) == [{"kind": "unavailable", "cause": "timeout"}] * MAX_QUERIES
        assert asyncio.get_running_loop().time() - began < 2 * ANSWER_SECONDS
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    while (result := await source_answer(cookie, source))["kind"] != "user":
        assert result["kind"] == "unavailable"


def test_after_an_invalidation_the_primary_is_read() -> None:
    user = person()
    cookie = log_in(user)
    Session.objects.using("default").filter(pk=cookie).get().save(using="replica")
    user.save(using="replica")
    Person.objects.using("replica").filter(pk=user.pk).update(is_staff=True, last_login=None)
    from bridgehead import recent as module

    module.recent.__init__()  # type: ignore[misc]  # nothing was invalidated lately
    with override_settings(DATABASE_ROUTERS=["people.routers.ReplicaRouter"]):
        assert asked(cookie)["user"]["f"]["is_staff"] is True
        assert find(cookie, (), read_primary=True)[0]["user"]["f"]["is_staff"] is False
        assert asked(cookie)["user"]["f"]["is_staff"] is True
        invalidate_user(user)
        assert asked(cookie)["user"]["f"]["is_staff"] is False
        user.refresh_from_db(using="replica")
        assert user.is_staff is True


def test_session_hashes_are_what_the_sidecar_makes() -> None:
    assert session_hash("") == ""
    assert len(session_hash("abc")) == 22
