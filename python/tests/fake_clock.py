"""A clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        waiting = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), waiting))
        await waiting

    @property
    def sleepers(self) -> int:
        return sum(not waiting.done() for _, _, waiting in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Pass the time, waking each sleeper at its own moment."""
        end = self.now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, waiting = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            if not waiting.done():
                waiting.set_result(None)
            for _ in range(5):
                await asyncio.sleep(0)
        self.now = end

    async def jump(self, seconds: float) -> None:
        """Stand still and find the time gone, as a process that was stopped."""
        self.now += seconds
        await self.advance(0)
