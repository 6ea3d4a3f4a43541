"""Frames of the link (docs/PROTOCOL.md, "Link"): u32 length | u8 type | u32 channel | body, big-endian."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

_HEADER = struct.Struct(">IBI")
_LENGTH = struct.Struct(">I")
_TYPE_AND_CHANNEL = _HEADER.size - _LENGTH.size

HANDSHAKE_LIMIT = 4_096
LIMIT = 16 * 1024 * 1024
FIRST_VIRTUAL_TYPE = 32


class FrameType(IntEnum):
    HELLO = 1
    AUTH = 2
    WELCOME = 3
    MANIFEST = 4
    RULES = 5
    PING = 6
    PONG = 7
    ERROR = 8
    GOAWAY = 9
    AUTH_QUERY = 10
    AUTH_REPLY = 11
    SESSION = 12
    INVALIDATE = 13
    DRAIN = 14
    STATS = 15
    REPORT = 16
    CHANGES = 17
    CHANGED = 18
    GAP = 19
    WATCH = 20


class FrameError(ValueError):
    """The other side sent what no frame may be; the link ends with the code FRAME."""


@dataclass(frozen=True, slots=True)
class Frame:
    type: int
    channel: int
    body: bytes

    @property
    def is_control(self) -> bool:
        return self.type < FIRST_VIRTUAL_TYPE

    def json(self) -> dict[str, Any]:
        """The body of a control frame."""
        try:
            body = json.loads(self.body.decode("utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise FrameError(f"the body of frame type {self.type} is not JSON") from error
        if not isinstance(body, dict):
            raise FrameError(f"the body of frame type {self.type} is not a JSON object")
        return body


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def encode(frame_type: int, channel: int, body: bytes) -> bytes:
    """The bytes of one frame."""
    return _HEADER.pack(_TYPE_AND_CHANNEL + len(body), frame_type, channel) + body


def encode_control(frame_type: FrameType, body: Mapping[str, Any]) -> bytes:
    """The bytes of a control frame."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return encode(frame_type, 0, text.encode("utf-8", "replace"))


class FrameDecoder:
    """Cuts a byte stream into frames. It holds at most one incomplete frame of at most `limit` bytes."""

    def __init__(self, limit: int = HANDSHAKE_LIMIT) -> None:
        self.limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of an incomplete frame."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Give the frames that this chunk completes; `FrameError` at the first that is not allowed.

        The limit is read anew for each frame, so that it can rise between two frames of one chunk.
        """
        self._buffer += chunk
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length < _TYPE_AND_CHANNEL:
                raise FrameError("a frame is shorter than its type and channel")
            if length > self.limit:
                raise FrameError(f"a frame of {length} bytes exceeds {self.limit}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            _, frame_type, channel = _HEADER.unpack_from(self._buffer)
            frame = Frame(frame_type, channel, bytes(self._buffer[_HEADER.size : end]))
            del self._buffer[:end]
            if frame.is_control and channel != 0:
                raise FrameError("a control frame has a channel")
            yield frame
