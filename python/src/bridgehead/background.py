"""Background handlers of virtual sessions: told while they run, so that they can be started again on another worker."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from bridgehead.session_frames import RunningHandler

if TYPE_CHECKING:
    from bridgehead.virtual_socket import VirtualSocket

MAX_PAYLOAD_BYTES = 65_536
# So long a cancelled handler may take to clean up before the session is moved without waiting for it.
_CANCEL_SECONDS = 1.0


def describe(event: Any) -> RunningHandler:
    """Name and payload; without payload where it is too large, or nothing that JSON can hold."""
    try:
        text = json.dumps(event.payload, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return RunningHandler(event.name, None)
    fits = isinstance(event.payload, dict) and len(text) <= MAX_PAYLOAD_BYTES
    return RunningHandler(event.name, json.loads(text) if fits else None)


def cancel_background(socket: VirtualSocket) -> None:
    """Cancel this session's background handlers without waiting for them."""
    for _, future in (socket.background or {}).values():
        future.cancel()


async def stop_background(socket: VirtualSocket, processor: Any) -> tuple[RunningHandler, ...]:
    """Cancel this session's background handlers, and no other's; those that ran."""
    known, socket.background = socket.background or {}, None
    running: list[RunningHandler] = []
    tasks: list[asyncio.Task[Any]] = []
    for txid, (handler, future) in known.items():
        task = processor._tasks.get(txid)
        # One may have ended this moment, before it was told.
        if not future.done() and (task is None or not task.done()):
            running.append(handler)
        if task is not None:
            tasks.append(task)
        future.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
    return tuple(running)
