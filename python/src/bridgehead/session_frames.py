"""Frames of virtual sessions (docs/PROTOCOL.md, "Sessions on a link"), both directions.

`decode` gives a message for the types 32 to 47 and None for later ones; `FrameError` for what no such frame may be.
Unknown keys and flags are ignored.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, cast, get_args

from bridgehead import frames
from bridgehead.frames import Frame, FrameError
from bridgehead.live import change


class SessionFrameType(IntEnum):
    ATTACH = 32
    ATTACHED = 33
    CLIENT = 34
    SERVER = 35
    RECEIVED = 36
    DONE = 37
    CREDIT = 38
    DETACH = 39
    DETACHED = 40
    RESYNC = 41
    BACKGROUND = 42
    INJECT = 43
    PROBE = 44
    PROBED = 45
    SUBSCRIBE = 46
    UNSUBSCRIBE = 47


AttachError = Literal["elsewhere", "draining", "unknown", "failed", "taken"]
DetachReason = Literal["closed", "lost", "takeover", "move"]
DetachedReason = Literal["closed", "lost", "takeover", "move", "slow", "failed"]
Outcome = Literal["ended", "raised", "cancelled"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
# What one frame can hold of an Engine.IO frame.
MAX_PAYLOAD = frames.LIMIT - 10

MAX_PKS = 1_000
MAX_SUBSCRIBED_TAGS = 100
MAX_SUBSCRIPTION_ID = 200

_BINARY, _WANTS_DONE = 1, 2
_NUMBER = struct.Struct(">I")
_CLIENT = struct.Struct(">BI")
_DONE = struct.Struct(">IB")
_MAX_U32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Attach:
    """A client's session comes to this worker. `seen`: SERVER frames that a resuming sidecar has got.

    `former`: with `takeover`, the worker that had it before, as Reflex's records name it.
    """

    session: str
    target: str
    headers: tuple[tuple[str, str], ...]
    client: str
    protocol: str | None = None
    takeover: bool = False
    resume: bool = False
    force: bool = False
    seen: int = 0
    former: str | None = None


@dataclass(frozen=True, slots=True)
class Attached:
    """It is here. `received`: last number of the former attach; `sent`: SERVER frames handed to the former link.

    `open`: with `resume`, the numbers up to `received` whose DONE has still to come.
    """

    received: int = 0
    sent: int = 0
    open: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class AttachRefused:
    """It is not. `instance`: with `elsewhere`, the worker that the token's record names."""

    error: AttachError
    message: str
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """An Engine.IO frame of the client: a text with its leading `4`, or a binary attachment."""

    n: int
    payload: bytes
    binary: bool = False
    wants_done: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """An Engine.IO frame for the client."""

    payload: bytes
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    n: int


@dataclass(frozen=True, slots=True)
class Done:
    n: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Credit:
    bytes: int


@dataclass(frozen=True, slots=True)
class Detach:
    reason: DetachReason


@dataclass(frozen=True, slots=True)
class RunningHandler:
    """A background handler. `payload` is None where it was too large to be told: it cannot be started again."""

    name: str
    payload: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Detached:
    """`background`: with `move`, the handlers that were cancelled.

    `unrun`: with `move`, numbers that were received and have certainly not run.
    """

    reason: DetachedReason
    background: tuple[RunningHandler, ...] = ()
    unrun: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Resync:
    n: int


@dataclass(frozen=True, slots=True)
class BackgroundStarted:
    id: str
    handler: RunningHandler


@dataclass(frozen=True, slots=True)
class BackgroundEnded:
    id: str


@dataclass(frozen=True, slots=True)
class Inject:
    n: int
    name: str
    payload: Mapping[str, Any]
    background: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    pass


@dataclass(frozen=True, slots=True)
class Probed:
    """`kept`: Engine.IO texts that the gone client did not get, `b` and base64 for binary frames.

    `seen`: the SERVER frames since the PROBE that are among them, or None where nobody counted.
    """

    alive: bool
    kept: tuple[str, ...] = ()
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Run `handler` when rows of `model` change: those of `pks`, those with one of `tags`, or (None) all."""

    id: str
    model: str
    handler: str
    pks: tuple[int | str, ...] | None = None
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    id: str


Message = (
    Attach
    | Attached
    | AttachRefused
    | Client
    | Server
    | Received
    | Done
    | Credit
    | Detach
    | Detached
    | Resync
    | BackgroundStarted
    | BackgroundEnded
    | Inject
    | Probe
    | Probed
    | Subscribe
    | Unsubscribe
)


def decode(frame: Frame) -> Message | None:
    """The message of one frame from type 32 on; None for a later version's type."""
    if frame.channel == 0:
        raise FrameError(f"frame type {frame.type} has no channel")
    decoder = _DECODERS.get(frame.type)
    return None if decoder is None else decoder(frame)


