"""A worker that is told to stop gives its sessions to others first (docs/PROTOCOL.md, DRAIN)."""

from __future__ import annotations

import asyncio
import logging

from bridgehead.frames import FrameType
from bridgehead.virtual_sessions import VirtualSessions

logger = logging.getLogger("bridgehead")


async def drain(sessions: VirtualSessions, seconds: float) -> None:
    """Ask the sidecars to move their sessions and serve on until they have, at most so many seconds.

    New sessions are refused from now on. Without sessions there is nothing to wait for.
    """
    sessions.is_draining = True
    # Also over links that carry none: their sidecars would go on choosing this worker, and be refused.
    for link in sessions.links:
        link.send(FrameType.DRAIN, {"seconds": seconds})
    count = sessions.linked_count
    if not count:
        return
    logger.info("about to stop: %d sessions are to be moved within %g s", count, seconds)
    try:
        async with asyncio.timeout(seconds):
            await sessions.emptied()
    except TimeoutError:
        logger.warning("%d of %d sessions were not moved within %g s", sessions.linked_count, count, seconds)
