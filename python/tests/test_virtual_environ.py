"""The environ of a virtual session is the one that engineio makes of a real handshake."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from engineio.async_drivers.asgi import translate_request

from bridgehead.session_frames import Attach
from bridgehead.virtual_environ import compacted, make_environ, share_headers

HEADERS = (
    ("Host", "desk.example"),
    ("Cookie", "sessionid=abc; theme=dark"),
    ("X-Twice", "1"),
    ("X-Twice", "2"),
    ("X-Name", "Zoë"),
    ("X-Bridgehead-Annotation", "v1.AAAAAAAA.forged.AAAA"),
    ("Sec-WebSocket-Protocol", "0.10.1"),
)
ATTACH = Attach("s", "/_event/?token=t%20t&EIO=4&transport=websocket", HEADERS, "203.0.113.9", "0.10.1")
OWN = ("asgi.scope", "asgi.receive", "asgi.send", "wsgi.input")


def real(attach: Attach) -> dict[str, Any]:
    """What a server's scope for the same handshake becomes."""
    path, _, query = attach.target.partition("?")
    scope = {
        "type": "websocket",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in attach.headers],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def translated() -> dict[str, Any]:
        environ: dict[str, Any] = await translate_request(scope, receive, None)
        return environ

    return asyncio.run(translated())


def plain(environ: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in environ.items() if key not in OWN}


def test_it_is_engineios_own_without_our_header() -> None:
    expected = plain(real(ATTACH))
    del expected["HTTP_X_BRIDGEHEAD_ANNOTATION"]
    assert plain(make_environ(ATTACH)) == expected
    assert expected["HTTP_X_TWICE"] == "1,2"
    assert "HTTP_X_NAME" not in expected  # engineio leaves out what is not UTF-8


def test_the_scope_is_a_websockets() -> None:
    scope = make_environ(ATTACH)["asgi.scope"]
    assert (scope["type"], scope["path"], scope["client"]) == ("websocket", "/_event/", ("203.0.113.9", 0))
    assert scope["subprotocols"] == ["0.10.1"]
    assert (b"x-name", "Zoë".encode("latin-1")) in scope["headers"]


def test_a_protocol_without_its_header_gets_one() -> None:
    environ = make_environ(Attach("s", "/_event/", (), "203.0.113.9", "0.10.1"))
    assert environ["HTTP_SEC_WEBSOCKET_PROTOCOL"] == "0.10.1"
    assert "HTTP_SEC_WEBSOCKET_PROTOCOL" not in make_environ(Attach("s", "/_event/", (), "203.0.113.9"))


def whole(environ: dict[str, Any]) -> Any:
    return dict(environ)


@pytest.mark.parametrize(
    "ask",
    [
        lambda environ: environ["HTTP_HOST"],
        lambda environ: environ.get("HTTP_HOST"),
        lambda environ: "HTTP_HOST" in environ,
        lambda environ: environ.get("HTTP_NO_SUCH", "nothing"),
        lambda environ: sorted(environ),
        lambda environ: sorted(environ.keys()),
        lambda environ: len(environ),
        lambda environ: len(environ.values()),
        lambda environ: dict(environ.items()),
        lambda environ: environ.copy(),
        lambda environ: {**environ},
        lambda environ: environ | {"more": 1},
        lambda environ: environ.pop("HTTP_HOST"),
        lambda environ: environ.setdefault("HTTP_HOST", "another"),
        lambda environ: environ.__delitem__("HTTP_HOST"),
        whole,
    ],
)
def test_compacted_it_answers_alike(ask: Any) -> None:
    environ = make_environ(ATTACH)
    assert ask(compacted(environ)) == ask(environ)
    with pytest.raises(KeyError):
        compacted(environ)["HTTP_NO_SUCH"]


def test_what_is_written_into_a_compact_one_stays() -> None:
    compact = compacted(make_environ(ATTACH))
    compact["HTTP_HOST"] = "mine"
    compact["app.own"] = 1
    assert (compact["HTTP_HOST"], compact["app.own"]) == ("mine", 1)
    assert compact["HTTP_COOKIE"] == "sessionid=abc; theme=dark"


def test_one_that_the_app_changed_is_left_alone() -> None:
    environ = make_environ(ATTACH)
    environ["app.own"] = 1
    assert compacted(environ) is environ
    compact = compacted(make_environ(ATTACH))
    assert compacted(compact) is compact


def test_equal_headers_are_kept_once_and_no_cookies() -> None:
    first, second = make_environ(ATTACH), make_environ(ATTACH)
    pairs = zip(first["asgi.scope"]["headers"], second["asgi.scope"]["headers"], strict=True)
    shared = [one[0] for one, other in pairs if one is other]
    assert b"host" in shared
    assert b"cookie" not in shared
    decoded = {"host": "".join(("desk.", "example")), "cookie": "sessionid=abc"}
    assert share_headers(decoded) == decoded
    assert share_headers(dict(decoded))["host"] is share_headers(decoded)["host"]


def test_a_session_at_rest_needs_little() -> None:
    environ = make_environ(ATTACH)
    compact = compacted(environ)
    assert sys.getsizeof(compact) < sys.getsizeof(environ) / 2
