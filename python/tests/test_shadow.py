"""Shadow mode: the app's own tiers run, and what each event needed of Django is told to the sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import Backend, until
from bridgehead.annotation import Tier
from bridgehead.events import EventReport
from bridgehead.frames import LIMIT, FrameType, encode_control
from bridgehead.rules import Decision
from bridgehead.shadow import HANDLERS_PER_REPORT, MAX_HANDLERS, MAX_KINDS, Recorder, Run, Watch, tier_for
from reflex_client import NAME, ROOT, SECRET, ReflexClient
from sidecar import Sidecar, SidecarThread
from test_handover import FULL, MEMBER, PLAIN, hydrated, label, sent
from vectors import load

NEEDS = f"{ROOT}.notes___needs____needs_state"
FIELDS = ".".join(
    (
        ROOT,
        "reflex_django___auth_state____django_user_state",
        "reflex_django___states____app_state",
        "notes___needs____fields_state",
    )
)


def watch(
    run: Run, name: str = "s.h", now: Tier = "full", would: Tier = "none", *needs: str, origin: Any = "client"
) -> Watch:
    report = EventReport(name, origin, now, "mode")
    return Watch(run, "app.S", now, Decision(would, "rule"), report, needs=set(needs))


def merged(bodies: Any) -> dict[str, dict[str, Any]]:
    """What a sidecar knows after these reports: figures are absolute."""
    found: dict[str, dict[str, Any]] = {}
    run = None
    for body in bodies:
        if body["run"] != run:
            run, found = body["run"], {}
        found.update({f"{one['state']}.{one['handler']}": one for one in body["handlers"]})
    return found


@pytest.mark.parametrize(
    ("need", "tier"),
    [
        *((need, "auth_only") for need in ("user", "session", "session.write", "login", "request", "state", "refresh")),
        *((need, "full") for need in ("messages", "language", "response", "redirect", "request.tenant")),
    ],
)
def test_a_need_has_its_tier(need: str, tier: Tier) -> None:
    assert tier_for(need) == tier


@given(
    now=st.sampled_from(("none", "auth_only", "full")),
    would=st.sampled_from(("none", "auth_only", "full")),
    needs=st.sets(st.sampled_from(("user", "session", "messages", "request.tenant"))),
)
def test_an_event_is_wrong_in_a_tier_below_what_it_needed(now: Tier, would: Tier, needs: set[str]) -> None:
    run = Run()
    seen = watch(run, "s.h", now, would, *needs)
    run.add(seen)
    (found,) = merged(run.everything()).values()
    order = ("none", "auth_only", "full")
    needed = min(order.index(now), max((order.index(tier_for(need)) for need in needs), default=0))
    assert found["lowest"] == order[needed]
    wrong = [(one["would"], one["events"], set(one["missing"])) for one in found["wrong"]]
    missing = {need for need in needs if order.index(tier_for(need)) > order.index(would)}
    assert wrong == ([(would, 1, missing)] if needed > order.index(would) else [])
    assert found["needs"] == dict.fromkeys(needs, 1)


def test_the_vectors_report_is_what_these_events_give() -> None:
    vectors = load("shadow-report.json")
    run = Run()
    for one in vectors["events"]:
        report = EventReport(one["event"], one["origin"], one["now"], "mode", queries=one["queries"])
        would = Decision(one["would"], one["source"])
        event = Watch(run, one["class"], one["now"], would, report, needs=set(one["needs"]), decided_at=1.0)
        event.started_at, event.ended_at, event.bridge_queries = 1.002, 1.01, one["queries"]
        run.add(event)
    assert list(merged(run.everything()).values()) == vectors["handlers"]


@pytest.mark.parametrize(("name", "origin"), [("s.h", "upload"), ("s.take_upload", "client")])
def test_an_upload_needs_auth_only_at_least(name: str, origin: str) -> None:
    assert watch(Run(), name, "full", "none", origin=origin).lowest == "auth_only"


def test_a_run_is_bounded_and_so_is_each_report() -> None:
    run = Run()
    many = [f"request.a{number}" for number in range(3 * MAX_KINDS)]
    for number in range(MAX_HANDLERS + 50):
        run.add(watch(run, f"s.h{number}", "full", "none", many[number % len(many)], "x" * 500))
    for need in many:
        run.add(watch(run, "s.h0", "full", "none", need))
    run.add(watch(run, "s." + "n" * 5_000))
    bodies = list(run.everything())
    found = merged(bodies)
    assert len(found) == MAX_HANDLERS
    assert found["other.other"]["events"] == 52
    assert sum(one["events"] for one in found.values()) == MAX_HANDLERS + 50 + len(many) + 1
    assert max(len(found["s.h0"][kind]) for kind in ("needs", "wrong")) <= MAX_KINDS + 1
    assert sum(one["events"] for one in found["s.h0"]["wrong"]) == found["s.h0"]["events"]
    assert all(len(body["handlers"]) <= HANDLERS_PER_REPORT for body in bodies)
    assert max(len(encode_control(FrameType.REPORT, body)) for body in bodies) < LIMIT / 16


def test_news_are_what_changed_with_absolute_figures() -> None:
    run = Run()
    run.add(watch(run, "s.a"))
    run.add(watch(run, "s.b"))
    assert set(merged(run.news())) == {"s.a", "s.b"}
    run.add(watch(run, "s.b"))
    assert {name: one["events"] for name, one in merged(run.news()).items()} == {"s.b": 2}
    assert list(run.news()) == [{"run": run.id, "since": run.since, "handlers": []}]
    assert set(merged(run.everything())) == {"s.a", "s.b"}


async def test_other_rules_begin_a_new_run_and_the_same_ones_do_not() -> None:
    told: list[Any] = []
    recorder = Recorder(told.append)
    report = EventReport("s.a", "client", "full", "mode")
    would = Decision("none", "rule")
    assert not recorder.follow({"version": 1, "shadow": False, "rules": []})
    assert recorder.watch(report, "app.S", would) is None
    assert recorder.follow({"version": 2, "shadow": True, "rules": []})
    old = recorder.watch(report, "app.S", would)
    assert old is not None
    recorder.record(old, False)
    assert recorder.follow({"version": 9, "shadow": True, "rules": []})
    recorder.close()
    # A new run at once; all of it for whoever sent the rules again; and what was still to be told.
    assert [[one["handler"] for one in body["handlers"]] for body in told] == [[], ["a"], ["a"]]
    assert recorder.follow({"version": 3, "shadow": True, "rules": [{}]})
    assert told[-1]["run"] != told[0]["run"]
    recorder.record(old, False)  # of the former run, which nobody asks for any more
    assert merged(recorder.everything()) == {}
    assert not recorder.follow({"version": 4, "shadow": False, "rules": [{}]})
    assert list(recorder.everything()) == []


@pytest.fixture(scope="module")
def sidecar() -> Iterator[SidecarThread]:
    thread = SidecarThread(Sidecar(SECRET, NAME, heartbeat_ms=500))
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


def reported(sidecar: SidecarThread) -> dict[str, dict[str, Any]]:
    return merged(sidecar.sidecar.received(FrameType.REPORT))


async def new_run(sidecar: SidecarThread, *rules: dict[str, Any], **changed: Any) -> None:
    """Turn the shadow on with these rules, with nothing seen yet."""
    reports = len(sidecar.sidecar.received(FrameType.REPORT))
    sidecar.set_rules(*rules, {"state": label(), "tier": "none"}, shadow=True, **changed)
    await until(lambda: len(sidecar.sidecar.received(FrameType.REPORT)) > reports, "a new run")


async def seen(sidecar: SidecarThread, name: str, events: int = 1) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        one = reported(sidecar).get(name)
        return one if one is not None and one["events"] >= events else None

    result: dict[str, Any] = await until(found, f"the report of {name}")
    return result


async def handled(client: ReflexClient, name: str, argument: str = "") -> dict[str, Any]:
    text = label()
    await client.send(name, f"{text} {argument}" if argument else text)
    return await client.backend.probe("handler", label=text)


NONE = {"state": "notes.needs.*", "tier": "none"}


@pytest.mark.parametrize(
    ("handler", "needs", "lowest"),
    [
        ("nothing", set(), "none"),
        ("user", {"user"}, "auth_only"),
        ("user_in_a_thread", {"user"}, "auth_only"),
        ("user_in_a_bare_thread", {"user"}, "auth_only"),
        ("user_behind", {"user"}, "auth_only"),
        ("session", {"session"}, "auth_only"),
        ("session_written", {"session", "session.write", "login"}, "auth_only"),
        ("path", {"request"}, "auth_only"),
        ("message", {"messages"}, "full"),
        ("of_the_chain", {"request.full_chain"}, "full"),
        ("response", {"response"}, "full"),
    ],
)
async def test_what_a_handler_takes_from_django_is_seen(
    backend: Backend, sidecar: SidecarThread, handler: str, needs: set[str], lowest: str
) -> None:
    await new_run(sidecar, NONE)
    async with ReflexClient(backend, session=None if "login" in needs else backend.session) as client:
        await hydrated(client)
        probe = await handled(client, f"{NEEDS}.{handler}")
        found = await seen(sidecar, f"{NEEDS}.{handler}")
    assert probe.get("request_type", "HttpRequest") == "HttpRequest"
    assert (found["class"], found["handler"]) == ("notes.needs.NeedsState", handler)
    assert set(found["needs"]) == needs
    assert found["lowest"] == lowest
    (cell,) = found["cells"]
    assert (cell["now"], cell["would"], cell["events"]) == ("full", "none", 1)
    # The session and its user, where there is a cookie: what a lower tier would have spared.
    assert cell["queries"] == (0 if "login" in needs else 2)
    assert 0 < cell["bridgeMs"] <= cell["ms"]
    wrong = [{"would": "none", "source": "rule", "missing": sorted(needs), "events": 1}]
    assert found["wrong"] == (wrong if needs else [])


async def test_fields_of_the_state_that_the_bridge_refreshes_are_needs_too(
    backend: Backend, sidecar: SidecarThread
) -> None:
    await new_run(sidecar, NONE)
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        # The first event brings the user's fields into the state.
        assert (await handled(client, f"{FIELDS}.nothing")).keys() >= {"label"}
        first = await seen(sidecar, f"{FIELDS}.nothing")
        assert (await handled(client, f"{FIELDS}.nothing")).keys() >= {"label"}
        second = await seen(sidecar, f"{FIELDS}.nothing", 2)
        assert (await handled(client, f"{FIELDS}.field"))["known"] is True
        assert (await handled(client, f"{FIELDS}.field_behind"))["known"] is True
        read = await seen(sidecar, f"{FIELDS}.field")
        behind = await seen(sidecar, f"{FIELDS}.field_behind")
    assert (first["needs"], first["lowest"]) == ({"refresh": 1}, "auth_only")
    assert (second["needs"], second["events"]) == ({"refresh": 1}, 2)
    assert (read["needs"], read["lowest"]) == ({"state": 1}, "auth_only")
    assert (behind["needs"], behind["lowest"]) == ({"state": 1}, "auth_only")


async def test_a_login_is_seen(backend: Backend, sidecar: SidecarThread) -> None:
    await new_run(sidecar, NONE)
    async with ReflexClient(backend) as client:
        await hydrated(client)
        assert (await handled(client, f"{FIELDS}.enter", "bob"))["entered"] is True
        found = await seen(sidecar, f"{FIELDS}.enter")
    assert found["needs"].keys() >= {"login", "session", "user"}
    assert found["wrong"][0]["would"] == "none"


async def test_what_the_chain_answered_itself_needs_the_chain(backend: Backend, sidecar: SidecarThread) -> None:
    await new_run(sidecar, {**NONE, "tier": "auth_only"})
    async with ReflexClient(backend, headers={"X-Moved": "1"}) as client:
        await client.send(f"{NEEDS}.nothing", label())
        found = await seen(sidecar, f"{NEEDS}.nothing")
    assert (found["needs"], found["lowest"]) == ({"redirect": 1}, "full")
    assert found["wrong"] == [{"would": "auth_only", "source": "rule", "missing": ["redirect"], "events": 1}]


async def test_the_apps_own_tiers_run_and_stand_beside_those_of_the_rules(
    backend: Backend, sidecar: SidecarThread
) -> None:
    await new_run(sidecar, {"state": "notes.notes.*", "handler": "look", "tier": "auth_only"})
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        tiers = [(await sent(client, f"{name}.look"))["tier"] for name in (PLAIN, MEMBER, FULL)]
        found = [await seen(sidecar, f"{name}.look") for name in (PLAIN, MEMBER, FULL)]
    assert tiers == ["none", "auth_only", "full"]
    assert [(one["cells"][0]["now"], one["cells"][0]["would"]) for one in found] == [
        ("none", "auth_only"),
        ("auth_only", "auth_only"),
        ("full", "auth_only"),
    ]
    # In tier none there is nothing to take, and nothing was missed.
    assert (found[0]["needs"], found[0]["lowest"], found[0]["wrong"]) == ({}, "none", [])
    assert (found[1]["lowest"], found[1]["wrong"]) == ("auth_only", [])
    assert found[2]["lowest"] == "full"
    assert found[2]["wrong"] == [
        {"would": "auth_only", "source": "rule", "missing": ["request.full_chain"], "events": 1}
    ]


async def test_chained_events_are_events_of_their_own(backend: Backend, sidecar: SidecarThread) -> None:
    await new_run(sidecar, NONE)
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        await handled(client, f"{NEEDS}.chain")
        parent, child = await seen(sidecar, f"{NEEDS}.chain"), await seen(sidecar, f"{NEEDS}.user")
    assert (parent["needs"], parent["lowest"]) == ({}, "none")
    assert (child["needs"], child["lowest"]) == ({"user": 1}, "auth_only")


async def test_a_sidecar_that_comes_later_is_told_everything(backend: Backend, sidecar: SidecarThread) -> None:
    await new_run(sidecar, NONE)
    async with ReflexClient(backend) as client:
        await hydrated(client)
        await handled(client, f"{NEEDS}.nothing")
        await seen(sidecar, f"{NEEDS}.nothing")
    connections = len(sidecar.sidecar.connections)
    for connection in sidecar.sidecar.connections:
        sidecar.call_soon(connection.cut)

    def told() -> set[str]:
        later = sidecar.sidecar.connections[connections:]
        return set(merged(body for one in later for body in one.received(FrameType.REPORT)))

    await until(lambda: f"{NEEDS}.nothing" in told(), "the report on the next link")


async def test_without_a_shadow_nothing_is_watched(backend: Backend, sidecar: SidecarThread) -> None:
    await new_run(sidecar, NONE)
    sidecar.set_rules(shadow=False)
    async with ReflexClient(backend) as client:
        await hydrated(client)

        async def count() -> int:
            before = len(sidecar.sidecar.received(FrameType.REPORT))
            await handled(client, f"{NEEDS}.path")
            await asyncio.sleep(0)
            return len(sidecar.sidecar.received(FrameType.REPORT)) - before

        while await count():
            pass
        await new_run(sidecar, NONE)
        assert f"{NEEDS}.path" not in reported(sidecar)


def test_the_manifest_tells_what_the_settings_lack(backend: Backend, sidecar: SidecarThread) -> None:
    assert sidecar.wait_for_manifest()["checks"] == []
