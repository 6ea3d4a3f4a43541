"""In a real Reflex + Django worker: the annotation's tier takes effect, and nothing of it stays behind."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

from backend import Backend, until
from bridgehead.annotation import Anonymous, KnownUser
from reflex_client import HYDRATE, NAME, ROOT, SECRET, ReflexClient, state

PLAIN, MEMBER, FULL, PICTURES = (state(f"{name}_state") for name in ("plain", "member", "full", "picture"))
CHILD = f"{PLAIN}.notes___notes____child_state"
NOTES = ".".join(
    (
        ROOT,
        "reflex_django___auth_state____django_user_state",
        "reflex_django___states____app_state",
        "reflex_django___state___model_state____model_state",
        "notes___notes____note_state",
    )
)
# Since 0.10 Reflex's frontend sends its first event inside the CONNECT packet.
BOOTS_IN_CONNECT = tuple(int(part) for part in metadata.version("reflex").split(".")[:2]) >= (0, 10)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    worker = Backend(
        "notes",
        tmp_path_factory.mktemp("notes"),
        BRIDGEHEAD_SECRET=SECRET,
        BRIDGEHEAD_NAME=NAME,
        TEST_RESOLVER="notes.resolver.own_resolver",
    )
    worker.make_database()
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def label() -> str:
    return uuid.uuid4().hex[:12]


async def sent(client: ReflexClient, name: str, note: object = None, path: str = "/") -> dict[str, Any]:
    """Send an event and give what its handler saw, with what the companion reported."""
    text = label()
    about = {"event": name.rpartition(".")[2], "origin": "client"}
    reports = len(client.backend.probes("report", **about))
    await client.send(name, text, note, path)
    seen = await client.backend.probe("handler", label=text)
    found = await until(lambda: client.backend.probes("report", **about)[reports:], f"the report of {name}")
    return {**seen, "report": found[0]}


async def hydrated(client: ReflexClient) -> None:
    await client.send(HYDRATE)
    await until(lambda: client.updates, "hydrate")


@pytest.mark.parametrize(
    ("tier", "has_request", "full_chain", "user", "queries"),
    [("none", False, False, "", 0), ("auth_only", True, False, "ada", 2), ("full", True, True, "ada", 2)],
)
@pytest.mark.parametrize("handler", [f"{PLAIN}.look", f"{MEMBER}.mixed_in", f"{FULL}.look", f"{CHILD}.look_deeper"])
async def test_the_tier_of_an_annotation_takes_effect(
    backend: Backend, handler: str, tier: Any, has_request: bool, full_chain: bool, user: str, queries: int
) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        seen = await sent(client, handler, client.sign(handler, tier))
    assert (seen["tier"], seen["has_request"], seen["full_chain"]) == (tier, has_request, full_chain)
    assert seen["user"] == user
    report = seen["report"]
    assert (report["tier"], report["source"], report["annotation"]) == (tier, "annotation", "valid")
    assert report["queries"] == queries


@pytest.mark.parametrize(
    ("handler", "tier", "source", "queries"),
    [
        (f"{PLAIN}.look", "none", "class", 0),
        (f"{PLAIN}.mixed_in", "none", "class", 0),
        (f"{MEMBER}.look", "auth_only", "class", 2),
        (f"{FULL}.look", "full", "mode", 2),
        (f"{PLAIN}.by_resolver", "auth_only", "app", 2),
        (f"{PLAIN}.by_broken_resolver", "full", "app", 2),
    ],
)
@pytest.mark.parametrize("annotated", [False, True])
async def test_without_a_tier_the_class_the_apps_resolver_and_the_mode_decide(
    backend: Backend, handler: str, tier: str, source: str, queries: int, annotated: bool
) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        seen = await sent(client, handler, client.sign(handler) if annotated else None)
    assert (seen["tier"], seen["report"]["tier"], seen["report"]["source"]) == (tier, tier, source)
    assert seen["report"]["queries"] == queries
    assert seen["report"]["annotation"] == ("valid" if annotated else None)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"secret": "another-secret-that-this-worker-never-knew"}, "kid"),
        ({"age_ms": 60_000}, "expired"),
        ({"age_ms": -60_000}, "future"),
        ({"life_ms": 15_001}, "claims"),
        ({"name": "another-shop"}, "name"),
        ({"token": "another-tab"}, "token"),
        ({"session": "another-session"}, "session"),
        ({"session": ""}, "session"),
    ],
)
async def test_a_wrong_annotation_is_ignored_and_counted(backend: Backend, wrong: dict[str, Any], reason: str) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        before = (await sent(client, f"{FULL}.look"))["report"]["counters"].get(f"annotation.{reason}", 0)
        seen = await sent(client, f"{FULL}.look", client.sign(f"{FULL}.look", "none", **wrong))
    assert (seen["tier"], seen["user"]) == ("full", "ada")
    report = seen["report"]
    assert (report["source"], report["annotation"]) == ("mode", reason)
    assert report["counters"][f"annotation.{reason}"] == before + 1


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ("garbage", "malformed"),
        ({"tier": "none"}, "malformed"),
        (["none"], "malformed"),
        (7, "malformed"),
        ("v2.AAAAAAAA.e30.AAAA", "version"),
        ("", "malformed"),
    ],
)
async def test_anything_else_in_its_place_is_ignored(backend: Backend, note: object, reason: str) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        seen = await sent(client, f"{FULL}.look", note)
        assert "_bridgehead" not in seen["router_data"]
    assert (seen["tier"], seen["report"]["annotation"]) == ("full", reason)


async def test_an_annotation_for_another_handler_is_ignored(backend: Backend) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        seen = await sent(client, f"{FULL}.look", client.sign(f"{PLAIN}.look", "none"))
    assert (seen["tier"], seen["report"]["annotation"]) == ("full", "handler")


async def test_the_event_in_connect_and_on_load_are_resolved_too(backend: Backend) -> None:
    reports = len(backend.probes("report"))
    client = ReflexClient(backend, session=backend.session)
    if BOOTS_IN_CONNECT:
        first = f"{ROOT}.hydrate_and_load"
        client.boot = {"event": client.event(first, {"hashes": []}, client.sign(first, "auth_only"), "/loading")}
        async with client:
            await backend.probe("report", event="loaded")
    else:
        first = f"{ROOT}.reflex___state____on_load_internal_state.on_load_internal"
        async with client:
            await client.send(HYDRATE, path="/loading")
            await client.send(first, note=client.sign(first, "auth_only"), path="/loading")
            await backend.probe("report", event="loaded")
    found = {line["event"]: line for line in backend.probes("report")[reports:]}
    boot, loaded = found[first.rpartition(".")[2]], found["loaded"]
    assert (boot["tier"], boot["source"], boot["origin"]) == ("auth_only", "annotation", "client")
    assert (loaded["tier"], loaded["source"], loaded["origin"]) == ("auth_only", "class", "python")
    assert backend.probes("handler", label="loaded")[0]["user"] == "ada"


async def test_chained_events_inherit_the_user_and_not_the_tier(backend: Backend) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        text = label()
        note = client.sign(f"{MEMBER}.chain", "full", user=KnownUser({"id": 7}))
        await client.send(f"{MEMBER}.chain", text, note)
        parent = await backend.probe("handler", label=text)
        plain = await backend.probe("handler", label=f"{text}-1")
        full = await backend.probe("handler", label=f"{text}-2")
        alone = await sent(client, f"{PLAIN}.look")
    assert [line["tier"] for line in (parent, plain, full)] == ["full", "none", "full"]
    assert parent["handed_over"] == plain["handed_over"] == full["handed_over"] == "KnownUser(...)"
    assert alone["handed_over"] == "Unknown()"
    assert all("_bridgehead" not in line["router_data"] for line in (parent, plain, full, alone))


async def test_an_event_chained_by_a_background_handler_is_resolved_by_its_own_class(backend: Backend) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        text = label()
        await client.send(f"{FULL}.behind", text, client.sign(f"{FULL}.behind", "auth_only", user=Anonymous()))
        parent = await backend.probe("handler", label=text)
        child = await backend.probe("handler", label=f"{text}-1")
    assert (parent["tier"], child["tier"]) == ("auth_only", "none")
    assert parent["handed_over"] == child["handed_over"] == "Anonymous()"


async def test_a_handler_that_panics_ends_too(backend: Backend) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        seen = await sent(client, f"{PLAIN}.panic")
        after = await sent(client, f"{PLAIN}.look")
    assert (seen["report"]["event"], after["report"]["event"]) == ("panic", "look")
    assert "notes.Panic" in backend.log


async def test_model_states_find_their_options(backend: Backend) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        text = label()
        await client.send(f"{NOTES}.options", text)
        seen = await backend.probe("handler", label=text)
    assert (seen["options"], seen["model"]) == ("ModelStateOptions", "Note")


async def test_no_trace_of_an_annotation_stays_in_state_updates_headers_or_logs(backend: Backend) -> None:
    forged = "v1.AAAAAAAA.forged-by-the-client.AAAA"
    headers = {"X-Bridgehead-Annotation": forged, "X_Bridgehead_Annotation": forged, "X-Other": "stays"}
    async with ReflexClient(backend, session=backend.session, headers=headers) as client:
        await hydrated(client)
        note = client.sign(f"{PLAIN}.look", "auth_only", user=KnownUser({"id": 7}))
        seen = await sent(client, f"{PLAIN}.look", note)
        await client.send_raw({"payload": {}, "router_data": {"_bridgehead": note}})  # without a name: Reflex logs it
        await client.send_raw({"name": f"{PLAIN}.nowhere", "router_data": {"_bridgehead": note}})
        again = await sent(client, f"{PLAIN}.look")
        await until(lambda: list(backend.folder.glob("**/.states/*.pkl")), "the saved state")
        states = await until(
            lambda: [
                data
                for path in backend.folder.glob("**/.states/*.pkl")
                if seen["label"].encode() in (data := path.read_bytes()) or again["label"].encode() in data
            ],
            "the state with what the handler wrote",
        )
        updates = repr(client.updates)
    assert seen["report"]["annotation"] == "valid"
    assert seen["headers"]["x-other"] == "stays"
    mac = note.rpartition(".")[2]
    for place in (repr(seen), repr(again), updates, backend.log, *(repr(data) for data in states)):
        assert "_bridgehead" not in place.replace("bridgehead.django", "")
        assert "x-bridgehead" not in place.lower().replace("_", "-")
        assert mac not in place
        assert forged not in place


async def test_an_annotation_in_an_event_sent_as_text_or_made_in_python_goes_too(backend: Backend) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        text, forged = label(), "v1.AAAAAAAA.hidden-in-text.AAAA"
        await client.send_raw(json.dumps(client.event(f"{FULL}.look", {"label": text}, forged)))
        seen = await backend.probe("handler", label=text)
        replayed = await sent(client, f"{MEMBER}.replay")
        child = await backend.probe("handler", label=f"{replayed['label']}-1")
        later = await sent(client, f"{PLAIN}.look")
    assert seen["tier"] == "full"
    assert child["tier"] == "none"
    assert all("_bridgehead" not in line["router_data"] for line in (seen, replayed, child, later))
    assert later["report"]["counters"]["annotation.unasked"] >= 1


async def uploaded(client: ReflexClient, *headers: tuple[str, str], handler: str = f"{PICTURES}.take") -> str:
    """Post a file as Reflex's frontend does; gives the streamed answer."""
    form = aiohttp.FormData()
    form.add_field("files", b"12345", filename="five.txt", content_type="text/plain")
    fixed = [("Reflex-Client-Token", client.token), ("Reflex-Event-Handler", handler), ("Cookie", client.cookie)]
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{client.backend.url}/_upload", data=form, headers=CIMultiDict([*fixed, *headers])) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.text()


