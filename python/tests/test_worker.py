"""A real worker with its sidecar: the manifest it sends and the rules it follows; and workers that have none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from backend import Backend, until
from bridgehead.annotation import Tier
from bridgehead.frames import FrameType
from reflex_client import HYDRATE, NAME, ROOT, SECRET, ReflexClient, state
from sidecar import Sidecar, SidecarThread
from test_handover import CHILD, FULL, MEMBER, PLAIN, hydrated, label, sent

ON_LOAD = f"{ROOT}.reflex___state____on_load_internal_state.on_load_internal"


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
        TEST_MODE="smart",
    )
    worker.make_database()
    worker.start()
    try:
        sidecar.wait_for_manifest()
        yield worker
    finally:
        worker.stop()


async def with_rules(sidecar: SidecarThread, backend: Backend, *rules: dict[str, Any], **changed: Any) -> None:
    """Send rules and wait until the worker has taken them."""
    async with ReflexClient(backend) as client:
        await hydrated(client)

        async def received() -> int:
            counters = (await sent(client, f"{PLAIN}.look"))["report"]["counters"]
            return int(counters.get("rules.received", 0) + counters.get("rules.refused", 0))

        before = await received()
        sidecar.set_rules(*rules, **changed)
        while await received() == before:
            pass


def test_the_manifest_tells_what_the_app_is(backend: Backend, sidecar: SidecarThread) -> None:
    manifest = sidecar.wait_for_manifest()
    assert manifest["versions"] == {
        "bridgehead": "0.1.0",
        "python": manifest["versions"]["python"],
        "reflex": metadata.version("reflex"),
        "reflex_django": metadata.version("reflex-django"),
        "django": metadata.version("django"),
    }
    assert "name" not in manifest
    assert re.fullmatch(r"[0-9a-f]{16}", manifest["build"])
    assert re.fullmatch(r"[0-9a-f-]{36}", manifest["instance"])
    assert manifest["pid"] > 1
    assert manifest["port"] == backend.port
    assert manifest["publishes"] is False
    assert (manifest["mode"], manifest["resolver"], manifest["capacity"]) == ("smart", False, 0)
    assert (manifest["cookie"], manifest["loginUrl"]) == ("notes_session", "/enter")
    assert manifest["corsOrigins"] == ["https://notes.example", "http://localhost:3000"]


@pytest.mark.parametrize(
    ("name", "dotted", "tier", "smart", "handlers"),
    [
        (PLAIN, "notes.notes.PlainState", "none", "none", {"look", "mixed_in", "by_resolver"}),
        (MEMBER, "notes.notes.MemberState", "auth_only", "none", {"look", "chain", "loaded", "mixed_in"}),
        (FULL, "notes.notes.FullState", None, "none", {"look", "behind"}),
        (CHILD, "notes.notes.ChildState", None, "none", {"look_deeper"}),
        (ROOT, "reflex.state.State", None, "none", {"hydrate", "set_is_hydrated"}),
    ],
)
def test_the_manifest_lists_states_and_handlers(
    backend: Backend, sidecar: SidecarThread, name: str, dotted: str, tier: str | None, smart: str, handlers: set[str]
) -> None:
    entry = sidecar.wait_for_manifest()["states"][name]
    assert (entry["class"], entry["tier"], entry["smart"]) == (dotted, tier, smart)
    assert handlers <= set(entry["handlers"])
    assert entry["handlers"] == sorted(entry["handlers"])
    if name == CHILD:
        assert "look" not in entry["handlers"]  # an event for it names the parent


def test_model_states_need_django_in_mode_smart(backend: Backend, sidecar: SidecarThread) -> None:
    states = sidecar.wait_for_manifest()["states"].values()
    assert [entry["smart"] for entry in states if entry["class"] == "notes.notes.NoteState"] == ["full"]


def test_the_same_code_gives_the_same_build(
    backend: Backend, sidecar: SidecarThread, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = sidecar.sidecar.manifests[0]["build"]
    connections = len(sidecar.sidecar.connections)
    worker = Backend(
        "notes",
        tmp_path_factory.mktemp("twin"),
        BRIDGEHEAD_SECRET=SECRET,
        BRIDGEHEAD_NAME=NAME,
        BRIDGEHEAD_LINK_URL=f"tcp://127.0.0.1:{sidecar.sidecar.port}",
        TEST_MODE="smart",
    )
    worker.start()
    try:
        manifest = sidecar.wait_for_manifest(connections)
    finally:
        worker.stop()
    assert manifest["build"] == before
    assert manifest["name"] == NAME
    assert manifest["instance"] != sidecar.sidecar.manifests[0]["instance"]


async def test_the_worker_takes_the_name_of_the_sidecar_that_proved_itself(backend: Backend) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        seen = await sent(client, f"{PLAIN}.look", client.sign(f"{PLAIN}.look", "auth_only", name=NAME))
    assert seen["report"]["annotation"] == "valid"


async def test_events_born_in_python_follow_the_sidecars_rules(backend: Backend, sidecar: SidecarThread) -> None:
    await with_rules(
        sidecar,
        backend,
        {"handler": "loaded", "tier": "full"},
        {"state": "notes.notes.Full*", "tier": "auth_only"},
        {"path": "*", "tier": "full"},
    )
    async with ReflexClient(backend, session=backend.session) as client:
        await client.send(HYDRATE, path="/loading")
        await client.send(ON_LOAD, note=client.sign(ON_LOAD, "none"), path="/loading")
        loaded = await backend.probe("report", event="loaded")
        text = label()
        await client.send(f"{MEMBER}.chain", text, client.sign(f"{MEMBER}.chain", "none"))
        seen = [await backend.probe("handler", label=f"{text}{end}") for end in ("", "-1", "-2")]
    assert (loaded["tier"], loaded["source"], loaded["origin"]) == ("full", "rule", "python")
    assert [line["tier"] for line in seen] == ["none", "none", "auth_only"]


async def test_a_clients_event_without_an_annotation_follows_the_rules_too(
    backend: Backend, sidecar: SidecarThread
) -> None:
    await with_rules(
        sidecar,
        backend,
        {"path": "/item/4?", "tier": "full"},
        {"state": "notes.notes.PlainState", "tier": "auth_only"},
    )
    async with ReflexClient(backend) as client:
        await hydrated(client)
        seen = await sent(client, f"{PLAIN}.look")
        # The pattern sees the path as the client has it, not the route that Reflex makes of it.
        raised = await sent(client, f"{PLAIN}.look", path="/item/42")
        other = await sent(client, f"{PLAIN}.look", client.sign(f"{PLAIN}.look"), path="/item/5")
    assert (seen["tier"], seen["report"]["source"]) == ("auth_only", "rule")
    assert (raised["tier"], raised["report"]["source"], raised["report"]["raised"]) == ("full", "rule", "path")
    assert (other["tier"], other["report"]["source"], other["report"]["annotation"]) == ("auth_only", "rule", "valid")


@pytest.mark.parametrize(
    ("mode", "plain", "full"), [("full", "none", "full"), ("none", "none", "none"), ("inherit", "none", "none")]
)
async def test_the_sidecars_mode_stands_in_for_the_apps(
    backend: Backend, sidecar: SidecarThread, mode: str, plain: Tier, full: Tier
) -> None:
    await with_rules(sidecar, backend, mode=mode)
    async with ReflexClient(backend) as client:
        await hydrated(client)
        assert (await sent(client, f"{PLAIN}.look"))["tier"] == plain
        assert (await sent(client, f"{FULL}.look"))["tier"] == full


async def test_with_a_function_in_the_sidecar_what_it_did_not_see_is_full(
    backend: Backend, sidecar: SidecarThread
) -> None:
    await with_rules(sidecar, backend, resolve=True)
    async with ReflexClient(backend) as client:
        await hydrated(client)
        alone = await sent(client, f"{PLAIN}.look")
        annotated = await sent(client, f"{PLAIN}.look", client.sign(f"{PLAIN}.look"))
        chosen = await sent(client, f"{PLAIN}.look", client.sign(f"{PLAIN}.look", "auth_only"))
    assert (alone["tier"], alone["report"]["source"]) == ("full", "resolve")
    assert (annotated["tier"], annotated["report"]["source"]) == ("none", "class")
    assert (chosen["tier"], chosen["report"]["source"]) == ("auth_only", "annotation")


async def test_a_shadow_decides_and_changes_nothing(backend: Backend, sidecar: SidecarThread) -> None:
    await with_rules(sidecar, backend, {"state": "notes.*", "tier": "full"}, shadow=True)
    async with ReflexClient(backend) as client:
        await hydrated(client)
        seen = await sent(client, f"{PLAIN}.look")
    assert (seen["tier"], seen["report"]["source"], seen["report"]["shadow"]) == ("none", "class", ["full", "rule"])


async def test_rules_that_cannot_be_read_leave_the_former_ones(backend: Backend, sidecar: SidecarThread) -> None:
    await with_rules(sidecar, backend, {"state": "notes.notes.PlainState", "tier": "auth_only"})
    await with_rules(sidecar, backend, {"state": "notes.*", "tier": "half"})
    async with ReflexClient(backend) as client:
        await hydrated(client)
        seen = await sent(client, f"{PLAIN}.look")
    assert (seen["tier"], seen["report"]["source"]) == ("auth_only", "rule")
    assert "rules.0.tier" in backend.log


async def test_rules_outlive_the_link_and_the_worker_dials_again(backend: Backend, sidecar: SidecarThread) -> None:
    await with_rules(sidecar, backend, {"state": "notes.notes.PlainState", "tier": "full"})
    connections = len(sidecar.sidecar.connections)
    for connection in sidecar.sidecar.connections:
        sidecar.call_soon(connection.cut)
    async with ReflexClient(backend) as client:
        await hydrated(client)
        assert (await sent(client, f"{PLAIN}.look"))["report"]["source"] == "rule"
    await until(lambda: len(sidecar.sidecar.connections) > connections, "the next link")


async def test_without_a_secret_the_app_runs_as_before(tmp_path: Path) -> None:
    worker = Backend("notes", tmp_path)
    worker.make_database()
    worker.start()
    try:
        async with ReflexClient(worker, session=worker.session) as client:
            await hydrated(client)
            plain = await sent(client, f"{PLAIN}.look", client.sign(f"{PLAIN}.look", "full"))
            full = await sent(client, f"{FULL}.look")
    finally:
        worker.stop()
    assert (plain["tier"], plain["report"]["source"], plain["report"]["annotation"]) == ("none", "class", "unasked")
    assert "_bridgehead" not in plain["router_data"]
    assert (full["tier"], full["user"], full["full_chain"]) == ("full", "ada", True)
    assert worker.log.count("BRIDGEHEAD_SECRET is not set") == 1


async def test_a_plain_reflex_app_has_a_manifest_and_keeps_its_state_clean(
    tmp_path: Path, sidecar: SidecarThread
) -> None:
    connections = len(sidecar.sidecar.connections)
    worker = Backend(
        "plain",
        tmp_path,
        BRIDGEHEAD_SECRET=SECRET,
        BRIDGEHEAD_LINK_URL=f"tcp://127.0.0.1:{sidecar.sidecar.port}",
        DJANGO_SETTINGS_MODULE="",
    )
    worker.start()
    handler = state("x").replace("notes___notes____x", "plain___plain____counter_state") + ".add"
    try:
        async with ReflexClient(worker) as client:
            await hydrated(client)
            text = label()
            await client.send(handler, text, client.sign(handler, "none"))
            seen = await worker.probe("handler", label=text)
            manifest = sidecar.wait_for_manifest(connections)
    finally:
        worker.stop()
    assert "_bridgehead" not in seen["router_data"]
    assert seen["counters"]["annotation.valid"] == 1
    assert (manifest["mode"], manifest["resolver"]) == ("none", False)
    assert (manifest["cookie"], manifest["loginUrl"]) == (None, None)
    assert (manifest["versions"]["django"], manifest["versions"]["reflex_django"]) == (None, None)
    counter = manifest["states"][handler.rpartition(".")[0]]
    assert (counter["class"], counter["tier"], counter["smart"]) == ("plain.plain.CounterState", "none", "none")
    assert "add" in counter["handlers"]
    assert not [name for name in manifest["states"] if "django" in name]


def test_a_worker_that_stops_says_goodbye(sidecar: SidecarThread, tmp_path: Path) -> None:
    connections = len(sidecar.sidecar.connections)
    worker = Backend(
        "plain",
        tmp_path,
        BRIDGEHEAD_SECRET=SECRET,
        BRIDGEHEAD_LINK_URL=f"tcp://127.0.0.1:{sidecar.sidecar.port}",
        DJANGO_SETTINGS_MODULE="",
    )
    worker.start()
    sidecar.wait_for_manifest(connections)
    worker.stop()
    connection = sidecar.sidecar.connections[connections]
    sidecar.wait_until(lambda: connection.closed, "the end of the link")
    assert connection.received(FrameType.GOAWAY) == [{"reason": "shutdown"}]


def test_each_worker_process_has_a_link_of_its_own(sidecar: SidecarThread, tmp_path: Path) -> None:
    connections = len(sidecar.sidecar.connections)
    worker = Backend(
        "plain",
        tmp_path,
        BRIDGEHEAD_SECRET=SECRET,
        BRIDGEHEAD_LINK_URL=f"tcp://127.0.0.1:{sidecar.sidecar.port}",
        DJANGO_SETTINGS_MODULE="",
        GRANIAN_WORKERS="2",
    )
    worker.start()

    def manifests() -> list[dict[str, Any]]:
        return [
            connection.manifests[0] for connection in sidecar.sidecar.connections[connections:] if connection.manifests
        ]

    try:
        sidecar.wait_until(lambda: len(manifests()) == 2, "two links")
    finally:
        worker.stop()
    first, second = manifests()
    assert first["pid"] != second["pid"]
    assert first["instance"] != second["instance"]
    assert first["build"] == second["build"]
