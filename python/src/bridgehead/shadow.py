"""Shadow mode: what every event needed of Django, beside the tier that the rules would have given it.

While the rules say `shadow`, the app's own tiers run and each event is watched (`bridgehead.django.watching`). What was
seen is summed up by handler, bounded, and told to every sidecar in REPORT frames (docs/PROTOCOL.md, "Shadow").
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridgehead.annotation import Tier
from bridgehead.events import EventReport
from bridgehead.rules import Decision

MAX_HANDLERS = 1_000
# Of one handler: kinds of needs, and kinds of wrong events.
MAX_KINDS = 16
MAX_NAME = 1_000
HANDLERS_PER_REPORT = 200
REPORT_SECONDS = 2.0

_RANK: dict[Tier, int] = {"none": 0, "auth_only": 1, "full": 2}
_OF_FULL = frozenset(("messages", "language", "response", "redirect"))
# Of one request a handler rarely reads more; a name longer than this is nobody's.
_MAX_NEED = 64
_OTHER = "other"


def tier_for(need: str) -> Tier:
    """The lowest tier that has what was needed. Attributes that only Django's whole chain sets are `request.<name>`."""
    return "full" if need in _OF_FULL or need.startswith("request.") else "auth_only"


@dataclass(slots=True, eq=False)
class Watch:
    """One event of a shadow run. Its needs may be added from every thread that works for it.

    `now` is the tier that runs, `would` what the rules say. Times are seconds of `perf_counter`: from the tier's
    decision to the handler's first line (the bridge's work), and to its end.
    """

    run: Run
    state_class: str
    now: Tier
    would: Decision
    report: EventReport
    needs: set[str] = field(default_factory=set)
    chain: frozenset[str] = frozenset()
    synced: bool = False
    redirected: bool = False
    running: bool = False
    decided_at: float = field(default_factory=time.perf_counter)
    started_at: float | None = None
    ended_at: float | None = None
    bridge_queries: int = 0

    def begin(self) -> None:
        """The handler begins. Reflex may run one of its own before it, for the same event."""
        self.running = True
        if self.started_at is None:
            self.started_at = time.perf_counter()
            self.bridge_queries = self.report.queries

    def end(self) -> None:
        """The handler is done."""
        self.running = False
        self.ended_at = time.perf_counter()

    @property
    def lowest(self) -> Tier:
        """The lowest tier that this event would have run rightly in; never more than it had."""
        is_upload = self.report.origin == "upload" or "upload" in self.report.event.lower()
        upload: Tier = "auth_only" if is_upload else "none"
        needed = max((tier_for(need) for need in self.needs), key=_rank, default=upload)
        return min(max(needed, upload, key=_rank), self.now, key=_rank)


def _rank(tier: Tier) -> int:
    return _RANK[tier]


@dataclass(slots=True)
class _Cell:
    events: int = 0
    queries: int = 0
    bridge_ms: float = 0.0
    ms: float = 0.0


@dataclass(slots=True)
class _Handler:
    state: str
    state_class: str
    handler: str
    events: int = 0
    lowest: Tier = "none"
    # By the tier that ran and the tier that the rules would have given.
    cells: dict[tuple[Tier, Tier], _Cell] = field(default_factory=dict)
    needs: dict[str, int] = field(default_factory=dict)
    # By the tier that would have been wrong, what decided it, and what would have been missing.
    wrong: dict[tuple[Tier, str, tuple[str, ...]], int] = field(default_factory=dict)

    def add(self, watch: Watch, now: float) -> None:
        self.events += 1
        self.lowest = max(self.lowest, watch.lowest, key=_rank)
        cell = self.cells.setdefault((watch.now, watch.would.tier), _Cell())
        ended = now if watch.ended_at is None else watch.ended_at
        started = ended if watch.started_at is None else watch.started_at
        cell.events += 1
        cell.queries += watch.report.queries if watch.started_at is None else watch.bridge_queries
        cell.bridge_ms += (started - watch.decided_at) * 1_000
        cell.ms += (ended - watch.decided_at) * 1_000
        for need in watch.needs:
            _count(self.needs, need[:_MAX_NEED], _OTHER)
        if _rank(watch.lowest) > _rank(watch.would.tier):
            missing = tuple(sorted(need[:_MAX_NEED] for need in watch.needs if _lacks(watch.would.tier, need)))
            _count(self.wrong, (watch.would.tier, watch.would.source, missing[:MAX_KINDS]), ("none", _OTHER, ()))

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "class": self.state_class,
            "handler": self.handler,
            "events": self.events,
            "lowest": self.lowest,
            "cells": [
                {
                    "now": now,
                    "would": would,
                    "events": cell.events,
                    "queries": cell.queries,
                    "bridgeMs": round(cell.bridge_ms, 3),
                    "ms": round(cell.ms, 3),
                }
                for (now, would), cell in self.cells.items()
            ],
            "needs": self.needs,
            "wrong": [
                {"would": would, "source": source, "missing": list(missing), "events": events}
                for (would, source, missing), events in self.wrong.items()
            ],
        }