def encode(channel: int, message: Message) -> bytes:
    """The bytes of one frame."""
    frame_type, encoder = _ENCODERS[type(message)]
    return frames.encode(frame_type, channel, encoder(message))


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # A lone surrogate, which JSON can hold and UTF-8 cannot.
        return json.dumps(value, separators=(",", ":")).encode()


def _text(body: Mapping[str, Any], key: str, frame: Frame) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise FrameError(f"{key!r} of frame type {frame.type} is not a string")
    return value


def _number(body: Mapping[str, Any], key: str, frame: Frame) -> int:
    value = body.get(key, 0)
    if type(value) is not int or not 0 <= value <= _MAX_U32:
        raise FrameError(f"{key!r} of frame type {frame.type} is not a number")
    return value


def _flag(body: Mapping[str, Any], key: str, frame: Frame) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise FrameError(f"{key!r} of frame type {frame.type} is not a boolean")
    return value


def _optional_text(body: Mapping[str, Any], key: str, frame: Frame) -> str | None:
    return None if body.get(key) is None else _text(body, key, frame)


def _one_of[T](body: Mapping[str, Any], key: str, frame: Frame, words: tuple[T, ...]) -> T:
    value = body.get(key)
    if value not in words:
        raise FrameError(f"{key!r} of frame type {frame.type} is none of {', '.join(map(str, words))}")
    return cast("T", value)


def _payload(body: Mapping[str, Any], frame: Frame) -> Mapping[str, Any] | None:
    value = body.get("payload")
    if value is not None and not isinstance(value, dict):
        raise FrameError(f"'payload' of frame type {frame.type} is not an object")
    return value


def _handler(body: Any, frame: Frame) -> RunningHandler:
    if not isinstance(body, dict):
        raise FrameError(f"a handler of frame type {frame.type} is not an object")
    return RunningHandler(_text(body, "name", frame), _payload(body, frame))


def _list(body: Mapping[str, Any], key: str, frame: Frame) -> list[Any]:
    value = body.get(key, [])
    if not isinstance(value, list):
        raise FrameError(f"{key!r} of frame type {frame.type} is not a list")
    return value


def _numbers(body: Mapping[str, Any], key: str, frame: Frame) -> tuple[int, ...]:
    values = _list(body, key, frame)
    if not all(type(value) is int and 0 < value <= _MAX_U32 for value in values):
        raise FrameError(f"{key!r} of frame type {frame.type} holds something that is no number")
    return tuple(values)


def _unpack(form: struct.Struct, frame: Frame, *, exactly: bool) -> tuple[Any, ...]:
    if len(frame.body) < form.size or (exactly and len(frame.body) != form.size):
        raise FrameError(f"the body of frame type {frame.type} has a wrong length")
    return form.unpack_from(frame.body)


def _decode_attach(frame: Frame) -> Attach:
    body = frame.json()
    headers = _list(body, "headers", frame)
    for pair in headers:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise FrameError("a header of ATTACH is not [name, value]")
    return Attach(
        _text(body, "session", frame),
        _text(body, "target", frame),
        tuple((name, value) for name, value in headers),
        _text(body, "client", frame),
        _optional_text(body, "protocol", frame),
        _flag(body, "takeover", frame),
        _flag(body, "resume", frame),
        _flag(body, "force", frame),
        _number(body, "seen", frame),
        _optional_text(body, "from", frame),
    )


def _decode_attached(frame: Frame) -> Attached | AttachRefused:
    body = frame.json()
    if "error" in body:
        error = _one_of(body, "error", frame, get_args(AttachError))
        return AttachRefused(error, _text(body, "message", frame), _optional_text(body, "instance", frame))
    opened = None if body.get("open") is None else _numbers(body, "open", frame)
    return Attached(_number(body, "received", frame), _number(body, "sent", frame), opened)


def _decode_client(frame: Frame) -> Client:
    flags, n = _unpack(_CLIENT, frame, exactly=False)
    binary, payload = bool(flags & _BINARY), frame.body[_CLIENT.size :]
    return Client(n, _checked(payload, binary, frame), binary, bool(flags & _WANTS_DONE))


