"""The events that this worker process has seen, newest last, bounded."""

import dataclasses
import itertools
import os
from collections import deque
from contextvars import ContextVar
from typing import Any


@dataclasses.dataclass
class EventRecord:
    """One event.

    `tier` is what reflex-django resolved; `source` is who decided it, `origin` who began the event and `annotation`
    what the companion made of the signed note, all three as the companion reports them (null where it was not asked);
    `user` is who `request.user` was when the handler began: a user name, "anonymous", "unresolved" (nobody has
    asked Django yet) or null (no request at all); `rights` (SHOP_DEBUG_RIGHTS) is what that user may.
    `bridge_queries` were made before the handler began, `queries` in all.
    """

    number: int
    name: str
    token: str
    pid: int
    tier: str | None = None
    source: str | None = None
    origin: str | None = None
    annotation: str | None = None
    user: str | None = None
    user_type: str | None = None
    rights: dict[str, Any] | None = None
    bridge_queries: int = 0
    queries: int = 0
    router_data_keys: list[str] = dataclasses.field(default_factory=list)


KEPT = 2_000
events: deque[EventRecord] = deque(maxlen=KEPT)
current: ContextVar[EventRecord | None] = ContextVar("shop_debug_event", default=None)
numbers = itertools.count(1)


def begin(name: str, token: str, router_data: dict[str, Any]) -> None:
    record = EventRecord(
        number=next(numbers), name=name, token=token, pid=os.getpid(), router_data_keys=sorted(router_data)
    )
    events.append(record)
    current.set(record)
