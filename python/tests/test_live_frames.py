"""Frames of live changes: the shared vectors, and what must hold for any bytes."""

from __future__ import annotations

import contextlib
import json
import uuid
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgehead import session_frames as sf
from bridgehead.frames import LIMIT, Frame, FrameDecoder, FrameError, FrameType, encode_control
from bridgehead.live import messages
from bridgehead.live.change import (
    MAX_BATCH,
    Change,
    ChangeError,
    bus_messages,
    gap_message,
    label_of,
    pk_of,
    read_change,
    tags_of,
)
from vectors import load

VECTORS = load("live-frames.json")
OURS = ("CHANGES", "CHANGED", "GAP", "WATCH")


def vector_id(vector: dict[str, Any]) -> str:
    return str(vector.get("title") or f"{vector['name']}-{vector['from']}")


def frame_of(vector: dict[str, Any]) -> Frame:
    (frame,) = FrameDecoder(LIMIT).feed(bytes.fromhex(vector["hex"]))
    assert (frame.type, frame.channel) == (vector["type"], vector["channel"])
    return frame


def changes_of(body: dict[str, Any]) -> tuple[Change, ...]:
    return tuple(
        Change(**entry | {"tags": tuple(entry.get("tags", ()))}) for entry in body["changes"] if isinstance(entry, dict)
    )


def encoded(vector: dict[str, Any]) -> bytes:
    """The frame of a worker, made from its message."""
    body = vector["message"]
    match vector["name"]:
        case "CHANGES":
            made = messages.changes_body(body["n"], changes_of(body))
        case "GAP":
            made = messages.gap_body(body["n"], body.get("model"))
        case "WATCH" if body["models"] is not None:
            made = messages.watch_body(body["models"])
        case "WATCH":
            made = body
        case "SUBSCRIBE":
            pks, tags = (None if body[key] is None else tuple(body[key]) for key in ("pks", "tags"))
            return sf.encode(vector["channel"], sf.Subscribe(body["id"], body["model"], body["handler"], pks, tags))
        case _:
            return sf.encode(vector["channel"], sf.Unsubscribe(body["id"]))
    return encode_control(FrameType[vector["name"]], made)


def sent_by(who: str, *kinds: str) -> list[dict[str, Any]]:
    return [vector for kind in kinds for vector in VECTORS[kind] if vector["from"] == who]


def test_the_types_are_the_protocols() -> None:
    control = {name: FrameType[name].value for name in OURS}
    sessions = {name: sf.SessionFrameType[name].value for name in ("SUBSCRIBE", "UNSUBSCRIBE")}
    assert control | sessions == VECTORS["types"]


@pytest.mark.parametrize("vector", sent_by("worker", "frames"), ids=vector_id)
def test_what_a_worker_says(vector: dict[str, Any]) -> None:
    assert encoded(vector).hex() == vector["hex"]
    if vector["name"] in ("SUBSCRIBE", "UNSUBSCRIBE"):
        message = sf.decode(frame_of(vector))
        assert message is not None
        assert sf.encode(vector["channel"], message).hex() == vector["hex"]


@pytest.mark.parametrize("vector", sent_by("sidecar", "frames", "lenient"), ids=vector_id)
def test_what_a_worker_hears(vector: dict[str, Any]) -> None:
    body = vector["message"]
    heard = messages.decode(frame_of(vector))
    match heard:
        case messages.Happened():
            assert heard.changes == changes_of(body)
        case messages.Changed():
            assert (heard.n, heard.ok) == (body["n"], body["ok"])
        case messages.Gap():
            assert heard.model == body.get("model")


@pytest.mark.parametrize("vector", sent_by("worker", "lenient"), ids=vector_id)
def test_what_is_passed_over(vector: dict[str, Any]) -> None:
    body = vector["message"]
    if vector["name"] == "CHANGES":
        read = [read_change(entry) for entry in frame_of(vector).json()["changes"]]
        assert tuple(change for change in read if change is not None) == changes_of(body)
        return
    assert sf.decode(frame_of(vector)) == sf.Subscribe(body["id"], body["model"], body["handler"])


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS["invalid"] if v["from"] == "sidecar" or v["type"] >= sf.SessionFrameType.SUBSCRIBE],
    ids=vector_id,
)
def test_what_no_frame_may_be(vector: dict[str, Any]) -> None:
    frame = frame_of(vector)
    with pytest.raises(FrameError):
        messages.decode(frame) if frame.is_control else sf.decode(frame)


def test_messages_on_a_bus_are_small_and_in_order() -> None:
    changes = [Change("shop.product", "updated", n, ("tenant:acme",)) for n in range(950)]
    changes += [Change("shop.product", "updated", "x" * 255) for _ in range(200)]
    texts = bus_messages(changes)
    read = [json.loads(text)["changes"] for text in texts]
    assert [read_change(entry) for entries in read for entry in entries] == changes
    assert max(len(entries) for entries in read) == 100
    assert max(map(len, texts)) <= 16_384 + 1_000
    assert bus_messages([]) == []
    assert [json.loads(gap_message(model)) for model in (None, "shop.product")] == [
        {"gap": {}},
        {"gap": {"model": "shop.product"}},
    ]


def test_keys_as_they_travel() -> None:
    name = uuid.UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")
    assert [pk_of(value) for value in (42, -(2**53 - 1), 2**53, "a b", name, Decimal("1.50"), date(2026, 11, 20))] == [
        42,
        -(2**53 - 1),
        "9007199254740992",
        "a b",
        str(name),
        "1.50",
        "2026-11-20",
    ]


@pytest.mark.parametrize("value", [None, True, 1.5, "", "a\0b", "x" * 256, (1, 2), b"x", "\ud800", object()])
def test_what_is_no_key(value: object) -> None:
    with pytest.raises(ChangeError):
        pk_of(value)


def test_labels_and_tags() -> None:
    assert label_of("Shop.Product") == "shop.product"
    for wrong in ("product", "shop.", ".x", "shop.product.x", "1a.b", "a b.c", None, "a." + "x" * 200):
        with pytest.raises(ChangeError):
            label_of(wrong)
    assert tags_of(["a", "b", "a"]) == ("a", "b")
    assert tags_of(None) == ()
    # Too many to tell: whoever is subscribed hears it.
    assert tags_of([f"group:{n}" for n in range(9)]) == ()
    for wrong_tags in ("tenant:acme", [""], ["x" * 101], [7], ["a\0"]):
        with pytest.raises(ChangeError):
            tags_of(wrong_tags)  # type: ignore[arg-type]


@given(st.sampled_from([FrameType.CHANGES, FrameType.CHANGED, FrameType.GAP]), st.binary(max_size=200))
def test_garbage_gives_a_message_or_a_frame_error(kind: FrameType, body: bytes) -> None:
    with contextlib.suppress(FrameError):
        messages.decode(Frame(kind, 0, body))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "model", "pk"]), inner),
    max_leaves=6,
)
entries = st.dictionaries(st.sampled_from(["id", "model", "action", "pk", "at", "tags"]), anything) | anything


@given(st.lists(entries, max_size=4))
def test_any_entry_is_a_change_that_can_travel_or_none(values: list[Any]) -> None:
    body = json.dumps({"changes": values}).encode()
    heard = messages.decode(Frame(FrameType.CHANGES, 0, body))
    assert isinstance(heard, messages.Happened)
    assert len(heard.changes) <= MAX_BATCH
    for change in heard.changes:
        assert read_change(json.loads(json.dumps(change.to_json()))) == change
