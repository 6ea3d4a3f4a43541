"""The environ of a virtual session: what engineio's own ASGI driver makes of a real WebSocket handshake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from engineio.async_drivers.asgi import translate_request  # type: ignore[import-untyped]

from bridgehead import arrival
from bridgehead.session_frames import Attach

_MAX_SHARED = 4_096
_MAX_SHARED_LENGTH = 512
# Each client has its own of these.
_OWN = frozenset((b"cookie", b"authorization", b"sec-websocket-key", b"x-forwarded-for", b"x-real-ip", b"x-request-id"))
_OWN_NAMES = frozenset(name.decode() for name in _OWN)
_SCOPE = "asgi.scope"

# Clients send the same headers again and again: equal ones are kept once. Emptied when full, so that it holds what
# comes often.
_shared: dict[Any, Any] = {}
_input: Any = None
_ASGI = {"version": "3.0", "spec_version": "2.4"}
_NO_PROTOCOLS: list[str] = []


def make_environ(attach: Attach) -> dict[str, Any]:
    """The environ for the `connect` event of one session."""
    path, _, query = attach.target.partition("?")
    headers = [(name.lower().encode("latin-1", "replace"), _value(value)) for name, value in attach.headers]
    headers, _ = arrival.without_annotation(headers)
    if attach.protocol is not None and not any(name == b"sec-websocket-protocol" for name, _ in headers):
        headers.append((b"sec-websocket-protocol", _value(attach.protocol)))
    return _translated(
        {
            "type": "websocket",
            "asgi": _ASGI,
            "http_version": "1.1",
            "scheme": "ws",
            "path": share(path),
            "raw_path": share(path.encode()),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [_pair(name, value) for name, value in headers],
            "client": (attach.client, 0),
            "server": None,
            "subprotocols": _NO_PROTOCOLS if attach.protocol is None else [share(attach.protocol)],
        }
    )


def compacted(environ: dict[str, Any]) -> dict[str, Any]:
    """The same environ in a third of the memory, for a session that is connected; one that the app changed stays."""
    scope = environ.get(_SCOPE)
    if isinstance(environ, _CompactEnviron) or not isinstance(scope, dict) or environ != _translated(scope):
        return environ
    return _CompactEnviron(scope)


def share_headers(headers: dict[str, str]) -> dict[str, str]:
    """Decoded headers whose equal strings are kept once for all sessions."""
    return {
        share(name): value if name in _OWN_NAMES or len(value) > _MAX_SHARED_LENGTH else share(value)
        for name, value in headers.items()
    }


def share[T](value: T) -> T:
    """The first of equal values."""
    found = _shared.get(value)
    if found is not None:
        return cast("T", found)
    if len(_shared) >= _MAX_SHARED:
        _shared.clear()
    _shared[value] = value
    return value


class _CompactEnviron(dict[str, Any]):
    """Holds the scope, which Reflex reads at each event, and makes the rest of it when somebody asks."""

    __slots__ = ("_compact",)

    def __init__(self, scope: dict[str, Any]) -> None:
        super().__init__({_SCOPE: scope})
        self._compact = True

    def _complete(self) -> None:
        if self._compact:
            self._compact = False
            for key, value in _translated(super().__getitem__(_SCOPE)).items():
                super().setdefault(key, value)

    def __missing__(self, key: str) -> Any:
        if not self._compact:
            raise KeyError(key)
        self._complete()
        return self[key]

    def get(self, key: str, default: Any = None) -> Any:
        if key != _SCOPE:
            self._complete()
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._complete()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._complete()
        return super().__iter__()

    def __len__(self) -> int:
        self._complete()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self._complete()
        return super().__eq__(other)

    __hash__ = None

    def keys(self) -> Any:
        self._complete()
        return super().keys()

    def items(self) -> Any:
        self._complete()
        return super().items()

    def values(self) -> Any:
        self._complete()
        return super().values()

    def copy(self) -> dict[str, Any]:
        self._complete()
        return dict(super().items())

    def setdefault(self, key: str, default: Any = None) -> Any:
        self._complete()
        return super().setdefault(key, default)

    def __delitem__(self, key: str) -> None:
        self._complete()
        super().__delitem__(key)

    def __or__(self, other: Any) -> Any:
        self._complete()
        return super().__or__(other)

    def pop(self, *arguments: Any) -> Any:
        self._complete()
        return super().pop(*arguments)


def _translated(scope: dict[str, Any]) -> dict[str, Any]:
    global _input
    translating = translate_request(scope, _receive, _send)
    try:
        # It waits for `_receive` alone, which has its answer at hand.
        translating.send(None)
    except StopIteration as done:
        environ = cast("dict[str, Any]", done.value)
    else:
        translating.close()
        raise RuntimeError("engineio's translate_request waits for more than the handshake")
    if _input is None:
        _input = environ["wsgi.input"]
    # A handshake has no body. engineio makes a class for each, which would live as long as the session.
    environ["wsgi.input"] = _input
    return environ


def _value(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _pair(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    name = share(name)
    if name in _OWN or len(value) > _MAX_SHARED_LENGTH:
        return name, value
    return share((name, share(value)))


async def _receive() -> dict[str, Any]:
    return {"type": "websocket.connect"}


async def _send(message: Any) -> None:
    """Nobody listens: what the app has to say goes through Engine.IO."""
