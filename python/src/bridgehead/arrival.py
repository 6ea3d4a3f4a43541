"""What came with an event from outside, carried from where it arrives to where it is enqueued."""

from __future__ import annotations

import contextvars
from collections.abc import Iterable, MutableMapping
from typing import Any, Literal

KEY = "_bridgehead"
HEADER = b"x-bridgehead-annotation"


class Arrival:
    """One event from a client. It belongs to the first event that is enqueued under it, and to no other."""

    __slots__ = ("_taken", "annotation", "cookie", "origin", "path")

    def __init__(
        self,
        origin: Literal["client", "upload"],
        annotation: object = None,
        *,
        path: str | None = None,
        cookie: str | None = None,
    ) -> None:
        self.origin: Literal["client", "upload"] = origin
        self.annotation = annotation
        self.path = path
        self.cookie = cookie
        self._taken = False

    def take(self) -> Arrival | None:
        """Itself the first time, None afterwards."""
        if self._taken:
            return None
        self._taken = True
        return self


current: contextvars.ContextVar[Arrival | None] = contextvars.ContextVar("bridgehead_arrival", default=None)


def from_client(data: Any) -> Arrival:
    """Take the annotation off a client's event, as it came over the socket."""
    router_data = data.get("router_data") if isinstance(data, dict) else None
    if not isinstance(router_data, MutableMapping):
        return Arrival("client")
    annotation = router_data.pop(KEY, None)
    path = router_data.get("pathname")
    return Arrival("client", annotation, path=path if isinstance(path, str) else None)


def without_annotation(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Headers without ours, and the values that stood in ours.

    Some servers make underscores of dashes, so both forms go; only the form with dashes is ever read.
    """
    kept: list[tuple[bytes, bytes]] = []
    values: list[bytes] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered.replace(b"_", b"-") != HEADER:
            kept.append((name, value))
        elif lowered == HEADER:
            values.append(value)
    return kept, values
