"""What a session's messages mean for the app, one after the other in the order they came."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from bridgehead import counters, work
from bridgehead.resync import last_page, send_whole_state
from bridgehead.session_frames import Client, Detach, Inject, Outcome, Resync
from bridgehead.virtual_environ import compacted, share_headers
from bridgehead.virtual_socket import VirtualSocket
from bridgehead.work import Work

if TYPE_CHECKING:
    from bridgehead.virtual_sessions import VirtualSessions

logger = logging.getLogger("bridgehead")


async def feed(sessions: VirtualSessions, socket: VirtualSocket) -> None:
    """Give the app all that came; nothing once the link is lost or the session ends."""
    try:
        while socket.link is not None and not socket.closing and (message := socket.take()) is not None:
            match message:
                case Client():
                    await _deliver(sessions, socket, message)
                case Inject():
                    await _inject(sessions, socket, message)
                case Resync():
                    # What comes behind it need not wait for the state's lock here too.
                    sessions.run(_resync(sessions, socket, socket.begin(message.n, wants_done=True)))
                case Detach():
                    # This task cannot wait for its own end.
                    sessions.end_soon(socket, message.reason)
                    return
    finally:
        socket.task = None


async def _deliver(sessions: VirtualSessions, socket: VirtualSocket, client: Client) -> None:
    begun = socket.begin(client.n, wants_done=client.wants_done)
    work.enter(begun)
    try:
        data: Any = client.payload if client.binary else _text(client.payload)
        await sessions.eio._trigger_event("message", socket.sid, data, run_async=False)
    except UnicodeDecodeError:
        sessions.end_soon(socket, "failed")
    finally:
        _release(socket, begun)
        socket.taken(len(client.payload))
        if client.n == 1:
            _compact(sessions, socket)


def _compact(sessions: VirtualSessions, socket: VirtualSocket) -> None:
    """The session is connected, and will mostly wait from now on: keep equal things once."""
    environs = sessions.sio.environ
    if socket.sid in environs:
        environs[socket.sid] = compacted(environs[socket.sid])
    # reflex 0.10 keeps the decoded headers of each connection.
    static = getattr(sessions.namespace, "_static_router_data", {}).get(sessions.sid_of(socket))
    if static is not None and isinstance(static.get("headers"), dict):
        static["headers"] = share_headers(static["headers"])


def _text(payload: bytes) -> Any:
    from engineio.packet import Packet  # type: ignore[import-untyped]

    # As engineio reads it from a WebSocket.
    return Packet(encoded_packet=payload.decode()).data


async def _inject(sessions: VirtualSessions, socket: VirtualSocket, inject: Inject) -> None:
    begun = socket.begin(inject.n, wants_done=True)
    work.enter(begun)
    outcome: Outcome = "raised"
    try:
        sid = sessions.sid_of(socket)
        if sessions.handler(inject.name) is None or sid is None:
            counters.add("inject.refused")
            return
        page = socket.page or await last_page(sessions.app, sessions.tokens.token_of(sid))
        event = {"name": inject.name, "payload": dict(inject.payload), "router_data": dict(page)}
        await sessions.namespace.on_event(sid, event)
        outcome = "ended"
    except Exception:
        logger.exception("an injected event failed")
    finally:
        _release(socket, begun, outcome)


def _release(socket: VirtualSocket, begun: Work, outcome: Outcome = "ended") -> None:
    """The app's socket handler has returned. Socket.IO lets it return, too, where a move has cut it off."""
    if socket.is_stopped:
        # Not done: the sidecar has to tell its client, or to give it to the next worker.
        socket.forget_work(begun.n)
    begun.release(outcome)


async def _resync(sessions: VirtualSessions, socket: VirtualSocket, begun: Work) -> None:
    outcome: Outcome = "raised"
    try:
        sid = sessions.sid_of(socket)
        token = None if sid is None else sessions.tokens.token_of(sid)
        if token is not None and await send_whole_state(sessions.app, token):
            outcome = "ended"
    except Exception:
        logger.exception("a session's state could not be sent anew")
    finally:
        counters.add("session.resync" if outcome == "ended" else "session.resync_failed")
        begun.release(outcome)
