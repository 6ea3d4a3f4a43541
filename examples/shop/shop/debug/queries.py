"""Counts SQL queries on the event that causes them, through Django's own execute wrappers."""

from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

from shop.debug.record import current


def count_one(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
    # The record is shared by the threads that work for one event: they run in copies of its context.
    if (record := current.get()) is not None:
        record.queries += 1
    return execute(sql, params, many, context)


def install(connection: Any, **kwargs: Any) -> None:
    if count_one not in connection.execute_wrappers:
        connection.execute_wrappers.append(count_one)


def count_queries() -> None:
    """Count on every connection that exists now or is opened later."""
    connection_created.connect(install, dispatch_uid="shop_debug_queries")
    for connection in connections.all(initialized_only=True):
        install(connection)
