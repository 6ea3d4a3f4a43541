"""This worker's changes on their way to the bus: over one link at a time, until a sidecar says that the bus has them.

All of it runs in the event loop's thread. What does not fit any more becomes a gap, which is told as the changes are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from bridgehead import counters
from bridgehead.clock import Clock, SystemClock
from bridgehead.frames import FrameType
from bridgehead.link import Link
from bridgehead.live.change import MAX_BATCH, Change
from bridgehead.live.messages import Changed, changes_body, gap_body

logger = logging.getLogger("bridgehead")

MAX_WAITING = 10_000
# Gaps of more models than this become one of all.
MAX_GAPS = 100
ANSWER_SECONDS = 10.0
FIRST_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 5.0

Body = Callable[[int], Mapping[str, Any]]


class Outgoing:
    """Changes wait here, in order, at most 10,000."""

    def __init__(self, *, clock: Clock | None = None, most: int = MAX_WAITING) -> None:
        self._clock = clock or SystemClock()
        self._most = most
        self._waiting: deque[Change] = deque()
        self._gaps: dict[str | None, None] = {}
        self._numbers: dict[Link, int] = {}
        self._asked: tuple[Link, int, asyncio.Future[bool]] | None = None
        self._news = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._turn = 0

    @property
    def waiting(self) -> int:
        """Changes that no bus is known to have."""
        return len(self._waiting)

    def put(self, change: Change) -> None:
        """One more."""
        if len(self._waiting) < self._most:
            self._waiting.append(change)
        else:
            counters.add("live.dropped")
            self.put_gap(change.model)
        self._empty.clear()
        self._news.set()

    def put_gap(self, model: str | None) -> None:
        """Changes of this model, or of any, will not be told."""
        if not self._gaps:
            logger.warning("changes are made faster than they can be published: live lists will be read anew")
        if len(self._gaps) >= MAX_GAPS or model is None:
            self._gaps = {None: None}
        elif None not in self._gaps:
            self._gaps[model] = None
        self._empty.clear()
        self._news.set()

    def opened(self, link: Link) -> None:
        """A link that may carry them."""
        self._numbers[link] = 0
        self._news.set()

    def lost(self, link: Link) -> None:
        """It is over: what it was asked goes to another."""
        self._numbers.pop(link, None)
        if self._asked is not None and self._asked[0] is link:
            _settle(self._asked[2], result=False)

    def answered(self, link: Link, answer: Changed) -> None:
        """The sidecar's answer; one that comes too late is for nobody."""
        if self._asked is not None and self._asked[:2] == (link, answer.n):
            _settle(self._asked[2], result=answer.ok)

    async def run(self) -> None:
        """Publish until cancelled."""
        failures = 0
        while True:
            link = self._next_link() if self._waiting or self._gaps else None
            if link is None:
                self._news.clear()
                await self._news.wait()
                continue
            if await self._publish_some(link):
                failures = 0
                continue
            failures += 1
            counters.add("live.retried")
            if failures >= max(1, len(self._numbers)):
                delay = FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 16)
                await self._clock.sleep(min(MAX_DELAY_SECONDS, delay))

    async def emptied(self) -> None:
        """Wait until nothing waits."""
        await self._empty.wait()

    def take_rest(self) -> tuple[list[Change], list[str | None]]:
        """What waits still, changes and gaps, which somebody else sees to now."""
        rest = list(self._waiting), list(self._gaps)
        self._waiting.clear()
        self._gaps.clear()
        self._empty.set()
        return rest

    def _next_link(self) -> Link | None:
        """Each in turn, where one does not take them."""
        links = list(self._numbers)
        return links[self._turn % len(links)] if links else None

    async def _publish_some(self, link: Link) -> bool:
        if self._waiting:
            batch = list(islice(self._waiting, MAX_BATCH))
            done = await self._ask(link, FrameType.CHANGES, lambda n: changes_body(n, batch))
            # What waits was not touched meanwhile, but for more at its end.
            for _ in range(min(len(batch), len(self._waiting)) if done else 0):
                self._waiting.popleft()
                counters.add("live.published")
        else:
            model = next(iter(self._gaps))
            done = await self._ask(link, FrameType.GAP, lambda n: gap_body(n, model))
            if done:
                self._gaps.pop(model, None)
                counters.add("live.gap_told")
        if not done:
            self._turn += 1
        elif not self._waiting and not self._gaps:
            self._empty.set()
        return done

    async def _ask(self, link: Link, frame_type: FrameType, body: Body) -> bool:
        self._numbers[link] += 1
        n = self._numbers[link]
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked = (link, n, answer)
        try:
            if not link.send(frame_type, body(n)):
                return False
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            return False
        finally:
            self._asked = None


def _settle(answer: asyncio.Future[bool], *, result: bool) -> None:
    if not answer.done():
        answer.set_result(result)
