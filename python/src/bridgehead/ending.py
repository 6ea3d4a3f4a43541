"""How a session ends in this worker, so that the app sees its client leave and nobody else loses a token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bridgehead.background import cancel_background, stop_background
from bridgehead.session_frames import Detach, Detached, DetachedReason, RunningHandler
from bridgehead.virtual_socket import VirtualSocket

if TYPE_CHECKING:
    from bridgehead.virtual_sessions import VirtualSessions

# How long the app may hold up the answer to a DETACH: first what runs of the session, then its disconnect handlers.
_FEEDING_SECONDS = 1.0
_DISCONNECT_SECONDS = 2.0


async def end(sessions: VirtualSessions, socket: VirtualSocket, reason: DetachedReason, why: str) -> Detached:
    """Leave nothing of the session behind; what its sidecar is to hear. The socket must be `closing` already."""
    background: tuple[RunningHandler, ...] = ()
    unrun: tuple[int, ...] = ()
    if reason == "move":
        unrun = _stop_work(socket, sessions.app.event_processor)
        background = await stop_background(socket, sessions.app.event_processor)
    if socket.task is not None and socket.task is not asyncio.current_task():
        socket.task.cancel()
        await asyncio.wait({socket.task}, timeout=_FEEDING_SECONDS)
    await _disconnect(sessions, socket, why)
    return Detached(reason, background, unrun)


def stop(sessions: VirtualSessions, socket: VirtualSocket) -> None:
    """Let nothing of the session begin or go on, long before it ends."""
    _stop_work(socket, sessions.app.event_processor)
    cancel_background(socket)


def _stop_work(socket: VirtualSocket, processor: Any) -> tuple[int, ...]:
    """No handler of the session begins any more; the packets that have certainly not run."""
    socket.is_stopped = True
    unrun = [n for n, begun in (socket.works or {}).items() if begun.stop(processor._tasks)]
    for n in unrun:
        # Not cancelled but never begun: no DONE.
        socket.forget_work(n)
    unrun += [message.n for message in socket.inbox or () if not isinstance(message, Detach)]
    socket.inbox = None
    return tuple(unrun)


async def _disconnect(sessions: VirtualSessions, socket: VirtualSocket, why: str) -> None:
    sid = sessions.sid_of(socket)
    token = None if sid is None else sessions.tokens.token_of(sid)
    leaving = sessions.run(sessions.eio._trigger_event("disconnect", socket.sid, why, run_async=False))
    await asyncio.wait({leaving}, timeout=_DISCONNECT_SECONDS)
    if sid is None or token is None:
        return
    manager = sessions.sio.manager
    if manager.eio_sid_from_sid(sid, sessions.event_namespace) is not None:
        # It was connecting still, and Socket.IO tells no handler of that.
        sessions.namespace.on_disconnect(sid)
        manager.basic_disconnect(sid, sessions.event_namespace)
    # Reflex does this too, a little later; whoever attaches the session elsewhere must find it done.
    await sessions.tokens.release(token, sid)
