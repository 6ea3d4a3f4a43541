"""Live changes of one worker process: what it publishes, and what it hears (docs/PROTOCOL.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Set

from bridgehead.frames import Frame, FrameType
from bridgehead.link import Link
from bridgehead.live import incoming
from bridgehead.live.change import Change
from bridgehead.live.incoming import Incoming
from bridgehead.live.messages import Changed, Happened, decode, watch_body
from bridgehead.live.outgoing import Outgoing

logger = logging.getLogger("bridgehead")

# How long a worker that stops waits until the bus has what it published.
FAREWELL_SECONDS = 2.0


class LiveChanges:
    """Between the links of a worker and its app. Made in the event loop that the links run in."""

    def __init__(self, *, uses_django: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._links: set[Link] = set()
        self._outgoing = Outgoing()
        self._closed = False
        self._was_deaf = False
        theirs = incoming.broadcaster() if uses_django else None
        self._incoming = None if theirs is None else Incoming(theirs, self._watch)
        if theirs is not None:
            incoming.replace_receivers()

    def publish(self, change: Change) -> bool:
        """Publish a change that is committed, from any thread; false where this worker has stopped."""
        if self._closed:
            return False
        try:
            self._loop.call_soon_threadsafe(self._put, change)
        except RuntimeError:
            return False
        return True

    def publish_gap(self, model: str | None) -> bool:
        """Tell that changes are missing, from any thread; false where this worker has stopped."""
        if self._closed:
            return False
        try:
            self._loop.call_soon_threadsafe(self._put_gap, model)
        except RuntimeError:
            return False
        return True

    def _put(self, change: Change) -> None:
        # Here at once: it comes back over the links, and is known then.
        if self._incoming is not None:
            self._incoming.happened((change,))
        # It may have been on its way here when this was closed.
        if self._closed:
            _send_rest([change], [])
        else:
            self._outgoing.put(change)

    def _put_gap(self, model: str | None) -> None:
        if self._closed:
            _send_rest([], [model])
        else:
            self._outgoing.put_gap(model)

    # For the links

    def opened(self, link: Link) -> None:
        """A link is open."""
        self._links.add(link)
        self._outgoing.opened(link)
        if self._incoming is not None and self._incoming.watched:
            link.send(FrameType.WATCH, watch_body(self._incoming.watched))
            if self._was_deaf:
                self._incoming.missed(None)
        self._was_deaf = False

    def on_frame(self, link: Link, frame: Frame) -> None:
        """CHANGES, CHANGED or GAP of a sidecar."""
        match decode(frame):
            case Changed() as answer:
                self._outgoing.answered(link, answer)
            case Happened(changes):
                if self._incoming is not None:
                    self._incoming.happened(changes)
            case gap:
                if self._incoming is not None:
                    self._incoming.missed(gap.model)

    def lost(self, link: Link) -> None:
        """The link is over. While there is none, changes are missed."""
        self._links.discard(link)
        self._outgoing.lost(link)
        self._was_deaf = not self._links

    def _watch(self, models: Set[str]) -> None:
        for link in tuple(self._links):
            link.send(FrameType.WATCH, watch_body(models))

    # For the worker's life

    async def run(self) -> None:
        """Publish until cancelled."""
        await self._outgoing.run()

    async def close(self) -> None:
        """Wait a moment until the bus has everything; what it does not have then goes another way, if there is one."""
        if self._links:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self._outgoing.emptied()
        self._closed = True
        changes, gaps = self._outgoing.take_rest()
        if changes or gaps:
            _send_rest(changes, gaps)


def _send_rest(changes: list[Change], gaps: list[str | None]) -> None:
    from bridgehead.live.publishing import send_rest

    send_rest(changes, gaps)