def _decode_server(frame: Frame) -> Server:
    if not frame.body:
        raise FrameError("SERVER is empty")
    binary = bool(frame.body[0] & _BINARY)
    return Server(_checked(frame.body[1:], binary, frame), binary)


def _checked(payload: bytes, binary: bool, frame: Frame) -> bytes:
    if not binary and payload[:1] != b"4":
        raise FrameError(f"the text in frame type {frame.type} is no Engine.IO message")
    return payload


def _decode_done(frame: Frame) -> Done:
    n, outcome = _unpack(_DONE, frame, exactly=True)
    if outcome >= len(OUTCOMES):
        raise FrameError("DONE has an unknown outcome")
    return Done(n, OUTCOMES[outcome])


def _decode_number[T](make: Callable[[int], T]) -> Callable[[Frame], T]:
    return lambda frame: make(_unpack(_NUMBER, frame, exactly=True)[0])


def _decode_detached(frame: Frame) -> Detached:
    body = frame.json()
    return Detached(
        _one_of(body, "reason", frame, get_args(DetachedReason)),
        tuple(_handler(entry, frame) for entry in _list(body, "background", frame)),
        _numbers(body, "unrun", frame),
    )


def _decode_background(frame: Frame) -> BackgroundStarted | BackgroundEnded:
    body = frame.json()
    name = _text(body, "id", frame)
    if _one_of(body, "state", frame, ("started", "ended")) == "ended":
        return BackgroundEnded(name)
    return BackgroundStarted(name, _handler(body, frame))


def _decode_inject(frame: Frame) -> Inject:
    (n,) = _unpack(_NUMBER, frame, exactly=False)
    body = Frame(frame.type, frame.channel, frame.body[_NUMBER.size :]).json()
    return Inject(n, _text(body, "name", frame), _payload(body, frame) or {}, _flag(body, "background", frame))


def _decode_probe(frame: Frame) -> Probe:
    frame.json()
    return Probe()


def _decode_probed(frame: Frame) -> Probed:
    body = frame.json()
    kept = _list(body, "kept", frame)
    if not all(isinstance(text, str) for text in kept):
        raise FrameError("'kept' of PROBED holds something that is no string")
    seen = None if "seen" not in body else _number(body, "seen", frame)
    return Probed(_flag(body, "alive", frame), tuple(kept), seen)


def _decode_subscribe(frame: Frame) -> Subscribe:
    body = frame.json()
    try:
        model = change.label_of(body.get("model"))
        pks, tags = body.get("pks"), body.get("tags")
        if pks is not None:
            pks = _list(body, "pks", frame)
            if len(pks) > MAX_PKS or not all(isinstance(pk, int | str) for pk in pks):
                raise FrameError(f"'pks' of SUBSCRIBE are more than {MAX_PKS}, or hold what is no key")
            pks = tuple(change.pk_of(pk) for pk in pks)
        if tags is not None and len(_list(body, "tags", frame)) > MAX_SUBSCRIBED_TAGS:
            raise FrameError(f"'tags' of SUBSCRIBE are more than {MAX_SUBSCRIBED_TAGS}")
        tags = None if tags is None else change.tags_of(tags, most=MAX_SUBSCRIBED_TAGS)
    except change.ChangeError as error:
        raise FrameError(f"SUBSCRIBE: {error}") from error
    return Subscribe(_subscription(body, frame), model, _text(body, "handler", frame), pks, tags)


def _subscription(body: Mapping[str, Any], frame: Frame) -> str:
    name = _text(body, "id", frame)
    if not 0 < len(name) <= MAX_SUBSCRIPTION_ID:
        raise FrameError(f"'id' of frame type {frame.type} has not 1 to {MAX_SUBSCRIPTION_ID} characters")
    return name


def _subscribe_body(subscribe: Subscribe) -> bytes:
    narrowed = {"pks": subscribe.pks, "tags": subscribe.tags}
    return _json({"id": subscribe.id, "model": subscribe.model, **narrowed, "handler": subscribe.handler})


def _attach_body(attach: Attach) -> bytes:
    return _json(
        {
            "session": attach.session,
            "target": attach.target,
            "headers": attach.headers,
            "client": attach.client,
            "protocol": attach.protocol,
            "takeover": attach.takeover,
            "resume": attach.resume,
            "force": attach.force,
            "seen": attach.seen,
            **({} if attach.former is None else {"from": attach.former}),
        }
    )


