"""In a real worker: the user that an annotation carries is the request's, and Django is asked nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import Backend
from bridgehead.annotation import Anonymous, KnownUser
from reflex_client import NAME, SECRET, ReflexClient, state
from sidecar import Sidecar, SidecarThread
from test_handover import hydrated, label, sent

APP = "reflex___state____state.reflex_django___auth_state____django_user_state.reflex_django___states____app_state"
PEOPLE = f"{APP}.notes___people____people_state"
PLAIN, FULL, MEMBER = (state(f"{name}_state") for name in ("plain", "full", "member"))
BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(scope="module")
def sidecar() -> Iterator[SidecarThread]:
    thread = SidecarThread(Sidecar(SECRET, NAME))
    try:
        yield thread
    finally:
        thread.stop()


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory, sidecar: SidecarThread) -> Iterator[Backend]:
    worker = Backend(
        "notes",
        tmp_path_factory.mktemp("notes"),
        BRIDGEHEAD_SECRET=SECRET,
        BRIDGEHEAD_LINK_URL=f"tcp://127.0.0.1:{sidecar.sidecar.port}",
    )
    worker.make_database()
    worker.start()
    try:
        sidecar.wait_for_manifest()
        yield worker
    finally:
        worker.stop()


def ask(sidecar: SidecarThread, cookie: str, **changed: Any) -> dict[str, Any]:
    """What the worker answers to an AUTH_QUERY."""
    return sidecar.run(sidecar.sidecar.ask(cookie, **changed))


@pytest.fixture
def ada(sidecar: SidecarThread, backend: Backend) -> KnownUser:
    """The user as the worker itself describes it to the sidecar."""
    result = ask(sidecar, backend.session)["result"]
    assert result["kind"] == "user"
    return KnownUser(result["user"])


def test_the_worker_says_that_it_answers_and_what_its_user_model_is(sidecar: SidecarThread, backend: Backend) -> None:
    manifest = sidecar.wait_for_manifest()
    assert (manifest["auth"], manifest["user"]) == (True, {"model": "auth.user", "own": []})


def test_an_answer_tells_which_permissions_were_looked_for(sidecar: SidecarThread, backend: Backend) -> None:
    sidecar.set_rules(permissions=["notes.view_note"])
    try:
        result = ask(sidecar, backend.session)["result"]
        assert (result["asked"], result["permissions"]) == (["notes.view_note"], [])
        assert ask(sidecar, "no-such-session")["result"] == {"kind": "anonymous"}
    finally:
        sidecar.set_rules()
    assert ask(sidecar, backend.session)["result"]["asked"] == []


def test_a_query_finds_the_user(sidecar: SidecarThread, ada: KnownUser, backend: Backend) -> None:
    user = ada.snapshot
    assert (user["m"], user["id"], user["b"]) == ("auth.user", "1", BACKEND)
    assert len(user["h"]) == 22
    assert user["f"] == {
        "username": "ada",
        "first_name": "",
        "last_name": "",
        "email": "",
        "is_active": True,
        "is_staff": False,
        "is_superuser": False,
        "last_login": None,
        "date_joined": user["f"]["date_joined"],
    }
    assert ask(sidecar, "no-such-session")["result"] == {"kind": "anonymous"}
    assert ask(sidecar, "")["result"] == {"kind": "anonymous"}
    assert backend.session not in backend.log


@pytest.mark.parametrize("tier", ["auth_only", "full"])
@pytest.mark.parametrize("handler", [f"{MEMBER}.look", f"{FULL}.look", f"{PEOPLE}.look"])
async def test_a_handed_over_user_costs_no_query(backend: Backend, ada: KnownUser, tier: Any, handler: str) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        alone = await sent(client, handler, client.sign(handler, tier))
        seen = await sent(client, handler, client.sign(handler, tier, user=ada))
    assert alone["user"] == seen["user"] == "ada"
    assert alone["report"]["queries"] >= 2
    assert seen["report"]["queries"] == 0
    assert seen["tier"] == tier if "tier" in seen else True


async def test_the_user_is_the_one_that_django_would_have_made(backend: Backend, ada: KnownUser) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        djangos = await sent(client, f"{PEOPLE}.look", client.sign(f"{PEOPLE}.look", "full"))
        ours = await sent(client, f"{PEOPLE}.look", client.sign(f"{PEOPLE}.look", "full", user=ada))
    same = ("user", "type", "pk", "pk_type", "adding", "database", "session_key")
    assert {key: ours[key] for key in same} == {key: djangos[key] for key in same}
    assert (ours["type"], ours["pk"], ours["pk_type"], ours["same"]) == ("User", 1, "int", True)
    assert ours["backend"] == BACKEND
    assert ours["deferred"] == ["password"]
    assert ours["session_flags"] == [False, False, False]
    assert ours["cache_ttl"] == 0


@pytest.mark.parametrize("tier", ["auth_only", "full"])
async def test_what_is_deferred_loads_when_it_is_touched(backend: Backend, ada: KnownUser, tier: Any) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        seen = await sent(client, f"{PEOPLE}.touch", client.sign(f"{PEOPLE}.touch", tier, user=ada))
    assert (seen["password"], seen["email"], seen["known"], seen["deferred"]) == ("pbkdf2", "", "1", [])
    assert seen["report"]["queries"] == 2


async def test_anonymous_is_handed_over_too(backend: Backend) -> None:
    async with ReflexClient(backend, session="a-session-that-never-was") as client:
        await hydrated(client)
        seen = await sent(client, f"{PEOPLE}.look", client.sign(f"{PEOPLE}.look", "full", user=Anonymous()))
    assert (seen["user"], seen["type"], seen["report"]["queries"]) == ("", "AnonymousUser", 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"m": "auth.group"},
        {"m": None},
        {"id": "one"},
        {"id": None},
        {"id": ""},
        {"b": "django.contrib.auth.backends.RemoteUserBackend"},
        {"b": None},
        {"f": None},
    ],
)
async def test_a_snapshot_that_is_no_user_of_this_app_leaves_it_to_django(
    backend: Backend, ada: KnownUser, changed: dict[str, Any]
) -> None:
    user = KnownUser({**ada.snapshot, **changed})
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        seen = await sent(client, f"{FULL}.look", client.sign(f"{FULL}.look", "full", user=user))
    assert (seen["user"], seen["report"]["queries"]) == ("ada", 2)


@pytest.mark.parametrize(
    "wrong", [{"session": "another"}, {"token": "another"}, {"secret": "s" * 40}, {"age_ms": 60_000}]
)
async def test_a_foreign_annotation_never_gives_a_user(backend: Backend, ada: KnownUser, wrong: dict[str, Any]) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        seen = await sent(client, f"{FULL}.look", client.sign(f"{FULL}.look", "full", user=ada, **wrong))
    assert seen["user"] == ""
    assert seen["report"]["annotation"] != "valid"


async def test_a_chained_event_has_the_user_without_a_query(backend: Backend, ada: KnownUser) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        text = label()
        await client.send(f"{MEMBER}.chain", text, client.sign(f"{MEMBER}.chain", "full", user=ada))
        child = await backend.probe("handler", label=f"{text}-2")
        report = await backend.probe("report", origin="python", state="notes___notes____full_state")
    assert (child["tier"], child["user"]) == ("full", "ada")
    assert report["queries"] == 0


async def test_with_djangos_own_middleware_the_app_runs_as_before_and_the_log_says_what_to_change(
    tmp_path: Path, sidecar: SidecarThread
) -> None:
    worker = Backend(
        "notes",
        tmp_path,
        BRIDGEHEAD_SECRET=SECRET,
        BRIDGEHEAD_NAME=NAME,
        TEST_AUTHENTICATION="django.contrib.auth.middleware.AuthenticationMiddleware",
    )
    worker.make_database()
    worker.start()
    try:
        async with ReflexClient(worker, session=worker.session) as client:
            await hydrated(client)
            user = KnownUser({"m": "auth.user", "id": "2", "b": BACKEND, "h": "", "f": {}})
            seen = await sent(client, f"{PEOPLE}.look", client.sign(f"{PEOPLE}.look", "full", user=user))
    finally:
        worker.stop()
    assert (seen["user"], seen["cache_ttl"]) == ("ada", None)
    assert "replace 'django.contrib.auth.middleware.AuthenticationMiddleware'" in worker.log
    assert "RX_AUTH_ONLY_MIDDLEWARE = ['bridgehead.django.AuthenticationMiddleware']" in worker.log
