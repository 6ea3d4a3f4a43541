"""What this process itself invalidated in the last seconds: it knows before any sidecar does."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

# A replica may be behind for so long, and an annotation may be on its way for less.
KEEP_MS = 30_000
_MAX_ENTRIES = 10_000


class RecentInvalidations:
    """Invalidations of the last 30 s, by user and by session. Safe to use from every thread; bounded."""

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._all = 0
        self._lock = threading.Lock()

    def add(self, what: Mapping[str, Any], now: int) -> None:
        """Remember an invalidation (the body of an INVALIDATE); `now` in Unix milliseconds."""
        with self._lock:
            if "user" in what:
                key = ("user", str(what["user"]))
            elif "session" in what:
                key = ("session", str(what["session"]))
            else:
                self._all = now
                return
            self._times[key] = now
            self._times.move_to_end(key)
            while self._times:
                oldest, at = next(iter(self._times.items()))
                full = len(self._times) > _MAX_ENTRIES
                if not full and at >= now - KEEP_MS:
                    break
                del self._times[oldest]
                if full:
                    # Forgetting one must not make it look fresh.
                    self._all = max(self._all, at)

    def last(self, *, user: str | None = None, session: str | None = None) -> int:
        """When one of these was last invalidated, in Unix milliseconds; 0 for not lately."""
        with self._lock:
            times = [self._all]
            if user is not None:
                times.append(self._times.get(("user", user), 0))
            if session:
                times.append(self._times.get(("session", session), 0))
            return max(times)


# What a replica may not know yet.
recent = RecentInvalidations()
# What a sidecar may still sign wrongly. Nothing new is among it: nobody can have asked for it before.
distrusted = RecentInvalidations()
