"""Frames of virtual sessions: the shared vectors, and what must hold for any bytes."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgehead.frames import LIMIT, Frame, FrameDecoder, FrameError, FrameType, encode_control
from bridgehead.session_frames import (
    OUTCOMES,
    Attach,
    Attached,
    AttachError,
    AttachRefused,
    BackgroundEnded,
    BackgroundStarted,
    Client,
    Credit,
    Detach,
    Detached,
    DetachedReason,
    DetachReason,
    Done,
    Inject,
    Message,
    Probe,
    Probed,
    Received,
    Resync,
    RunningHandler,
    Server,
    SessionFrameType,
    decode,
    encode,
)
from vectors import load

VECTORS = load("link-session-frames.json")


def frames_of(data: bytes) -> list[Frame]:
    return list(FrameDecoder(LIMIT).feed(data))


def made(name: str, fields: dict[str, Any]) -> Message:
    """What a vector's message is here."""

    def handler(entry: dict[str, Any]) -> RunningHandler:
        return RunningHandler(entry["name"], entry["payload"])

    match name:
        case "ATTACH":
            headers = tuple((key, value) for key, value in fields["headers"])
            known = {key: value for key, value in fields.items() if key != "from"}
            return Attach(**known | {"headers": headers, "former": fields.get("from")})
        case "ATTACHED":
            opened = tuple(fields["open"]) if "open" in fields else None
            return AttachRefused(**fields) if "error" in fields else Attached(**fields | {"open": opened})
        case "CLIENT":
            return Client(fields["n"], bytes.fromhex(fields["payload"]), fields["binary"], fields["done"])
        case "SERVER":
            return Server(bytes.fromhex(fields["payload"]), fields["binary"])
        case "DETACHED":
            background = tuple(handler(entry) for entry in fields["background"])
            return Detached(fields["reason"], background, tuple(fields.get("unrun", ())))
        case "BACKGROUND" if fields["state"] == "ended":
            return BackgroundEnded(fields["id"])
        case "BACKGROUND":
            return BackgroundStarted(fields["id"], handler(fields))
        case "PROBED":
            return Probed(fields["alive"], tuple(fields["kept"]), fields.get("seen"))
    kinds: dict[str, Any] = {
        "RECEIVED": Received,
        "DONE": Done,
        "CREDIT": Credit,
        "DETACH": Detach,
        "RESYNC": Resync,
        "INJECT": Inject,
        "PROBE": Probe,
    }
    message: Message = kinds[name](**fields)
    return message


def vector_id(vector: dict[str, Any]) -> str:
    return str(vector.get("title") or vector["name"])


def test_the_types_are_the_protocols() -> None:
    live = {"SUBSCRIBE": 46, "UNSUBSCRIBE": 47}
    assert {entry.name: entry.value for entry in SessionFrameType} == VECTORS["types"] | live


@pytest.mark.parametrize("vector", [*VECTORS["frames"], *VECTORS["unfinished"]], ids=vector_id)
def test_a_message_and_its_bytes(vector: dict[str, Any]) -> None:
    message = made(vector["name"], vector["message"])
    assert encode(vector["channel"], message).hex() == vector["hex"]
    (frame,) = frames_of(bytes.fromhex(vector["hex"]))
    assert (frame.type, frame.channel) == (vector["type"], vector["channel"])
    assert decode(frame) == message


@pytest.mark.parametrize("vector", VECTORS["lenient"], ids=vector_id)
def test_what_is_read_though_nobody_writes_it_so(vector: dict[str, Any]) -> None:
    (frame,) = frames_of(bytes.fromhex(vector["hex"]))
    assert decode(frame) == made(vector["name"], vector["message"])


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=vector_id)
def test_what_no_frame_may_be(vector: dict[str, Any]) -> None:
    (frame,) = frames_of(bytes.fromhex(vector["hex"]))
    with pytest.raises(FrameError):
        decode(frame)


def test_frames_of_a_later_version_are_passed_over() -> None:
    assert [decode(frame) for data in VECTORS["ignored"] for frame in frames_of(bytes.fromhex(data))] == [None] * 3


