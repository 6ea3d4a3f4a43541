"""Django closes broken connections where a request begins or ends. An event of Reflex is no request."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, connections
from django.db.backends.signals import connection_created

_lock = threading.Lock()
_open: weakref.WeakSet[Any] = weakref.WeakSet()
_closing: set[asyncio.Task[bool]] = set()


def watch() -> None:
    """Know of each connection that is opened from now on. Safe to repeat."""
    connection_created.connect(_opened, dispatch_uid="bridgehead.broken")


def after_event() -> None:
    """An event is over: where a connection failed meanwhile, see to it that the next event does not meet it broken.

    In the event loop. Costs a look at each open connection where nothing failed.
    """
    with _lock:
        failed = [connection for connection in _open if connection.errors_occurred]
        # Looked at once: a connection of another thread is that thread's to close.
        _open.difference_update(failed)
    if failed:
        task = asyncio.get_running_loop().create_task(sync_to_async(close_broken)())
        _closing.add(task)
        task.add_done_callback(_closing.discard)


def close_broken() -> bool:
    """Close this thread's connections that failed and are of no use any more; Django opens new ones. Whether any was.

    Costs nothing where nothing failed. Call it in the thread that uses the database.
    """
    closed = False
    for connection in connections.all(initialized_only=True):
        if not connection.errors_occurred:
            continue
        if connection.in_atomic_block:
            # Looked at again after the next event.
            _opened(connection)
        elif connection.is_usable():
            connection.errors_occurred = False
            _opened(connection)
        else:
            connection.close()
            closed = True
    return closed


def reading[**P, T](read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `read` gives, which reads only: again over a new connection where the one that was there proves broken.

    In the thread that uses the database. Raises what Django raises.
    """
    close_broken()
    try:
        return read(*args, **kwargs)
    except (InterfaceError, OperationalError):
        if not close_broken():
            raise
        return read(*args, **kwargs)


def _opened(connection: Any, **_: Any) -> None:
    with _lock:
        _open.add(connection)
