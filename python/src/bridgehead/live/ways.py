"""The ways by which a process without a link reaches the sidecars: their Redis, or their HTTP API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from typing import Any

from bridgehead.live.change import Change, bus_messages, gap_message
from bridgehead.live.courier import Refused
from bridgehead.redis_client import RedisClient

# Messages that the stream keeps, about.
STREAM_LENGTH = 10_000
_HTTP_SECONDS = 10.0
_MAX_ANSWER = 65_536


class RedisWay:
    """Publishes on the bus itself. `streams`: Redis Streams in the place of pub/sub."""

    def __init__(self, url: str, name: str, *, streams: bool) -> None:
        self._client = RedisClient(url)
        self._command: tuple[str | int, ...] = ("PUBLISH", f"bridgehead:{name}:changes")
        if streams:
            self._command = ("XADD", f"bridgehead:{name}:stream", "MAXLEN", "~", STREAM_LENGTH, "*", "message")

    def send(self, changes: Sequence[Change], gaps: Sequence[str | None]) -> None:
        """Raises where they did not arrive: then they may have, and sending them again is harmless."""
        self.send_messages((*bus_messages(changes), *map(gap_message, gaps)))

    def send_messages(self, messages: Iterable[str]) -> None:
        """Whole messages of a bus, in order."""
        self._client.send([(*self._command, message) for message in messages])


class HttpWay:
    """The admin listener of a sidecar."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url.rstrip("/")
        self._api_key = api_key

    def send(self, changes: Sequence[Change]) -> None:
        """Raises where they did not arrive; `Refused` where they never will."""
        bodies = [{key: value for key, value in change.to_json().items() if key != "at"} for change in changes]
        self.post("/api/publish", json.dumps({"changes": bodies}, ensure_ascii=False), changes[0].id)

    def post(self, path: str, body: str, key: str) -> None:
        """POST; with the same `key` twice it is done once. Raises as `send`."""
        request = urllib.request.Request(  # noqa: S310  # the operator's own URL
            self._url + path,
            data=body.encode("utf-8", "replace"),
            headers={
                "Authorization": f"Bearer {self._api_key}",
                "Content-Type": "application/json",
                "Idempotency-Key": key,
            },
            method="POST",
        )
        try:
            with _OPENER.open(request, timeout=_HTTP_SECONDS) as response:
                response.read(_MAX_ANSWER)
        except urllib.error.HTTPError as error:
            with error:
                message = _message(error.read(_MAX_ANSWER))
            if error.code < 500 and error.code not in (408, 425, 429):
                raise Refused(f"{self._url}{path} answers {error.code}: {message}") from None
            raise ConnectionError(f"{self._url}{path} answers {error.code}: {message}") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key goes nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


# Without a proxy: the admin listener is never behind one.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return "is this the admin listener of a Bridgehead?"