@pytest.mark.parametrize("vector", VECTORS["control"], ids=vector_id)
def test_control_frames_for_sessions(vector: dict[str, Any]) -> None:
    (frame,) = frames_of(bytes.fromhex(vector["hex"]))
    assert frame.type == FrameType[vector["name"]] == vector["type"]
    assert encode_control(FrameType[vector["name"]], frame.json()).hex() == vector["hex"]


numbers = st.integers(0, 2**32 - 1)
counts = st.lists(st.integers(1, 2**32 - 1), max_size=4).map(tuple)
words = st.text(max_size=20)
texts = st.text(max_size=60).map(lambda text: ("4" + text).encode("utf-8", "replace"))
objects = st.dictionaries(words, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words, max_size=4)
handlers = st.builds(RunningHandler, words, st.none() | objects)
payloads = st.one_of(st.tuples(texts, st.just(False)), st.tuples(st.binary(max_size=60), st.just(True)))
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Attach,
        words,
        words,
        st.lists(st.tuples(words, words), max_size=4).map(tuple),
        words,
        st.none() | words,
        st.booleans(),
        st.booleans(),
        st.booleans(),
        numbers,
    ),
    st.builds(Attached, numbers, numbers, st.none() | counts),
    st.builds(AttachRefused, st.sampled_from(get_args(AttachError)), words, st.none() | words),
    st.builds(lambda n, payload, done: Client(n, *payload, done), numbers, payloads, st.booleans()),
    st.builds(lambda payload: Server(*payload), payloads),
    st.builds(Received, numbers),
    st.builds(Done, numbers, st.sampled_from(OUTCOMES)),
    st.builds(Credit, numbers),
    st.builds(Detach, st.sampled_from(get_args(DetachReason))),
    st.builds(Detached, st.sampled_from(get_args(DetachedReason)), st.lists(handlers, max_size=3).map(tuple), counts),
    st.builds(Resync, numbers),
    st.builds(BackgroundStarted, words, handlers),
    st.builds(BackgroundEnded, words),
    st.builds(Inject, numbers, words, objects, st.booleans()),
    st.just(Probe()),
    st.builds(Probed, st.booleans(), st.lists(words, max_size=3).map(tuple)),
)
channels = st.integers(1, 2**32 - 1)


@given(st.lists(st.tuples(channels, messages), max_size=8), st.lists(st.integers(0, 3_000), max_size=12))
def test_any_cut_of_the_stream_gives_the_same_messages(sent: list[tuple[int, Message]], cuts: list[int]) -> None:
    data = b"".join(encode(channel, message) for channel, message in sent)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    decoder = FrameDecoder(LIMIT)
    read = [
        (frame.channel, decode(frame))
        for begin, end in itertools.pairwise(edges)
        for frame in decoder.feed(data[begin:end])
    ]
    assert read == sent
    assert decoder.pending == 0


@given(st.integers(32, 255), st.integers(0, 2**32 - 1), st.binary(max_size=200))
def test_garbage_gives_a_message_or_a_frame_error(kind: int, channel: int, body: bytes) -> None:
    with contextlib.suppress(FrameError):
        decode(Frame(kind, channel, body))


@given(messages, st.data())
def test_a_changed_byte_gives_a_message_or_a_frame_error(message: Message, data: st.DataObject) -> None:
    (frame,) = frames_of(encode(1, message))
    if not frame.body:
        return
    at, value = data.draw(st.integers(0, len(frame.body) - 1)), data.draw(st.integers(0, 255))
    with contextlib.suppress(FrameError):
        decode(replace(frame, body=frame.body[:at] + bytes([value]) + frame.body[at + 1 :]))


def test_what_utf8_cannot_hold_is_escaped() -> None:
    started = BackgroundStarted("b", RunningHandler("a.b", {"text": "\ud800"}))
    assert frames_of(encode(1, started))[0].body.isascii()
    assert decode(frames_of(encode(1, started))[0]) == started
