"""The outbox in PostgreSQL (django/sql/outbox.sql): what is written there is told once its transaction is committed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

from bridgehead.live.change import Change

_INSERT = """
  INSERT INTO bridgehead_change (id, model, action, pk, tags)
  SELECT id, model, action, pk, tags::jsonb
  FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) AS given (id, model, action, pk, tags)"""
_INSERT_GAP = (
    "INSERT INTO bridgehead_change (model, action, pk) SELECT model, 'gap', '' FROM unnest(%s::text[]) AS model"
)
_TRACKED = """
  SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = 'bridgehead_insert'
    AND NOT tgisinternal AND tgenabled IN ('O', 'A'))"""

Columns = list[list[str | None]]

# So long what is not there is believed not to be. That something is there is asked anew each time.
ABSENT_SECONDS = 5.0


class _Absent:
    """What was found missing lately. Safe to use from every thread."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def knows(self, using: str, what: str) -> bool:
        with self._lock:
            return self._until.get((using, what), 0.0) > time.monotonic()

    def add(self, using: str, what: str) -> None:
        with self._lock:
            self._until[using, what] = time.monotonic() + ABSENT_SECONDS

    def clear(self) -> None:
        with self._lock:
            self._until.clear()


_absent = _Absent()
_OUTBOX = "bridgehead_change"


def look_again() -> None:
    """Forget what was found missing: something was installed."""
    _absent.clear()


def may_exist() -> bool:
    """Whether this process has a PostgreSQL in which an outbox may be. Asks no database."""
    try:
        from django.conf import settings
        from django.db import connections
    except ImportError:
        return False
    return settings.configured and any(connections[alias].vendor == "postgresql" for alias in connections)


def database_of(label: str) -> str | None:
    """The database that a model is written to; the default one for what is no model, None without Django."""
    try:
        from django.apps import apps
        from django.conf import settings
        from django.db import DEFAULT_DB_ALIAS, router
    except ImportError:
        return None
    if not settings.configured or not apps.models_ready or DEFAULT_DB_ALIAS not in settings.DATABASES:
        return None
    try:
        return str(router.db_for_write(apps.get_model(label)))
    except (LookupError, ValueError):
        return str(DEFAULT_DB_ALIAS)


def is_tracked(model: Any, using: str) -> bool:
    """Whether triggers record this table's changes, as the database says.

    Asked behind a write of the table, in its transaction, the answer holds for that write: no trigger comes or goes
    meanwhile. A trigger that is new is seen within 5 s; until then its table's changes are told twice.
    """
    from django.db import connections

    connection = connections[using]
    table = model._meta.db_table
    if connection.vendor != "postgresql" or _absent.knows(using, table):
        return False
    with connection.cursor() as cursor:
        cursor.execute(_TRACKED, [connection.ops.quote_name(table)])
        (tracked,) = cursor.fetchone()
    if not tracked:
        _absent.add(using, table)
    return bool(tracked)


def write(changes: Sequence[Change], using: str) -> bool:
    """Write changes in the transaction at hand; false where there is no outbox, or code that may not ask a database."""
    return _execute(_INSERT, _columns(changes), using)


def write_push_apart(push_id: str, message: str) -> bool:
    """A push, a whole message of a bus, from a thread that has no other business with databases."""
    using = database_of("") if may_exist() else None
    return using is not None and _apart(_INSERT, [[push_id], [""], ["push"], [message], [None]], using)


def write_apart(changes: Sequence[Change], gaps: Sequence[str | None], *, anywhere: bool = False) -> bool:
    """Changes and gaps, from a thread that has no other business with databases: all of them into one outbox.

    It is that of a database which one of them belongs to, with `anywhere` that of any. Raises where there is none and a
    database could not be asked.
    """
    if not may_exist():
        return False
    from django.db import Error, connections

    own = (database_of(label) for label in [*(change.model for change in changes), *(gap or "" for gap in gaps)])
    failure: Error | None = None
    for using in dict.fromkeys((*own, *(connections if anywhere else ()))):
        try:
            if using is not None and _write_all(changes, gaps, using):
                return True
        except Error as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return False


def _write_all(changes: Sequence[Change], gaps: Sequence[str | None], using: str) -> bool:
    if changes and not _apart(_INSERT, _columns(changes), using):
        return False
    return not gaps or _apart(_INSERT_GAP, [[gap or "" for gap in gaps]], using)


def _columns(changes: Sequence[Change]) -> Columns:
    rows = [
        (change.id, change.model, change.action, str(change.pk), json.dumps(change.tags) if change.tags else None)
        for change in changes
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _apart(statement: str, parameters: Columns, using: str) -> bool:
    from django.db import connections

    try:
        return _execute(statement, parameters, using)
    finally:
        # This thread sleeps next, maybe for long.
        connections.close_all()


def _execute(statement: str, parameters: Columns, using: str) -> bool:
    from django.core.exceptions import SynchronousOnlyOperation
    from django.db import ProgrammingError, connections, transaction

    if connections[using].vendor != "postgresql" or _absent.knows(using, _OUTBOX):
        return False
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            # Asked first: an error would stand in the server's log.
            cursor.execute("SELECT to_regclass('bridgehead_change') IS NOT NULL")
            if cursor.fetchone() == (True,):
                cursor.execute(statement, parameters)
                return True
    except SynchronousOnlyOperation:
        return False
    except ProgrammingError:
        # It went away just now, or may not be written to: the savepoint saved the transaction.
        pass
    _absent.add(using, _OUTBOX)
    return False
