"""The SQL that makes PostgreSQL record the changes of tables, and what of it a database has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Status:
    """`models`: label and `tracked`, `disabled` (by ALTER TABLE) or `not tracked`; others that are tracked too."""

    outbox: bool
    models: tuple[tuple[str, str], ...]


def install_sql(models: Iterable[Any], connection: Any) -> list[str]:
    """Brings the outbox up to date and tracks these models' tables; again: the same."""
    return [_file("outbox.sql"), *(_call("bridgehead_track", model, connection) for model in models)]


def remove_sql(models: Iterable[Any], connection: Any) -> list[str]:
    """Tracks these models' tables no more; without models: takes all away, the outbox included."""
    return [_call("bridgehead_untrack", model, connection) for model in models] or [_file("outbox_remove.sql")]


def status(models: Iterable[Any], connection: Any) -> Status:
    """What the database has, for these models and all that is tracked beside them."""
    labels = {model._meta.label_lower for model in models}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_regclass('bridgehead_change') IS NOT NULL, to_regclass('bridgehead_tracked') IS NOT NULL"
        )
        outbox, view = cursor.fetchone()
        enabled: dict[str, str] = {}
        if view:
            cursor.execute("SELECT model, enabled::text FROM bridgehead_tracked")
            enabled = dict(cursor.fetchall())
    words = {None: "not tracked", "D": "disabled", "R": "disabled"}
    return Status(
        outbox, tuple((label, words.get(enabled.get(label), "tracked")) for label in sorted(labels | enabled.keys()))
    )


def _file(name: str) -> str:
    return resources.files("bridgehead.django").joinpath("sql", name).read_text(encoding="utf-8")


def _call(function: str, model: Any, connection: Any) -> str:
    """A statement of literals alone, which --dry-run can print."""
    table = _literal(connection.ops.quote_name(model._meta.db_table)) + "::regclass"
    label = f", {_literal(model._meta.label_lower)}" if function == "bridgehead_track" else ""
    return f"SELECT {function}({table}{label})"


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"
