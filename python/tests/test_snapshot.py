"""A user travels and comes back the same, or field by field not at all."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from bridgehead.django import snapshot
from django_site import MODEL_BACKEND
from people.models import Person, PersonProxy, Team

UTC = datetime.UTC
SECRETS = {"password", "api_token", "otp_secret"}
TRAVELS = {field.attname for field in Person._meta.concrete_fields} - SECRETS - {"id"}

people = st.builds(
    Person,
    id=st.uuids(),
    password=st.text(max_size=20),
    email=st.text(max_size=300),
    is_active=st.booleans(),
    is_staff=st.booleans(),
    is_superuser=st.booleans(),
    bio=st.text(max_size=300),
    team_id=st.none() | st.text(max_size=10),
    number=st.integers(-(2**63), 2**63 - 1),
    score=st.floats(),
    balance=st.decimals(),
    born=st.none() | st.dates(),
    seen=st.none() | st.datetimes(timezones=st.sampled_from([UTC, datetime.timezone(datetime.timedelta(hours=5.5))])),
    last_login=st.none() | st.datetimes(timezones=st.just(UTC)),
    wakes=st.none() | st.times(),
    away=st.none() | st.timedeltas(),
    badge=st.none() | st.uuids(),
    address=st.none() | st.ip_addresses().map(str),
    settings=st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    raw=st.binary(max_size=10),
)


@given(people)
def test_what_comes_back_is_the_same_or_deferred(person: Person) -> None:
    made = snapshot.make(person, MODEL_BACKEND, "hash")
    text = json.dumps(made, allow_nan=False)
    assert len(json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode()) <= snapshot.MAX_BYTES
    assert all(not isinstance(value, str) or len(value) <= 256 for value in made["f"].values())
    with CaptureQueriesContext(connection) as queries:
        back = snapshot.restore(json.loads(text))
    assert len(queries) == 0
    assert type(back) is Person
    assert (back.pk, type(back.pk), back.backend) == (person.pk, uuid.UUID, MODEL_BACKEND)
    assert (back._state.adding, back._state.db) == (False, "default")
    assert back.is_authenticated
    loaded = set(back.__dict__) & {field.attname for field in Person._meta.concrete_fields}
    assert loaded == set(made["f"]) | {"id"}
    assert not loaded & SECRETS
    assert back.get_deferred_fields() >= SECRETS
    for name in loaded:
        assert back.__dict__[name] == person.__dict__[name]
        assert type(back.__dict__[name]) is type(person.__dict__[name])


def test_every_kind_of_field_travels() -> None:
    person = Person(
        email="ada@people.example",
        bio="short",
        team_id="blue",
        number=7,
        score=1.5,
        balance=Decimal("12.30"),
        born=datetime.date(1815, 12, 10),
        seen=datetime.datetime(2026, 11, 20, 19, 0, 0, 123456, tzinfo=UTC),
        wakes=datetime.time(6, 30),
        away=datetime.timedelta(days=2, seconds=5),
        badge=uuid.uuid4(),
        address="10.0.0.1",
    )
    made = snapshot.make(person, MODEL_BACKEND, "hash")
    assert TRAVELS - set(made["f"]) <= {"settings", "picture", "raw"}
    assert made["f"]["seen"] == "2026-11-20T19:00:00.123456+00:00"
    assert (made["f"]["balance"], made["f"]["team_id"], made["f"]["last_login"]) == ("12.30", "blue", None)


def test_what_is_too_long_stays_and_a_large_user_is_cut() -> None:
    person = Person(email="a" * 200, bio="x" * 257)
    assert "bio" not in snapshot.make(person, MODEL_BACKEND, "h")["f"]
    names = [f"extra_{index}" for index in range(10)]
    person.bio = "🌉" * 256
    person.team_id, person.address = "ü" * 256, "y" * 256
    made = snapshot.make(person, MODEL_BACKEND, "h")
    assert set(made["f"]) == {"is_active", "is_staff", "is_superuser", "email"}
    assert names


def test_only_chosen_fields_travel_and_the_flags_that_rules_are_judged_by(settings_fields: None) -> None:
    made = snapshot.make(Person(is_active=False, is_staff=True), MODEL_BACKEND, "h")
    assert set(made["f"]) == {"email", "is_active", "is_staff", "is_superuser"}
    assert (made["f"]["is_active"], made["f"]["is_staff"], made["f"]["is_superuser"]) == (False, True, False)
    back = snapshot.restore(made)
    assert (back.is_active, back.is_staff, back.is_superuser) == (False, True, False)


def test_a_flag_that_is_no_field_travels_too(monkeypatch: pytest.MonkeyPatch) -> None:
    concrete = [field for field in snapshot._fields(Person) if field.name != "is_staff"]
    monkeypatch.setattr(snapshot, "_fields", lambda model: tuple(concrete))
    assert snapshot.make(Person(is_staff=True), MODEL_BACKEND, "h")["f"]["is_staff"] is True


def test_a_deferred_flag_travels_too() -> None:
    key = Person.objects.create_user(f"{uuid.uuid4().hex}@people.example", "x", is_active=False).pk
    user = Person.objects.defer("is_active").get(pk=key)
    assert snapshot.make(user, MODEL_BACKEND, "h")["f"]["is_active"] is False


@pytest.fixture
def settings_fields() -> Any:
    from django.test import override_settings

    with override_settings(BRIDGEHEAD_USER_FIELDS=["email", "password"]):
        snapshot._fields.cache_clear()
        yield
    snapshot._fields.cache_clear()


def test_a_deferred_field_loads_when_it_is_touched_and_only_then() -> None:
    Team.objects.get_or_create(pk="blue")
    person = Person.objects.create_user(f"{uuid.uuid4()}@x", "engine", bio="x" * 1_000, team_id="blue")
    back = snapshot.restore(snapshot.make(person, MODEL_BACKEND, "h"))
    with CaptureQueriesContext(connection) as queries:
        assert back.email == person.email
        assert back.pk == person.pk
        assert len(queries) == 0
        assert back.bio == person.bio
        assert back.bio == person.bio
        assert len(queries) == 1
        assert back.check_password("engine")
        assert back.team == person.team


async def test_it_loads_in_an_event_loop_too() -> None:
    person = await Person.objects.acreate(email=f"{uuid.uuid4()}@x", bio="x" * 1_000)
    back = snapshot.restore(snapshot.make(person, MODEL_BACKEND, "h"))
    assert back.bio == person.bio
    await back.asave(update_fields=["bio"])


def test_a_deferred_field_of_a_user_that_is_gone_says_so() -> None:
    back = snapshot.restore(snapshot.make(Person(email="gone"), MODEL_BACKEND, "h"))
    with pytest.raises(ObjectDoesNotExist):
        _ = back.api_token


def test_saving_a_handed_over_user_writes_what_it_has() -> None:
    person = Person.objects.create_user(f"{uuid.uuid4()}@x", "engine", bio="x" * 1_000)
    back = snapshot.restore(snapshot.make(person, MODEL_BACKEND, "h"))
    back.is_staff = True
    back.save()
    person.refresh_from_db()
    assert person.is_staff
    assert person.check_password("engine")
    assert person.bio == "x" * 1_000


def test_it_can_be_copied_and_pickled() -> None:
    person = Person.objects.create_user(f"{uuid.uuid4()}@x", "engine")
    back = snapshot.restore(snapshot.make(person, MODEL_BACKEND, "h"))
    for twin in (copy.deepcopy(back), pickle.loads(pickle.dumps(back))):
        assert twin == back == person
        assert twin.api_token == "never-to-travel"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["m", "id", "b", "h", "f", "x"])


@given(st.dictionaries(keys, json_values))
def test_what_is_no_user_is_refused_and_nothing_else_happens(made: dict[str, Any]) -> None:
    with pytest.raises(snapshot.SnapshotError):
        snapshot.restore(made)


@given(st.dictionaries(st.sampled_from(sorted(TRAVELS | SECRETS)), json_values))
def test_values_that_do_not_fit_are_left_to_the_database(values: dict[str, Any]) -> None:
    made = snapshot.make(Person(), MODEL_BACKEND, "h")
    back = snapshot.restore({**made, "f": values})
    assert not set(back.__dict__) & SECRETS
    assert str(back.pk) == made["id"]


def test_users_of_another_class_do_not_travel() -> None:
    with pytest.raises(snapshot.SnapshotError):
        snapshot.make(PersonProxy(email="a"), MODEL_BACKEND, "h")


def test_keys() -> None:
    person = Person()
    assert snapshot.user_key(person) == f"people.person:{person.pk}"
