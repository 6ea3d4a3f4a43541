"""Watch what the companion decides for every event, to prove in a test or a debug page what ran.

    from bridgehead import events

    unsubscribe = events.subscribe(lambda report: print(report.event, report.tier, report.source, report.queries))

Subscribe while the app is imported: queries are counted on database connections that are opened afterwards. Without a
subscriber nothing of this costs anything; in a worker that looks for a sidecar each query costs one look-up, since
shadow mode (`bridgehead.shadow`) counts too and may be turned on while the worker runs.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bridgehead.annotation import Reason, Tier
from bridgehead.rules import Decision, Raised, Source

logger = logging.getLogger("bridgehead")

Origin = Literal["client", "upload", "python"]
When = Literal["decided", "finished"]


@dataclass(slots=True)
class EventReport:
    """One event: the tier that reflex-django was given, and why.

    `source` decided it, `raised` tells that a path, an upload or an access rule then needed more.
    `origin`: sent by a client, uploaded, or born in Python (on_load, chained, yielded). `annotation`: `valid`, the
    reason why it was ignored, or None where there was none. `shadow`: what the rules would have decided, while the
    sidecar only watches. `queries`: database queries that Django made for this event so far.
    """

    event: str
    origin: Origin
    tier: Tier
    source: Source
    raised: Raised | None = None
    annotation: Literal["valid", "unasked"] | Reason | None = None
    shadow: Decision | None = None
    queries: int = 0
    finished: bool = False


Callback = Callable[[EventReport], None]

_subscribers: dict[When, list[Callback]] = {"decided": [], "finished": []}
_current: contextvars.ContextVar[EventReport | None] = contextvars.ContextVar("bridgehead_report", default=None)
_counting = False


def subscribe(callback: Callback, when: When = "finished") -> Callable[[], None]:
    """Call back with each report, when its tier is decided or when its handler has finished; gives the way back."""
    count_queries()
    _subscribers[when].append(callback)

    def unsubscribe() -> None:
        if callback in _subscribers[when]:
            _subscribers[when].remove(callback)

    return unsubscribe


def watched() -> bool:
    """Whether anybody subscribed."""
    return any(_subscribers.values())


def decided(report: EventReport) -> None:
    """Publish a decision and count this task's queries for it from now on."""
    _current.set(report)
    _publish("decided", report)


def finished(report: EventReport) -> None:
    """Publish that the event's handler is done."""
    report.finished = True
    _publish("finished", report)


def _publish(when: When, report: EventReport) -> None:
    for callback in tuple(_subscribers[when]):
        try:
            callback(report)
        except Exception:
            logger.exception("a subscriber of bridgehead.events failed")


def count_queries() -> None:
    """Count queries for reports, on database connections that are opened from now on. Safe to repeat."""
    global _counting
    if _counting:
        return
    try:
        from django.db.backends.signals import connection_created
    except ImportError:
        return
    _counting = True
    connection_created.connect(_watch_connection, dispatch_uid="bridgehead.events")


def _watch_connection(connection: Any, **_: Any) -> None:
    if _count_query not in connection.execute_wrappers:
        connection.execute_wrappers.append(_count_query)


def _count_query(execute: Callable[..., Any], sql: Any, params: Any, many: Any, context: Any) -> Any:
    # Django runs the ORM of async code in threads that inherit the task's context.
    report = _current.get()
    if report is not None:
        report.queries += 1
    return execute(sql, params, many, context)
