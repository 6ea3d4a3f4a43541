"""No handler of a session begins here once the session goes on elsewhere."""

from __future__ import annotations

from typing import Any

from reflex.middleware.middleware import Middleware
from reflex.state import StateUpdate
from reflex_base.event import Event

from bridgehead.handover import note_of


class StoppedSessions(Middleware):
    """The last word before a handler runs: reflex 0.9 runs events that were cancelled while they waited."""

    async def preprocess(self, app: Any, state: Any, event: Event) -> StateUpdate | None:
        work = note_of(event).work
        if work is None or not work.socket.is_stopped:
            return None
        work.socket.forget_work(work.n)
        return StateUpdate()
