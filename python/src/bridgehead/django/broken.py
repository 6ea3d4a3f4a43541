"""Django closes broken connections where a request begins or ends. An event of Reflex is no request."""

from __future__ import annotations

from django.db import connections


def close_broken() -> None:
    """Close this thread's connections that failed and are of no use any more; Django opens new ones.

    Costs nothing where nothing failed. Call it in the thread that uses the database.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.errors_occurred or connection.in_atomic_block:
            continue
        if connection.is_usable():
            connection.errors_occurred = False
        else:
            connection.close()
