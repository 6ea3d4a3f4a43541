"""The board app's workers on a real PostgreSQL, with Redis, and a sidecar that brings changes around."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from backend import SOURCE, Backend, until
from desk import Desk
from live_bus import LiveBus
from postgres_server import PostgresServer
from redis_server import RedisServer
from reflex_client import SECRET
from sidecar import Connection, Sidecar
from virtual_client import VirtualClient

ROOT = "reflex___state____state"
APP = Path(__file__).resolve().parent / "apps" / "board"

_MAKE_TEMPLATE = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
from django.contrib.auth import get_user_model, HASH_SESSION_KEY, SESSION_KEY, BACKEND_SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
for name in ("ada", "bob"):
    user = get_user_model().objects.create_user(name, password="engine")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    print(session.session_key)
"""


_MANAGE = """
import io, json, sys
import django; django.setup()
from django.core.management import call_command
from django.core.management.base import CommandError
def run(line):
    out = io.StringIO()
    try:
        call_command("bridgehead_triggers", *line.split(), stdout=out)
    except CommandError as error:
        return f"error: {error}"
    return out.getvalue()
print(json.dumps([run(line) for line in sys.argv[1:]]))
"""


class Databases:
    """A server with a template, so that Django makes its tables once."""

    def __init__(self) -> None:
        self._server = PostgresServer().start()
        self._server.execute("CREATE DATABASE template")
        made = python(["-c", _MAKE_TEMPLATE], TEST_POSTGRES=self._server.url("template"))
        self._sessions = dict(zip(("ada", "bob"), made.stdout.split(), strict=True))

    def make(self) -> Database:
        """A database of the board app's own, with users ada and bob."""
        return Database(self._server, self._sessions)

    def stop(self) -> None:
        self._server.stop()


class Database:
    def __init__(self, server: PostgresServer, sessions: dict[str, str]) -> None:
        self.server = server
        self.sessions = sessions
        self.name = f"board_{uuid.uuid4().hex[:12]}"
        server.execute(f"CREATE DATABASE {self.name} TEMPLATE template")
        self.environment = {"TEST_POSTGRES": server.url(self.name)}

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """As psql would, outside of the app."""
        return self.server.execute(statement, self.name)

    def manage(self, *lines: str) -> list[str]:
        """What `manage.py bridgehead_triggers` says to each line, in one process; an error as the text of one."""
        done = python(["-c", _MANAGE, *lines], **self.environment)
        return [str(said) for said in json.loads(done.stdout)]

    def outbox(self) -> list[tuple[Any, ...]]:
        return self.execute("SELECT model, action, pk FROM bridgehead_change ORDER BY position")


def start(arguments: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    """Start Python with the app's settings, in a process without any link."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=APP,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith(("BRIDGEHEAD_", "REDIS_"))},
            "PYTHONPATH": os.pathsep.join((".", str(SOURCE))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "site_settings",
            **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def python(arguments: Sequence[str], *, fails: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same to its end, at most a minute."""
    process = start(arguments, **environment)
    try:
        output, log = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode != 0) == fails, log
    return subprocess.CompletedProcess(process.args, process.returncode, output, log)


def in_django(code: str) -> list[str]:
    return ["-c", f"import django; django.setup()\nfrom board.models import *\nimport bridgehead\n{code}"]


class Board(Desk):
    app = "board"
    bus: LiveBus
    database: Database

    def clear(self) -> None:
        """Forget what a test before left."""
        self.database.execute("TRUNCATE board_item, board_specialitem, board_card, board_order RESTART IDENTITY")
        self.bus.forget()
        if self.workers:
            self.workers[0].probe_file.unlink(missing_ok=True)

    def client(self, connection: Connection, user: str | None = None) -> VirtualClient:
        return VirtualClient(connection, cookie="" if user is None else f"sessionid={self.database.sessions[user]}")

    async def viewer(self, connection: Connection, user: str | None, *lists: str) -> VirtualClient:
        """A tab that shows these lists."""
        client = await self.client(connection, user).open()
        for name in lists or ("item_list",):
            assert await client.run(handler(name, "live_subscribe")) == "ended"
        return client


def handler(state: str, name: str) -> str:
    return f"{ROOT}.board___board____{state}.{name}"


def rows(client: VirtualClient, state: str = "item_list") -> list[Any]:
    found: list[Any] = client.state(f"board___board____{state}").get("live_rows", [])
    return found


def titles(client: VirtualClient) -> list[str]:
    return [row["title"] for row in rows(client)]


async def shows(client: VirtualClient, *expected: str) -> None:
    await until(lambda: titles(client) == list(expected), f"{expected}, not {titles(client)}")


@contextlib.asynccontextmanager
async def board(folder: Path, database: Database, **environment: str) -> AsyncIterator[Board]:
    """A sidecar and Redis, no worker yet."""
    redis = await asyncio.to_thread(RedisServer(folder).start)
    sidecar = await Sidecar(SECRET).listen()
    environment = {"DJANGO_SETTINGS_MODULE": "site_settings", **database.environment, **environment}
    running = Board(folder, sidecar, redis.url, **environment)
    running.bus, running.database = LiveBus(sidecar), database
    try:
        yield running
    finally:
        await running.stop()
        await sidecar.stop()
        redis.stop()


def worker_log(board: Board) -> str:
    return "\n".join(worker.log for worker in board.workers if isinstance(worker, Backend))
