"""The environ of a virtual session: what engineio's own ASGI driver makes of a real WebSocket handshake."""

from __future__ import annotations

from typing import Any

from engineio.async_drivers.asgi import translate_request  # type: ignore[import-untyped]

from bridgehead import arrival
from bridgehead.session_frames import Attach

_MAX_SHARED = 4_096
_MAX_SHARED_LENGTH = 512
# Each client has its own of these.
_OWN = frozenset((b"cookie", b"authorization", b"sec-websocket-key", b"x-forwarded-for", b"x-real-ip", b"x-request-id"))

# Clients send the same headers again and again: equal ones are kept once. Emptied when full, so that it holds what
# comes often.
_shared: dict[Any, Any] = {}
_input: Any = None
_ASGI = {"version": "3.0", "spec_version": "2.4"}
_NO_PROTOCOLS: list[str] = []


async def make_environ(attach: Attach) -> dict[str, Any]:
    """The environ for the `connect` event of one session."""
    global _input
    environ: dict[str, Any] = await translate_request(_scope(attach), _receive, _send)
    if _input is None:
        _input = environ["wsgi.input"]
    # A handshake has no body. engineio makes a class for each, which would live as long as the session.
    environ["wsgi.input"] = _input
    for key, value in environ.items():
        if key.startswith("HTTP_") and key[5:].replace("_", "-").lower().encode() not in _OWN:
            environ[key] = _share(value)
    return environ


def _scope(attach: Attach) -> dict[str, Any]:
    path, _, query = attach.target.partition("?")
    headers = [(name.lower().encode("latin-1", "replace"), _value(value)) for name, value in attach.headers]
    headers, _ = arrival.without_annotation(headers)
    if attach.protocol is not None and not any(name == b"sec-websocket-protocol" for name, _ in headers):
        headers.append((b"sec-websocket-protocol", _value(attach.protocol)))
    return {
        "type": "websocket",
        "asgi": _ASGI,
        "http_version": "1.1",
        "scheme": "ws",
        "path": _share(path),
        "raw_path": _share(path.encode()),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [_pair(name, value) for name, value in headers],
        "client": (attach.client, 0),
        "server": None,
        "subprotocols": _NO_PROTOCOLS if attach.protocol is None else [_share(attach.protocol)],
    }


def _value(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _pair(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    name = _share(name)
    if name in _OWN or len(value) > _MAX_SHARED_LENGTH:
        return name, value
    return _share((name, _share(value)))


def _share[T](value: T) -> T:
    found: T | None = _shared.get(value)
    if found is not None:
        return found
    if len(_shared) >= _MAX_SHARED:
        _shared.clear()
    _shared[value] = value
    return value


async def _receive() -> dict[str, Any]:
    return {"type": "websocket.connect"}


async def _send(message: Any) -> None:
    """Nobody listens: what the app has to say goes through Engine.IO."""
