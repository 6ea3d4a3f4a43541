"""The work that one packet makes: what its DONE waits for (docs/PROTOCOL.md, "Acknowledgement").

A packet's work is open while the app's socket handler has it. The events enqueued meanwhile belong to it, and so does
all that they chain; background handlers do not, nor what they chain.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from bridgehead.session_frames import Outcome

if TYPE_CHECKING:
    from bridgehead.virtual_socket import VirtualSocket

_current: contextvars.ContextVar[Work | None] = contextvars.ContextVar("bridgehead_work", default=None)


def delivering() -> Work | None:
    """The work of the packet that a virtual session's socket handler has right now."""
    work = _current.get()
    # A context may be copied and live on, such as that of Reflex's queue.
    return work if work is not None and work.is_open else None


def enter(work: Work) -> None:
    """The running task delivers this packet."""
    _current.set(work)


def track_handlers(sio: Any) -> None:
    """With `async_handlers` (reflex 0.9) Socket.IO runs each handler in a task: it belongs to the packet too."""
    original = sio.start_background_task
    handle = sio._handle_event_internal

    def start_background_task(target: Any, *args: Any, **kwargs: Any) -> Any:
        task = original(target, *args, **kwargs)
        begun = delivering()
        if begun is not None and target == handle:
            begun.hold()
            task.add_done_callback(lambda _: begun.release())
        return task

    sio.start_background_task = start_background_task


class Work:
    """One packet, number `n` of its session. With `n` 0: what background handlers make, which nobody waits for."""

    __slots__ = ("_handlers", "_outcome", "_pending", "_roots", "n", "socket", "wants_done")

    def __init__(self, socket: VirtualSocket, n: int, *, wants_done: bool) -> None:
        self.socket = socket
        self.n = n
        self.wants_done = wants_done
        self._handlers = 0
        self._pending = 0
        self._outcome: Outcome = "ended"
        self._roots: list[Any] = []

    @property
    def is_open(self) -> bool:
        """Whether the socket handler has the packet still."""
        return self._handlers > 0

    def hold(self) -> None:
        """A socket handler begins with the packet."""
        self._handlers += 1

    def release(self, outcome: Outcome = "ended") -> None:
        """It has returned, or failed."""
        self._handlers -= 1
        self._note(outcome)
        self._check()

    def follow(self, event: Any, future: Any) -> Work:
        """An event of this work is enqueued; gives the work that its own events belong to."""
        handler = self.socket.host.handler(event.name)
        if self.socket.is_stopped:
            # Its session goes on elsewhere, and this part of the packet's work is not done.
            self.socket.forget_work(self.n)
            future.cancel()
            return self
        if handler is None:
            # Left alone, its future would never end, and Reflex would keep it for ever.
            self._note("raised")
            future.cancel()
            return self
        if handler.is_background:
            self.socket.background_started(event, future)
            return Work(self.socket, 0, wants_done=False)
        if self.n:
            self._pending += 1
            if self.is_open:
                self._roots.append(future)
            future.add_done_callback(self._ended)
        return self

    def stop(self, begun: Any) -> bool:
        """Cancel its events that have not begun; whether all of it has certainly not run. `begun` holds their ids."""
        if self.is_open or not self._roots:
            return False
        waiting = [future for future in self._roots if not future.done() and future.txid not in begun]
        for future in waiting:
            future.cancel()
        return len(waiting) == len(self._roots)

    def _ended(self, future: Any) -> None:
        self._pending -= 1
        if self.socket.is_stopped and future.cancelled():
            # By the move, or as the app took leave of its client.
            self.socket.forget_work(self.n)
        if future in self._roots:
            if future.cancelled():
                self._note("cancelled")
            elif future.exception() is not None:
                self._note("raised")
        self._check()

    def _note(self, outcome: Outcome) -> None:
        if self._outcome == "ended":
            self._outcome = outcome

    def _check(self) -> None:
        if self._handlers == 0 and self._pending == 0 and self.n:
            self.socket.work_done(self, self._outcome)
