"""Threads for Django's synchronous database code, each with connections of its own that it looks after."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import DatabaseError, InterfaceError, connections

# A connection that rested longer may have been closed by the other side.
_REST_SECONDS = 30.0


class DatabaseThreads:
    """A bounded pool; a call runs in a copy of its caller's context."""

    def __init__(self, size: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._local = threading.local()

    def submit[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it in one of the threads."""
        context = contextvars.copy_context()
        return self._pool.submit(lambda: context.run(self._run, lambda: function(*args, **kwargs)))

    def _run[T](self, call: Callable[[], T]) -> T:
        if time.monotonic() - getattr(self._local, "used", 0.0) > _REST_SECONDS:
            _close_connections()
        try:
            return call()
        except (DatabaseError, InterfaceError):
            # The next call begins with a new connection.
            _close_connections()
            raise
        finally:
            self._local.used = time.monotonic()


def _close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        connection.close()


_loaders = DatabaseThreads(2, "bridgehead-load")


def off_loop[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call synchronous database code from anywhere; where an event loop runs, in a thread that it waits for.

    Django refuses the database in an event loop's thread. What a lazy session or a deferred field loads must work there
    too, since both come loaded where Django itself makes them.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function(*args, **kwargs)
    return _loaders.submit(function, *args, **kwargs).result()
