"""What a worker tells its sidecars of itself every 5 s (docs/PROTOCOL.md, STATS)."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from bridgehead.frames import FrameType
from bridgehead.virtual_sessions import VirtualSessions

EVERY_SECONDS = 5.0
_TICKS = 20


class Stats:
    """Measures how late the event loop is, and tells the sidecars."""

    def __init__(self, sessions: VirtualSessions) -> None:
        self._sessions = sessions

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        tick = EVERY_SECONDS / _TICKS
        while True:
            lag = 0.0
            for _ in range(_TICKS):
                before = loop.time()
                await asyncio.sleep(tick)
                lag = max(lag, loop.time() - before - tick)
            body = {
                "sessions": self._sessions.count,
                "inFlight": self._sessions.in_flight,
                "lagMs": round(lag * 1000, 1),
                "rss": resident_bytes(),
                "links": len(self._sessions.links),
            }
            for link in self._sessions.links:
                link.send(FrameType.STATS, body)


def resident_bytes() -> int:
    """Bytes of memory that this process has; its peak where the system tells no more."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
