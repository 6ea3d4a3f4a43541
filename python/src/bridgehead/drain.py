"""A worker that is told to stop gives its sessions to others first (docs/PROTOCOL.md, DRAIN)."""

from __future__ import annotations

import asyncio
import logging

from bridgehead.virtual_sessions import VirtualSessions

logger = logging.getLogger("bridgehead")


async def drain(sessions: VirtualSessions, seconds: float) -> None:
    """Ask the sidecars to move their sessions and serve on until they have, at most so many seconds.

    New sessions are refused from now on. Without sessions there is nothing to wait for.
    """
    sessions.drain(seconds)
    count = sessions.count
    if not count:
        return
    logger.info("about to stop: %d sessions are to be moved within %g s", count, seconds)
    try:
        async with asyncio.timeout(seconds):
            await sessions.emptied()
    except TimeoutError:
        logger.warning("%d of %d sessions were not moved within %g s", sessions.count, count, seconds)
