"""`manage.py bridgehead_triggers install|remove|status [app.Model …]`: bulk writes, SQL and other programs are seen."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction

from bridgehead.live import outbox, signals
from bridgehead.live.triggers import install_sql, remove_sql, status


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types of its own
    """Installs Bridgehead's outbox in PostgreSQL, and triggers on the tables of live models."""

    help = (
        "Have PostgreSQL write down every change of live models' tables, whoever makes it: bulk_create, update(), "
        "raw SQL, psql and other programs. The signals of such tables are silent then."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("install", "remove", "status"))
        parser.add_argument(
            "models",
            nargs="*",
            metavar="app.Model",
            help="default: all that bridgehead.live.register knows; for remove, all tables and the outbox itself",
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help="default: default")
        parser.add_argument("--dry-run", action="store_true", help="print the SQL and run nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        using: str = options["database"]
        connection = connections[using]
        if connection.vendor != "postgresql":
            raise CommandError(
                f"the database {using!r} is {connection.display_name}: triggers need PostgreSQL. "
                "Without them, what goes through save() and delete() of registered models is seen all the same."
            )
        models = [_model(label) for label in options["models"]]
        if options["action"] == "status":
            self._status(models, using)
            return
        if options["action"] == "install":
            models = models or list(signals.registered())
            if not models:
                raise CommandError(
                    "no model is live in this process: name some (app.Model), or call bridgehead.live.register in an "
                    "AppConfig.ready"
                )
            statements = install_sql(models, connection)
        else:
            found = status(models, connection)
            statements = remove_sql(models, connection) if found.outbox else []
        if options["dry_run"]:
            self.stdout.write(";\n".join(statement.rstrip().removesuffix(";") for statement in statements) + ";")
            return
        try:
            with transaction.atomic(using=using), connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        except DatabaseError as error:
            raise CommandError(f"nothing was changed: {str(error).strip()}") from error
        outbox.look_again()
        self._status(models, using)

    def _status(self, models: list[Any], using: str) -> None:
        found = status(models or list(signals.registered()), connections[using])
        self.stdout.write(f"outbox: {'installed' if found.outbox else 'not installed'}")
        for label, tracked in found.models:
            self.stdout.write(f"{label}: {tracked}")


def _model(label: str) -> Any:
    try:
        return signals.check(apps.get_model(label))
    except (LookupError, ValueError) as error:
        raise CommandError(f"{label!r} is no model: {error}") from error
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
