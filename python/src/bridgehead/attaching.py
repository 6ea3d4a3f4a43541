"""How a session comes to this worker: anew, back after a lost link, or from a client whose connection may be dead."""

from __future__ import annotations

import asyncio
import base64
import urllib.parse
from typing import TYPE_CHECKING

from bridgehead import counters, session_frames
from bridgehead.link import Link
from bridgehead.session_frames import Attach, Attached, AttachRefused, Probe, Probed
from bridgehead.virtual_environ import make_environ
from bridgehead.virtual_socket import VirtualSocket

if TYPE_CHECKING:
    from bridgehead.virtual_sessions import VirtualSessions

PROBE_SECONDS = 2.5
FEEDING_SECONDS = 1.0


async def attach(
    sessions: VirtualSessions, link: Link, channel: int, request: Attach
) -> tuple[Attached | AttachRefused, VirtualSocket | None]:
    """Make the session, or say why not."""
    if sessions.is_draining:
        return AttachRefused("draining", "this worker is about to stop"), None
    token = _token_in(request.target)
    takeover, kept = request.takeover, tuple[str | bytes, ...]()
    if token is not None and takeover and request.former is None:
        # Whoever says so knows that the former session is over.
        if (holder := sessions.holder(token)) is not None:
            await _end(sessions, holder)
    elif token is not None and not request.force:
        owner = await sessions.tokens.owner(token)
        if owner == "here" and sessions.is_leaving(token):
            takeover = True
        elif owner == "here" and (holder := sessions.holder(token)) is not None:
            # Its sidecar gave up on the link that the session came over, and brings it here once more.
            is_itself = takeover and holder.session_id == request.session
            probed = Probed(alive=False) if is_itself else await _probe(holder)
            if probed.alive and takeover:
                return AttachRefused("taken", "the tab lives in another session"), None
            if not probed.alive:
                takeover = True
                # What it had said until then is the sidecar's to tell, or with the client.
                seen = len(holder.echo or ()) if probed.seen is None else probed.seen
                await _end(sessions, holder, feeding_seconds=FEEDING_SECONDS)
                kept = (*map(_frame_of, probed.kept), *holder.said_since(seen))
        elif owner == "stale":
            takeover = True
        elif owner not in ("here", "nobody", request.former):
            return AttachRefused("elsewhere", "another worker has this token", owner), None
    socket = VirtualSocket(sessions.eio, sessions, link, channel, request.session)
    socket.takeover, socket.kept = takeover, kept
    environ = make_environ(request)
    sessions.eio.sockets[socket.sid] = socket
    try:
        accepted = await sessions.eio._trigger_event("connect", socket.sid, environ, run_async=False)
    except BaseException:
        sessions.eio.sockets.pop(socket.sid, None)
        raise
    if accepted is not None and accepted is not True:
        sessions.eio.sockets.pop(socket.sid, None)
        return AttachRefused("failed", "the app refused the connection"), None
    counters.add("session.attached")
    return Attached(), socket


def resume(
    sessions: VirtualSessions, link: Link, channel: int, request: Attach
) -> tuple[Attached | AttachRefused, VirtualSocket | None]:
    """Bind a session that lost its link to the next one of the same sidecar."""
    socket = sessions.take_lost(link.sidecar, request.session)
    if socket is None:
        return AttachRefused("unknown", "this worker has no such session"), None
    sent = socket.rebind(link, channel)
    counters.add("session.resumed")
    return Attached(socket.received, sent, socket.open_numbers()), socket


async def _end(sessions: VirtualSessions, holder: VirtualSocket, *, feeding_seconds: float = 0) -> None:
    """To its end, even where the newcomer leaves meanwhile."""

    async def end() -> None:
        if holder.task is not None and feeding_seconds:
            # The app has what was acknowledged, as before a DETACH.
            await asyncio.wait({holder.task}, timeout=feeding_seconds)
        await sessions.end(holder, "takeover")

    await asyncio.shield(sessions.run(end()))


async def _probe(holder: VirtualSocket) -> Probed:
    """Whether the client of this session lives; at most 2.5 s."""
    if holder.echo is None:
        holder.echo = []
    if holder.link is None:
        return Probed(alive=False, seen=0)
    if holder.probe is None or holder.probe.done():
        holder.echo.clear()
        holder.probe = asyncio.get_running_loop().create_future()
        holder.link.write(session_frames.encode(holder.channel, Probe()))
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            probed = await asyncio.shield(holder.probe)
    except TimeoutError:
        return Probed(alive=False, seen=0)
    if probed.alive:
        holder.echo = None
    return probed


def _frame_of(text: str) -> str | bytes:
    return base64.b64decode(text[1:]) if text.startswith("b") else text


def _token_in(target: str) -> str | None:
    # As Reflex reads it.
    tokens = urllib.parse.parse_qs(target.partition("?")[2]).get("token", [])
    return tokens[0] if tokens else None