def _lacks(tier: Tier, need: str) -> bool:
    return _rank(tier_for(need)) > _rank(tier)


def _count(counts: dict[Any, int], kind: Any, otherwise: Any) -> None:
    if kind not in counts and len(counts) >= MAX_KINDS:
        kind = otherwise
    counts[kind] = counts.get(kind, 0) + 1


class Run:
    """What was seen under one set of rules, in this process. Handlers beyond a bound share the name `other`."""

    def __init__(self) -> None:
        self.id = secrets.token_urlsafe(12)
        self.since = time.time_ns() // 1_000_000
        self._handlers: dict[str, _Handler] = {}
        self._news: set[str] = set()

    def add(self, watch: Watch) -> None:
        """Count an event that is over."""
        name = watch.report.event
        known = self._handlers.get(name)
        if known is None:
            known = self._new(name, watch.state_class)
            name = known.handler if known.state == _OTHER else name
        known.add(watch, time.perf_counter())
        self._news.add(name)

    def _new(self, name: str, state_class: str) -> _Handler:
        state, _, handler = name.rpartition(".")
        # One place is kept for `other` itself.
        full = len(self._handlers) >= MAX_HANDLERS - (0 if _OTHER in self._handlers else 1)
        if full or max(len(name), len(state_class)) > MAX_NAME:
            name, state, state_class, handler = _OTHER, _OTHER, _OTHER, _OTHER
        return self._handlers.setdefault(name, _Handler(state, state_class, handler))

    def news(self) -> Iterator[dict[str, Any]]:
        """REPORT bodies with the handlers that changed since the last call; at least one body."""
        names, self._news = sorted(self._news), set()
        return self._bodies(names)

    def everything(self) -> Iterator[dict[str, Any]]:
        """REPORT bodies with all handlers."""
        return self._bodies(list(self._handlers))

    def _bodies(self, names: list[str]) -> Iterator[dict[str, Any]]:
        for first in range(0, max(len(names), 1), HANDLERS_PER_REPORT):
            part = names[first : first + HANDLERS_PER_REPORT]
            handlers = [self._handlers[name].to_json() for name in part]
            yield {"run": self.id, "since": self.since, "handlers": handlers}


class Recorder:
    """Begins a run when rules with `shadow` come, ends it when others do, and sends what is new every 2 s.

    Used in the event loop's thread alone.
    """

    def __init__(self, send: Callable[[Mapping[str, Any]], None]) -> None:
        self._send = send
        self._run: Run | None = None
        self._rules: dict[str, Any] = {}
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, rules: Mapping[str, Any]) -> bool:
        """Take the body of a RULES frame that was found good; true while it asks for a shadow.

        Other rules make a new run, since its figures are about them. The same ones come with a new link: its sidecar
        may have missed reports, and is told everything. Figures are absolute, so that twice does no harm.
        """
        same = {key: value for key, value in rules.items() if key != "version"}
        if same == self._rules:
            for body in self.everything():
                self._send(body)
            return self._run is not None
        self._rules = same
        self._run = Run() if rules.get("shadow") is True else None
        if self._run is not None:
            # At once, so that sidecars forget the former run.
            self._tell_news()
        return self._run is not None

    def watch(self, report: EventReport, state_class: str, would: Decision) -> Watch | None:
        """Begin to watch an event whose tier was decided; None where there is no run."""
        return None if self._run is None else Watch(self._run, state_class, report.tier, would, report)

    def record(self, watch: Watch, session_changed: bool) -> None:
        """The event is over; `session_changed` tells that it logged somebody in or out."""
        if watch.run is not self._run:
            return
        # A thread that the handler left behind may still add to it.
        watch.needs = set(watch.needs)
        if session_changed:
            watch.needs.add("login")
        if watch.redirected and watch.started_at is None:
            watch.needs.add("redirect")
        watch.run.add(watch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REPORT_SECONDS, self._tell_news)

    def everything(self) -> Iterator[dict[str, Any]]:
        """What a sidecar that has heard nothing must be told."""
        return iter(()) if self._run is None else self._run.everything()

    def close(self) -> None:
        """Send what has not been sent."""
        if self._timer is not None:
            self._tell_news()

    def _tell_news(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for body in () if self._run is None else self._run.news():
            self._send(body)
