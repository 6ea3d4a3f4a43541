"""Small parts that need no worker."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from reflex_base.event import Event

from bridgehead import arrival, counters, events, handover, virtual_socket
from bridgehead.annotation import Anonymous, Claims, KnownUser, make
from bridgehead.keys import Key, Keyring, SecretError
from bridgehead.rules import RuleTable, compile_rules
from bridgehead.settings import Settings

SECRET = "a secret for the units which is long enough"


def test_settings_come_from_the_environment() -> None:
    settings = Settings.from_environment(
        {
            "BRIDGEHEAD_SECRET": SECRET,
            "BRIDGEHEAD_PREVIOUS_SECRETS": f"{SECRET}-1, {SECRET}-2,",
            "BRIDGEHEAD_LINK_URL": "tcp://a:1, unix:/b",
            "BRIDGEHEAD_NAME": "shop",
        }
    )
    assert settings == Settings(SECRET, (f"{SECRET}-1", f"{SECRET}-2"), ("tcp://a:1", "unix:/b"), "shop")
    assert SECRET not in repr(settings)


def test_an_empty_setting_counts_as_unset() -> None:
    names = ("SECRET", "PREVIOUS_SECRETS", "LINK_URL", "NAME", "LINK_SESSIONS", "CAPACITY", "DRAIN_SECONDS")
    assert Settings.from_environment({f"BRIDGEHEAD_{name}": "" for name in names}) == Settings()
    assert Settings().link_urls == ("tcp://127.0.0.1:8082",)
    assert Settings().keyring("link") is None


def test_settings_of_sessions(caplog: pytest.LogCaptureFixture) -> None:
    given = {"BRIDGEHEAD_LINK_SESSIONS": "False", "BRIDGEHEAD_CAPACITY": "40", "BRIDGEHEAD_DRAIN_SECONDS": "2.5"}
    settings = Settings.from_environment(given)
    assert (settings.link_sessions, settings.capacity, settings.drain_seconds) == (False, 40, 2.5)
    assert not caplog.text
    for name, text in (("LINK_SESSIONS", "maybe"), ("CAPACITY", "many"), ("DRAIN_SECONDS", "-1"), ("CAPACITY", "nan")):
        assert Settings.from_environment({f"BRIDGEHEAD_{name}": text}) == Settings()
        assert f"BRIDGEHEAD_{name} is {text!r}" in caplog.text


def test_short_secrets_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.from_environment({"BRIDGEHEAD_SECRET": "short", "BRIDGEHEAD_PREVIOUS_SECRETS": "short-too"})
    assert settings == Settings()
    assert "BRIDGEHEAD_SECRET is shorter than 32 bytes" in caplog.text
    assert "short-too" not in caplog.text


def test_keyrings_refuse_short_secrets_and_show_none() -> None:
    with pytest.raises(SecretError):
        Keyring("link", "short")
    ring = Keyring("link", SECRET, (f"{SECRET}-old",))
    assert ring.keys[0].kid == ring.current.kid
    assert SECRET not in repr(ring)
    assert repr(Key("k", b"\x01")) == "Key(kid='k')"


def test_users_do_not_show_in_reprs() -> None:
    assert "ada" not in repr(KnownUser({"name": "ada"}))


def test_an_annotation_may_not_grow_beyond_what_verifiers_read() -> None:
    claims = Claims("n", "t", "s", "h", 0, 1, user=KnownUser({"x": "y" * 9_000}))
    with pytest.raises(ValueError, match="8192"):
        make(claims, Keyring("annotation", SECRET))
    with pytest.raises(ValueError, match="JSON"):
        make(Claims("n", "t", "s", "h", 0, 1, user=KnownUser({"x": float("inf")})), Keyring("annotation", SECRET))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("sid=abc", "abc"),
        ("a=1; sid=abc; b=2", "abc"),
        ("sid=one; sid=two", "two"),
        ('sid="quoted"', "quoted"),
        ("other=abc", None),
        ("", None),
        ("=;;;", None),
        ("\x00", None),
        ("a[b]=1; sid=abc", "abc"),
        ('x={"a":1}; sid=abc', "abc"),
        ("sid", None),
    ],
)
def test_the_session_is_parsed_as_django_parses_it(header: str, value: str | None) -> None:
    assert handover.session_of(header, "sid") == value


def test_headers_of_both_forms_go_and_one_is_read() -> None:
    kept, values = arrival.without_annotation(
        [
            (b"x-bridgehead-annotation", b"1"),
            (b"X_Bridgehead_Annotation", b"2"),
            (b"X-BRIDGEHEAD-annotation", b"3"),
            (b"x-bridgehead_annotation", b"4"),
            (b"x-bridgehead-annotations", b"5"),
        ]
    )
    assert kept == [(b"x-bridgehead-annotations", b"5")]
    assert values == [b"1", b"3"]


def test_an_arrival_belongs_to_one_event() -> None:
    came = arrival.from_client({"router_data": {"_bridgehead": "x", "pathname": "/a"}})
    assert (came.annotation, came.path, came.origin) == ("x", "/a", "client")
    assert came.take() is came
    assert came.take() is None


@pytest.mark.parametrize("data", [None, "text", 7, [], {}, {"router_data": None}, {"router_data": "x"}])
def test_events_of_any_shape_arrive(data: object) -> None:
    assert arrival.from_client(data).annotation is None


class _Future(asyncio.Future[None]):
    txid = ""


class _Processor:
    def __init__(self) -> None:
        self.queued: list[Any] = []

    async def enqueue(self, token: str, event: Any) -> _Future:
        self.queued.append(event)
        return _Future()


async def test_one_event_that_is_sent_for_two_tabs_has_a_note_of_each() -> None:
    processor, shared = _Processor(), Event(name="a.refresh")
    handover.Handover(None, lambda: "n", None).wrap_processor(processor)
    for tab in ("one", "two", "three"):
        reset = arrival.current.set(arrival.from_client({"router_data": {"pathname": f"/{tab}"}}))
        await processor.enqueue(tab, shared)
        arrival.current.reset(reset)
    notes = [handover.note_of(event) for event in processor.queued]
    assert [(note.token, note.path) for note in notes] == [("one", "/one"), ("two", "/two"), ("three", "/three")]
    assert processor.queued == [shared] * 3


def test_a_page_is_kept_once_for_all_tabs_and_not_at_all_if_it_is_long() -> None:
    def kept(length: int, **changed: Any) -> Any:
        path = "/" + "x" * (length // 2 - 1)
        return virtual_socket._kept_page({"pathname": path, "asPath": path, "query": {}, **changed})

    before = virtual_socket._page.cache_info().currsize
    assert kept(2_048) is kept(2_048)
    assert virtual_socket._page.cache_info().currsize == before + 1
    assert kept(2_050) is None
    assert kept(2_000_000) is None
    assert kept(2_050, query={"x": "y"}) is None
    assert kept(100, query={"x": "y"})["query"] == {"x": "y"}
    assert kept(100, query={"x": "y" * 2_000}) is None
    assert kept(100, asPath=["x"]) is None
    assert virtual_socket._page.cache_info().currsize == before + 1


def test_subscribers_that_fail_hurt_nobody(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[events.EventReport] = []

    def broken(report: events.EventReport) -> None:
        raise RuntimeError("broken")

    stops = [events.subscribe(broken), events.subscribe(seen.append), events.subscribe(seen.append, "decided")]
    assert events.watched()
    report = events.EventReport("a.b", "client", "none", "rule")
    events.decided(report)
    events.finished(report)
    for stop in stops:
        stop()
        stop()
    assert seen == [report, report]
    assert report.finished
    assert not events.watched()
    assert caplog.record_tuples[0][1] == logging.ERROR


def test_counters_count() -> None:
    counters.reset()
    counters.add("a")
    counters.add("a")
    assert (counters.get("a"), counters.get("b"), counters.snapshot()) == (2, 0, {"a": 2})
    counters.reset()
    assert counters.snapshot() == {}


def test_a_thousand_rules_cost_one_look_up() -> None:
    rules = [{"state": f"shop.views{index}.*", "handler": "go*", "tier": "full"} for index in range(1_000)]
    names = [f"a{index}.go" for index in range(50)]
    states = {f"a{index}": _Facts(f"shop.views{index}.State") for index in range(50)}
    table: RuleTable = compile_rules({"rules": rules}, states=states, app_mode="none")
    for name in names:
        assert table.decide(name).source == "rule"
    started = time.perf_counter()
    for _ in range(200):
        for name in names:
            table.decide(name)
    assert (time.perf_counter() - started) / 10_000 < 50e-6


class _Facts:
    tier = None
    smart = "none"

    def __init__(self, dotted: str) -> None:
        self.dotted = dotted


def test_anonymous_and_unknown_differ() -> None:
    assert Claims("n", "t", "s", "h", 0, 1, user=Anonymous()).to_json()["u"] is None
    assert "u" not in Claims("n", "t", "s", "h", 0, 1).to_json()
