"""Subscriptions of a session: told to the sidecar that carries it, on the session's own channel."""

from __future__ import annotations

import asyncio
import logging

from bridgehead import companion, counters
from bridgehead.session_frames import Subscribe, Unsubscribe
from bridgehead.virtual_socket import VirtualSocket

logger = logging.getLogger("bridgehead")

# A link that is lost comes back, or its sessions end, within this; a handler holds its state no longer than 10 s.
CONFIRM_SECONDS = 7.0
_LOOK_SECONDS = 0.05

_said = False


async def subscribe(token: str, subscription: Subscribe) -> bool:
    """Have a handler run when rows change, from the moment this returns true.

    False where the session does not come over a link: nothing then tells it of changes.
    """
    socket = _socket_of(token)
    if socket is None:
        counters.add("live.not_live")
        _say_once()
        return False
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            while not socket.closing:
                link = socket.link
                socket.tell(subscription)
                # A link that is lost may have taken it along: then it is said again to the next.
                if link is not None and await link.confirmed():
                    counters.add("live.subscribed")
                    return True
                while socket.link is link and not socket.closing:  # noqa: ASYNC110  # rare, and soon over
                    await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        logger.warning("a sidecar does not confirm a subscription within %g s", CONFIRM_SECONDS)
    return True


async def unsubscribe(token: str, subscription_id: str) -> None:
    """End it."""
    if (socket := _socket_of(token)) is not None:
        socket.tell(Unsubscribe(subscription_id))


def _socket_of(token: str) -> VirtualSocket | None:
    running = companion.current()
    return None if running is None or running.sessions is None else running.sessions.holder(token)


def _say_once() -> None:
    global _said
    if not _said:
        _said = True
        logger.warning("live lists are loaded and not live: their sessions do not come over a sidecar's link")
