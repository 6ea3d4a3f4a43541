"""In a real worker: what Django would refuse never runs, be it left to the worker or never seen by a sidecar."""

from __future__ import annotations

from typing import Any

import pytest

from backend import Backend, until
from bridgehead import access
from bridgehead.annotation import KnownUser
from reflex_client import ReflexClient, state
from sidecar import SidecarThread
from test_handover import hydrated, label, sent
from test_user import ada, backend, sidecar  # noqa: F401  # fixtures
from test_worker import with_rules

STRANGER = state("x").replace("notes___notes____x", "notes___people____stranger_state")
PLAIN = state("plain_state")
GUARD = {"state": "notes.people.StrangerState", "handler": "guarded"}


def frontend_events(client: ReflexClient) -> list[dict[str, Any]]:
    return [event for update in client.updates for event in update.get("events", ())]


async def refused(client: ReflexClient) -> dict[str, Any]:
    found = await until(lambda: frontend_events(client), "a refusal")
    assert len(found) == 1
    return dict(found[0])


@pytest.fixture(autouse=True)
async def _no_rules_afterwards(sidecar: SidecarThread, backend: Backend) -> Any:  # noqa: F811
    yield
    await with_rules(sidecar, backend)


@pytest.mark.parametrize("tier", ["none", "auth_only", "full"])
@pytest.mark.parametrize(
    ("rules", "session", "allowed"),
    [
        (["required"], True, True),
        (["required"], False, False),
        (["staff"], True, False),
        ([{"permission": "notes.add_note"}], True, False),
        ([{"permission": "notes.add_note"}], False, False),
        (["required", "staff"], True, False),
        (["staff", "required"], True, False),
        (["a rule of a later version"], True, False),
        ([{}], True, False),
    ],
)
async def test_all_rules_that_an_annotation_carries_are_enforced(
    backend: Backend,  # noqa: F811
    tier: Any,
    rules: Any,
    session: bool,
    allowed: bool,
) -> None:
    async with ReflexClient(backend, session=backend.session if session else None) as client:
        await hydrated(client)
        client.updates.clear()
        text = label()
        await client.send(f"{STRANGER}.look", text, client.sign(f"{STRANGER}.look", tier, rules=rules), "/members")
        if allowed:
            await backend.probe("handler", label=text)
            return
        event = await refused(client)
        after = await sent(client, f"{PLAIN}.look")
    assert backend.probes("handler", label=text) == []
    if session:
        assert event["name"] == "_call_function"
        assert "You may not do this." in event["payload"]["function"]
    else:
        assert (event["name"], event["payload"]["path"]) == ("_redirect", "/enter?next=%2Fmembers")
    assert after["tier"] == "none"


@pytest.mark.parametrize(
    ("login", "user", "allowed"),
    [
        ("required", "session", True),
        ("required", "nobody", False),
        ("required", "handed over", True),
        ("staff", "handed over", False),
        ("staff", "handed over staff", True),
        ({"permission": "notes.add_note"}, "session", False),
        ({"permission": "notes.add_note"}, "handed over superuser", True),
    ],
)
async def test_events_born_in_python_are_asked_too(
    backend: Backend,  # noqa: F811
    sidecar: SidecarThread,  # noqa: F811
    ada: KnownUser,  # noqa: F811
    login: Any,
    user: str,
    allowed: bool,
) -> None:
    await with_rules(sidecar, backend, {**GUARD, "tier": "none", "login": login})
    flags = {"is_staff": True} if "staff" in user else {"is_superuser": True} if "superuser" in user else {}
    known = KnownUser({**ada.snapshot, "f": {**ada.snapshot["f"], **flags}})
    async with ReflexClient(backend, session=None if user == "nobody" else backend.session) as client:
        await hydrated(client)
        client.updates.clear()
        text = label()
        signed = {"user": known} if "handed over" in user else {}
        await client.send(f"{STRANGER}.chain", text, client.sign(f"{STRANGER}.chain", "none", **signed), "/members")
        if allowed:
            await backend.probe("handler", label=f"{text}-1")
            return
        await backend.probe("handler", label=text)
        event = await refused(client)
    assert backend.probes("handler", label=f"{text}-1") == []
    assert event["name"] == ("_redirect" if user == "nobody" else "_call_function")


async def test_a_client_that_goes_around_the_sidecar_meets_the_rules(
    backend: Backend,  # noqa: F811
    sidecar: SidecarThread,  # noqa: F811
) -> None:
    await with_rules(sidecar, backend, {**GUARD, "login": "required"}, {"path": "/vip*", "login": "staff"})
    async with ReflexClient(backend) as client:
        await hydrated(client)
        client.updates.clear()
        text = label()
        await client.send(f"{STRANGER}.guarded", text)
        assert (await refused(client))["name"] == "_redirect"
        client.updates.clear()
        await client.send(f"{STRANGER}.look", text, path="/vip/room")
        assert (await refused(client))["payload"]["path"] == "/enter?next=%2Fvip%2Froom"
        # The sidecar has asked already where its annotation says nothing.
        await client.send(f"{STRANGER}.guarded", f"{text}-2", client.sign(f"{STRANGER}.guarded", "none"))
        await backend.probe("handler", label=f"{text}-2")
    assert backend.probes("handler", label=text) == []


async def test_a_rule_for_everything_leaves_the_page_its_hydrate(
    backend: Backend,  # noqa: F811
    sidecar: SidecarThread,  # noqa: F811
) -> None:
    await with_rules(sidecar, backend, {"state": "notes.people.*", "login": "required"}, {"login": None})
    async with ReflexClient(backend) as client:
        await hydrated(client)
        assert (await sent(client, f"{PLAIN}.look"))["tier"] == "none"


async def test_a_shadow_refuses_nobody(backend: Backend, sidecar: SidecarThread) -> None:  # noqa: F811
    await with_rules(sidecar, backend, {**GUARD, "login": "required"}, shadow=True)
    async with ReflexClient(backend) as client:
        await hydrated(client)
        text = label()
        await client.send(f"{STRANGER}.guarded", text)
        await backend.probe("handler", label=text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b?x=1&y=ü", "/login?next=%2Fa%2Fb%3Fx%3D1%26y%3D%C3%BC"),
        ("//evil.example", "/login"),
        ("/\\evil.example", "/login"),
        ("/a\\b", "/login"),
        ("/a b", "/login"),
        ("https://evil.example", "/login"),
        ("", "/login"),
        ("/" + "a" * 1_024, "/login"),
    ],
)
def test_next_leads_back_to_the_same_site_or_nowhere(path: str, expected: str) -> None:
    assert access.with_next("/login", path) == expected
    assert access.with_next("/login?a=1", "/b") == "/login?a=1&next=%2Fb"


class Raising:
    """A user whose rights nobody can tell."""

    is_authenticated = True
    is_active = True

    @property
    def is_staff(self) -> bool:
        raise RuntimeError("the database is away")


class Inactive:
    is_authenticated = True
    is_active = False
    is_staff = True


class Request:
    def __init__(self, user: Any) -> None:
        self.user = user


@pytest.mark.parametrize(
    ("request_", "verdict"),
    [(None, "unknown"), (object(), "unknown"), (Request(Raising()), "unknown"), (Request(Inactive()), "forbidden")],
)
async def test_whatever_is_no_clear_yes_is_a_no(request_: Any, verdict: str) -> None:
    assert await access.check(["staff"], request_) == verdict
