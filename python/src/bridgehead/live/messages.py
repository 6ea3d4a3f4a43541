"""The control frames of live changes (docs/PROTOCOL.md, "Live changes on a link")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bridgehead.frames import Frame, FrameError, FrameType
from bridgehead.live.change import MAX_BATCH, Change, ChangeError, label_of, read_change

_MAX_NUMBER = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Changed:
    """The sidecar's answer to number `n`. `ok`: the bus has it."""

    n: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Happened:
    """What happened anywhere."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Changes may have been missed: of one model, or of any."""

    model: str | None


def decode(frame: Frame) -> Changed | Happened | Gap:
    """What a sidecar says; `FrameError` for what no such frame may be."""
    body = frame.json()
    if frame.type == FrameType.CHANGED:
        n, ok = body.get("n"), body.get("ok")
        if type(n) is not int or not 0 < n <= _MAX_NUMBER or not isinstance(ok, bool):
            raise FrameError("CHANGED has no number or no ok")
        return Changed(n, ok)
    if frame.type == FrameType.GAP:
        model = body.get("model")
        try:
            return Gap(None if model is None else label_of(model))
        except ChangeError as error:
            raise FrameError(f"GAP: {error}") from error
    entries = body.get("changes")
    if not isinstance(entries, list) or len(entries) > MAX_BATCH:
        raise FrameError(f"CHANGES has no list of at most {MAX_BATCH}")
    return Happened(tuple(change for entry in entries if (change := read_change(entry)) is not None))


def changes_body(n: int, changes: Sequence[Change]) -> dict[str, Any]:
    """CHANGES of a worker."""
    return {"n": n, "changes": [change.to_json() for change in changes]}


def gap_body(n: int, model: str | None) -> dict[str, Any]:
    """GAP of a worker."""
    return {"n": n} if model is None else {"n": n, "model": model}


def watch_body(models: Iterable[str]) -> dict[str, Any]:
    """WATCH."""
    return {"models": sorted(models)}