@pytest.mark.parametrize(
    ("tier", "full_chain", "source"),
    [("full", True, "annotation"), ("auth_only", False, "annotation"), (None, False, "class")],
)
async def test_an_uploads_tier_comes_in_a_header(backend: Backend, tier: Any, full_chain: bool, source: str) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        note = client.sign(f"{PICTURES}.take", tier, user=KnownUser({"id": 7}))
        handlers, reports = len(backend.probes("handler", label="take")), len(backend.probes("report", event="take"))
        answer = await uploaded(client, ("X-Bridgehead-Annotation", note), ("X_Bridgehead_Annotation", "forged"))
        seen = backend.probes("handler", label="take")[handlers]
        report = (await until(lambda: backend.probes("report", event="take")[reports:], "the report"))[0]
        after = await until(lambda: backend.probes("handler", label="after-take")[handlers:], "the chained event")
    assert '"five.txt:5"' in answer
    assert (seen["tier"], seen["full_chain"], seen["user"]) == (tier or "auth_only", full_chain, "ada")
    assert (report["origin"], report["source"], report["annotation"]) == ("upload", source, "valid")
    assert report["raised"] == (None if tier else "upload")
    assert seen["handed_over"] == "KnownUser(...)"
    assert after[0]["tier"] == "none"
    for place in (answer, repr(seen), repr(after[0]), repr(client.updates)):
        assert "bridgehead-annotation" not in place.lower().replace("_", "-")
        assert note.rpartition(".")[2] not in place


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"age_ms": 60_000}, "expired"), ({"session": "another"}, "session"), ({"token": "another"}, "token")],
)
async def test_a_wrong_annotation_of_an_upload_is_ignored(
    backend: Backend, changed: dict[str, Any], reason: str
) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        reports = len(backend.probes("report", event="take"))
        note = client.sign(f"{PICTURES}.take", "full", **changed)
        await uploaded(client, ("X-Bridgehead-Annotation", note))
        found = await until(lambda: backend.probes("report", event="take")[reports:], "the report")
    assert (found[0]["tier"], found[0]["raised"], found[0]["annotation"]) == ("auth_only", "upload", reason)


async def test_an_uploads_header_is_read_once_and_only_with_dashes(backend: Backend) -> None:
    async with ReflexClient(backend, session=backend.session) as client:
        await hydrated(client)
        reports = len(backend.probes("report", event="take"))
        note = client.sign(f"{PICTURES}.take", "full")
        await uploaded(client, ("X_Bridgehead_Annotation", note))
        await uploaded(client, ("X-Bridgehead-Annotation", note), ("X-Bridgehead-Annotation", note))
        found = await until(lambda: backend.probes("report", event="take")[reports + 1 :], "the reports")
        first = backend.probes("report", event="take")[reports]
    assert (first["source"], first["raised"], first["annotation"]) == ("class", "upload", None)
    assert (found[0]["source"], found[0]["raised"], found[0]["annotation"]) == ("class", "upload", "malformed")
