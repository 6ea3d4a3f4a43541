"""A worker whose database was restarted goes on with its next event."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from board import Databases, python

_PROGRAM = """
import django; django.setup()
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from bridgehead.django.broken import close_broken, reading
from board.models import Item

def ask():
    try:
        return Item.objects.count()
    except OperationalError:
        return "broken"

def pid():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]

def terminate(pid):
    other = connections.create_connection("default")
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    other.close()

print(ask())
first = pid()
close_broken()
print(pid() == first)
terminate(first)
print(ask(), ask())
close_broken()
print(ask())
second = pid()
with transaction.atomic():
    connection.errors_occurred = True
    close_broken()
    print(pid() == second)
close_broken()
print(pid() == second, connection.errors_occurred)
terminate(second)
print(reading(Item.objects.count))
third = pid()
def fails():
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing")
try:
    reading(fails)
except DatabaseError as error:
    print(type(error).__name__, pid() == third)
"""


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    made = Databases()
    yield made
    made.stop()


def test_a_connection_that_broke_is_closed_and_every_other_is_kept(databases: Databases) -> None:
    done = python(["-c", _PROGRAM], **databases.make().environment)
    expected = ["0", "True", "broken broken", "0", "True", "True False", "0", "ProgrammingError True", ""]
    assert done.stdout.split("\n") == expected
