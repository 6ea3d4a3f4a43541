"""Carries things out of a process that has no link: one thread, a bounded queue, retries for as long as it lives."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

logger = logging.getLogger("bridgehead")

MAX_WAITING = 10_000
FIRST_DELAY_SECONDS = 0.2
MAX_DELAY_SECONDS = 5.0
# How long a process that ends waits for what it has still to carry.
FAREWELL_SECONDS = 5.0


class Refused(Exception):
    """The other side will never take it: trying again is of no use."""


class Courier[T]:
    """`put` never blocks and never raises. `deliver` gets some in order, and raises where they did not arrive.

    Beyond 10,000 that wait, one more becomes what `overflowed` makes of it: that is delivered, once, behind all others.
    """

    def __init__(
        self,
        what: str,
        deliver: Callable[[list[T]], None],
        *,
        at_once: int,
        overflowed: Callable[[T], T | None] = lambda item: None,
    ) -> None:
        self._what = what
        self._deliver = deliver
        self._at_once = at_once
        self._overflowed = overflowed
        self._forget()

    def _forget(self) -> None:
        """A fork takes neither the thread nor its queue along: what waits there is the parent's."""
        self._pid = os.getpid()
        self._waiting: deque[T] = deque()
        self._later: dict[T, None] = {}
        self._news = threading.Condition()
        self._busy = False
        self._stopping = False
        self._failed = False
        self._thread: threading.Thread | None = None

    def put(self, item: T) -> None:
        """One more."""
        if self._pid != os.getpid():
            self._forget()
        with self._news:
            if len(self._waiting) >= MAX_WAITING:
                if (instead := self._overflowed(item)) is not None and len(self._later) < MAX_WAITING:
                    self._later[instead] = None
                return
            self._waiting.append(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"bridgehead-{self._what}", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._news.notify_all()

    def close(self) -> None:
        """Wait a moment until everything is delivered; tell what is not."""
        if self._pid != os.getpid():
            return
        with self._news:
            self._news.wait_for(lambda: not self._waiting and not self._busy, FAREWELL_SECONDS)
            self._stopping = True
            self._news.notify_all()
            if self._waiting:
                logger.error("this process ends, and %d %s were not delivered", len(self._waiting), self._what)

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                some = [self._waiting[index] for index in range(min(self._at_once, len(self._waiting)))]
                self._busy = True
            self._carry(some)
            with self._news:
                for _ in some:
                    self._waiting.popleft()
                if not self._waiting:
                    self._waiting.extend(self._later)
                    self._later.clear()
                self._busy = False
                self._news.notify_all()

    def _carry(self, some: list[T]) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self._stopping:
            try:
                self._deliver(some)
            except Refused as error:
                logger.error("%d %s were refused: %s", len(some), self._what, error)
                return
            except Exception as error:
                if not self._failed:
                    self._failed = True
                    logger.warning(
                        "%s cannot be delivered (%s: %s); trying on", self._what, type(error).__name__, error
                    )
                time.sleep(delay)
                delay = min(MAX_DELAY_SECONDS, delay * 2)
                continue
            if self._failed:
                self._failed = False
                logger.info("%s are delivered again", self._what)
            return
