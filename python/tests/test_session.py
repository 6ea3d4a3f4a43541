"""In a real worker: handlers that log in and out are followed by the tab at once, and by no other tab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend import Backend, until
from bridgehead.annotation import Anonymous, KnownUser, session_hash, token_hash
from bridgehead.frames import FrameType
from reflex_client import ReflexClient
from sidecar import SidecarThread
from test_handover import hydrated, label, sent
from test_user import PEOPLE, ada, backend, sidecar  # noqa: F401  # fixtures


async def told(sidecar: SidecarThread, client: ReflexClient) -> dict[str, Any]:  # noqa: F811
    """The last SESSION about this tab."""
    mine = token_hash(client.token)
    found = await until(lambda: [b for b in sidecar.sidecar.received(FrameType.SESSION) if b["t"] == mine], "SESSION")
    return dict(found[-1])


def invalidated(sidecar: SidecarThread, after: int = 0) -> list[dict[str, Any]]:  # noqa: F811
    return sidecar.sidecar.received(FrameType.INVALIDATE)[after:]


async def entered(client: ReflexClient, name: str = "ada", **sign: Any) -> dict[str, Any]:
    text = label()
    await client.send(f"{PEOPLE}.enter", f"{text} {name}", client.sign(f"{PEOPLE}.enter", "full", **sign))
    return await client.backend.probe("handler", label=text)


async def look(client: ReflexClient, **sign: Any) -> dict[str, Any]:
    return await sent(client, f"{PEOPLE}.look", client.sign(f"{PEOPLE}.look", "full", **sign))


@pytest.mark.parametrize("cookie", [None, "an-old-anonymous-session"])
async def test_a_login_is_told_and_the_next_event_sees_it(
    backend: Backend,  # noqa: F811
    sidecar: SidecarThread,  # noqa: F811
    ada: KnownUser,  # noqa: F811
    cookie: str | None,
) -> None:
    async with ReflexClient(backend, session=cookie) as client, ReflexClient(backend, session=cookie) as other:
        await hydrated(client)
        await hydrated(other)
        seen = await entered(client, user=Anonymous())
        chained = await backend.probe("handler", label=f"{seen['label']}-1")
        session = await told(sidecar, client)
        # The sidecar's next annotation is for the new session; one that it made before is for the old.
        old = await look(client, user=Anonymous())
        alone = await sent(client, f"{PEOPLE}.look")
        new = await look(client, session=session["cookie"], user=ada)
        stranger = await look(other, session=session["cookie"], user=ada)
        unasked = await sent(other, f"{PEOPLE}.look")
    assert (seen["entered"], seen["user"]) == (True, "ada")
    assert session["cookie"] == seen["session_key"]
    assert [line["user"] for line in (chained, old, alone, new)] == ["ada"] * 4
    assert {line["session_key"] for line in (chained, old, alone, new)} == {session["cookie"]}
    assert (old["report"]["annotation"], new["report"]["annotation"]) == ("session", "valid")
    assert new["report"]["queries"] == 0
    assert (stranger["user"], stranger["report"]["annotation"]) == ("", "session")
    assert unasked["user"] == ""
    assert session["cookie"] not in backend.log


def release(backend: Backend, text: str) -> None:  # noqa: F811
    """Let the handler of this label go on."""
    Path(f"{backend.probe_file}.{text}").touch()


async def test_a_login_is_told_while_its_handler_still_runs(
    backend: Backend,  # noqa: F811
    sidecar: SidecarThread,  # noqa: F811
) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        text = label()
        await client.send(f"{PEOPLE}.enter_and_stay", f"{text} ada", client.sign(f"{PEOPLE}.enter_and_stay", "full"))
        session = await told(sidecar, client)
        result = sidecar.run(sidecar.sidecar.ask(session["cookie"]))["result"]
        assert backend.probes("handler", label=text) == []
        release(backend, text)
        seen = await backend.probe("handler", label=text)
        # Whatever the handler's end would tell has been told before this event's end is.
        await look(client, session=session["cookie"])
        mine = token_hash(client.token)
        all_told = [body for body in sidecar.sidecar.received(FrameType.SESSION) if body["t"] == mine]
    assert (result["kind"], result["user"]["f"]["username"]) == ("user", "ada")
    assert seen["session_key"] == session["cookie"]
    # The client's own connection carries this session, not a link.
    assert all_told == [{"t": mine, "session": None, "cookie": session["cookie"]}]


async def test_a_logout_is_told_and_the_next_event_sees_it(
    backend: Backend,  # noqa: F811
    sidecar: SidecarThread,  # noqa: F811
    ada: KnownUser,  # noqa: F811
) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        key = (await entered(client))["session_key"]
    async with ReflexClient(backend, session=key) as client:
        await hydrated(client)
        before = len(invalidated(sidecar))
        text = label()
        await client.send(f"{PEOPLE}.leave", text, client.sign(f"{PEOPLE}.leave", "full", user=ada))
        chained = await backend.probe("handler", label=f"{text}-1")
        session = await told(sidecar, client)
        old = await look(client, user=ada)
    assert (chained["user"], old["user"]) == ("", "")
    assert old["report"]["annotation"] == "session"
    # reflex-django saves an empty session after it; what matters is that the old one is gone.
    assert session["cookie"] != key
    about_it = [body for body in invalidated(sidecar, before) if body.get("session") == session_hash(key)]
    assert len(about_it) == 1
    assert sidecar.run(sidecar.sidecar.ask(key))["result"] == {"kind": "anonymous"}


async def test_a_new_password_keeps_this_tab_and_ends_the_others(
    backend: Backend,  # noqa: F811
    sidecar: SidecarThread,  # noqa: F811
) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        mine = (await entered(client, "bob"))["session_key"]
    async with ReflexClient(backend) as client:
        await hydrated(client)
        another = (await entered(client, "bob"))["session_key"]
    bob = KnownUser(sidecar.run(sidecar.sidecar.ask(mine))["result"]["user"])
    async with ReflexClient(backend, session=mine) as client, ReflexClient(backend, session=another) as other:
        await hydrated(client)
        await hydrated(other)
        before = len(invalidated(sidecar))
        # By a sidecar whose clock is ahead, as far as that is allowed: it seems to be newer than the new password.
        signed_before = other.sign(f"{PEOPLE}.look", "full", user=bob, age_ms=-4_000)
        changed = await sent(client, f"{PEOPLE}.new_password", client.sign(f"{PEOPLE}.new_password", "full", user=bob))
        session = await told(sidecar, client)
        still = await look(client, session=session["cookie"])
        # The sidecar has not heard of it yet: the worker has, and asks Django.
        ended = await sent(other, f"{PEOPLE}.look", signed_before)
    assert session["cookie"] == changed["session_key"] != mine
    assert (still["user"], ended["user"]) == ("bob", "")
    assert [body["user"] for body in invalidated(sidecar, before) if "user" in body] == ["auth.user:2"]


async def test_what_a_handler_saves_is_seen_by_the_event_it_chains(backend: Backend, ada: KnownUser) -> None:  # noqa: F811
    async with ReflexClient(backend) as client:
        await hydrated(client)
        key = (await entered(client))["session_key"]
    async with ReflexClient(backend, session=key) as client:
        await hydrated(client)
        reports = len(backend.probes("report", event="look"))
        text = label()
        await client.send(f"{PEOPLE}.rename", text, client.sign(f"{PEOPLE}.rename", "full", user=ada))
        await backend.probe("handler", label=f"{text}-1")
        report = (await until(lambda: backend.probes("report", event="look")[reports:], "the report"))[0]
    # Its annotation is from before the change, so Django was asked.
    assert report["queries"] >= 2


async def test_data_in_a_session_concerns_nobody(
    backend: Backend,  # noqa: F811
    sidecar: SidecarThread,  # noqa: F811
) -> None:
    async with ReflexClient(backend) as client:
        await hydrated(client)
        key = (await entered(client))["session_key"]
    async with ReflexClient(backend, session=key) as client:
        await hydrated(client)
        sessions, before = len(sidecar.sidecar.received(FrameType.SESSION)), len(invalidated(sidecar))
        counts = [(await sent(client, f"{PEOPLE}.count"))["count"] for _ in range(3)]
    assert counts == [1, 2, 3]
    assert invalidated(sidecar, before) == []
    assert sidecar.sidecar.received(FrameType.SESSION)[sessions:] == []


async def test_a_tabs_session_ends_with_its_socket(backend: Backend, ada: KnownUser) -> None:  # noqa: F811
    async with ReflexClient(backend) as client:
        await hydrated(client)
        assert (await entered(client))["user"] == "ada"
    again = ReflexClient(backend)
    again.token = client.token
    async with again:
        seen = await sent(again, f"{PEOPLE}.look")
    assert seen["user"] == ""