def _refusal_body(refused: AttachRefused) -> bytes:
    instance = {} if refused.instance is None else {"instance": refused.instance}
    return _json({"error": refused.error, "message": refused.message, **instance})


def _attached_body(attached: Attached) -> bytes:
    unfinished = {} if attached.open is None else {"open": attached.open}
    return _json({"received": attached.received, "sent": attached.sent, **unfinished})


def _detached_body(detached: Detached) -> bytes:
    background = [_handler_body(handler) for handler in detached.background]
    unrun = {"unrun": detached.unrun} if detached.unrun else {}
    return _json({"reason": detached.reason, "background": background, **unrun})


def _client_body(client: Client) -> bytes:
    return _CLIENT.pack(client.binary * _BINARY | client.wants_done * _WANTS_DONE, client.n) + client.payload


def _handler_body(handler: RunningHandler) -> dict[str, Any]:
    return {"name": handler.name, "payload": handler.payload}


def _inject_body(inject: Inject) -> bytes:
    return _NUMBER.pack(inject.n) + _json(
        {"name": inject.name, "payload": inject.payload, "background": inject.background}
    )


_DECODERS: dict[int, Callable[[Frame], Message]] = {
    SessionFrameType.ATTACH: _decode_attach,
    SessionFrameType.ATTACHED: _decode_attached,
    SessionFrameType.CLIENT: _decode_client,
    SessionFrameType.SERVER: _decode_server,
    SessionFrameType.RECEIVED: _decode_number(Received),
    SessionFrameType.DONE: _decode_done,
    SessionFrameType.CREDIT: _decode_number(Credit),
    SessionFrameType.DETACH: lambda frame: Detach(_one_of(frame.json(), "reason", frame, get_args(DetachReason))),
    SessionFrameType.DETACHED: _decode_detached,
    SessionFrameType.RESYNC: _decode_number(Resync),
    SessionFrameType.BACKGROUND: _decode_background,
    SessionFrameType.INJECT: _decode_inject,
    SessionFrameType.PROBE: _decode_probe,
    SessionFrameType.PROBED: _decode_probed,
    SessionFrameType.SUBSCRIBE: _decode_subscribe,
    SessionFrameType.UNSUBSCRIBE: lambda frame: Unsubscribe(_subscription(frame.json(), frame)),
}

_ENCODERS: dict[type, tuple[SessionFrameType, Callable[[Any], bytes]]] = {
    Attach: (SessionFrameType.ATTACH, _attach_body),
    Attached: (SessionFrameType.ATTACHED, _attached_body),
    AttachRefused: (SessionFrameType.ATTACHED, _refusal_body),
    Client: (SessionFrameType.CLIENT, _client_body),
    Server: (SessionFrameType.SERVER, lambda m: bytes((m.binary * _BINARY,)) + m.payload),
    Received: (SessionFrameType.RECEIVED, lambda m: _NUMBER.pack(m.n)),
    Done: (SessionFrameType.DONE, lambda m: _DONE.pack(m.n, OUTCOMES.index(m.outcome))),
    Credit: (SessionFrameType.CREDIT, lambda m: _NUMBER.pack(m.bytes)),
    Detach: (SessionFrameType.DETACH, lambda m: _json({"reason": m.reason})),
    Detached: (SessionFrameType.DETACHED, _detached_body),
    Resync: (SessionFrameType.RESYNC, lambda m: _NUMBER.pack(m.n)),
    BackgroundStarted: (
        SessionFrameType.BACKGROUND,
        lambda m: _json({"id": m.id, "state": "started", **_handler_body(m.handler)}),
    ),
    BackgroundEnded: (SessionFrameType.BACKGROUND, lambda m: _json({"id": m.id, "state": "ended"})),
    Inject: (SessionFrameType.INJECT, _inject_body),
    Probe: (SessionFrameType.PROBE, lambda m: b"{}"),
    Probed: (
        SessionFrameType.PROBED,
        lambda m: _json({"alive": m.alive, "kept": m.kept} | ({} if m.seen is None else {"seen": m.seen})),
    ),
    Subscribe: (SessionFrameType.SUBSCRIBE, _subscribe_body),
    Unsubscribe: (SessionFrameType.UNSUBSCRIBE, lambda m: _json({"id": m.id})),
}
