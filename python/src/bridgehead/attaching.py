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
        while (holder := sessions.holder(token)) is not None:
            await _end(sessions, holder, request)
    elif token is not None and not request.force:
        claim = await _claim(sessions, token, request)
        if isinstance(claim, AttachRefused):
            return claim, None
        takeover, kept = claim
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


async def _claim(
    sessions: VirtualSessions, token: str, request: Attach
) -> AttachRefused | tuple[bool, tuple[str | bytes, ...]]:
    """Whether the newcomer takes the token over, and what is handed on to it."""
    takeover, kept = request.takeover, tuple[str | bytes, ...]()
    # Anew after each wait: another newcomer may have it by then.
    while (owner := await sessions.tokens.owner(token)) == "here" and (holder := sessions.holder(token)) is not None:
        # Its sidecar gave up on the link that the session came over, and brings it here once more.
        is_itself = request.takeover and holder.session_id == request.session
        probed = Probed(alive=False) if is_itself else await _probe(holder)
        if probed.alive:
            taken = AttachRefused("taken", "the tab lives in another session")
            return taken if request.takeover else (False, ())
        takeover = True
        # What it had said until then is the sidecar's to tell, or with the client.
        seen = len(holder.echo or ()) if probed.seen is None else probed.seen
        await _end(sessions, holder, request, feeding_seconds=FEEDING_SECONDS)
        kept = (*map(_frame_of, probed.kept), *holder.said_since(seen))
    if owner not in ("here", "stale", "nobody", request.former):
        return AttachRefused("elsewhere", "another worker has this token", owner)
    return takeover or owner == "stale" or sessions.is_leaving(token), kept


async def _end(
    sessions: VirtualSessions, holder: VirtualSocket, request: Attach, *, feeding_seconds: float = 0
) -> None:
    """To its end, even where the newcomer leaves meanwhile."""

    async def end() -> None:
        if holder.task is not None and feeding_seconds:
            # The app has what was acknowledged, as before a DETACH.
            await asyncio.wait({holder.task}, timeout=feeding_seconds)
        # A sidecar that brings a session from a lost link starts its background handlers again.
        await sessions.end(holder, "move" if request.takeover and holder.link is None else "takeover")

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
            return await asyncio.shield(holder.probe)
    except TimeoutError:
        return Probed(alive=False, seen=0)


def _frame_of(text: str) -> str | bytes:
    return base64.b64decode(text[1:]) if text.startswith("b") else text


def _token_in(target: str) -> str | None:
    # As Reflex reads it.
    tokens = urllib.parse.parse_qs(target.partition("?")[2]).get("token", [])
    return tokens[0] if tokens else None
