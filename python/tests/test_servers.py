"""The servers that a worker may run under: sessions come over the link, and are asked to leave before it stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from backend import SOURCE, TESTS, Backend, free_port, until
from bridgehead import session_frames as sf
from bridgehead.frames import FrameType
from redis_server import RedisServer
from reflex_client import HYDRATE, ROOT, SECRET
from sidecar import Connection, Sidecar
from virtual_client import VirtualClient

IS_010 = metadata.version("reflex").startswith("0.10")
# Installed apart by tools/python-env.ts: with gunicorn on the path, `reflex run` would take it.
GUNICORN = Path(sys.prefix) / "servers"
DRAIN = 3

DESK = "desk.desk:app"
# Modules that name the app as each server wants it; where Django is, reflex-django must be set up first.
DJANGO_ENTRY = "from reflex.config import get_config\nget_config()\nfrom notes.notes import app\n"

COMMANDS: dict[str, tuple[int, list[str], dict[str, str]]] = {
    "granian, forking": (
        2,
        ["reflex", "run", "--env", "prod", "--backend-only", "--backend-host", "127.0.0.1", "--backend-port", "PORT"],
        {"GRANIAN_WORKERS": "2", **({"REFLEX_BACKEND_START_METHOD": "fork"} if IS_010 else {})},
    ),
    "granian, spawning": (
        1,
        ["reflex", "run", "--env", "prod", "--backend-only", "--backend-host", "127.0.0.1", "--backend-port", "PORT"],
        {"GRANIAN_WORKERS": "1", "REFLEX_BACKEND_START_METHOD": "spawn"},
    ),
    "granian by itself": (
        1,
        ["granian", "--interface", "asgi", "--factory", "--host", "127.0.0.1", "--port", "PORT", DESK],
        {},
    ),
    "uvicorn": (1, ["uvicorn", "--factory", "--host", "127.0.0.1", "--port", "PORT", DESK], {}),
    "uvicorn with workers, which it spawns": (
        2,
        ["uvicorn", "--factory", "--workers", "2", "--host", "127.0.0.1", "--port", "PORT", DESK],
        {},
    ),
    "gunicorn": (1, ["gunicorn", "-k", "uvicorn.workers.UvicornWorker", "-b", "127.0.0.1:PORT", f"{DESK}()"], {}),
    "gunicorn that loads the app before it forks": (
        2,
        [
            "gunicorn",
            "--preload",
            "-w",
            "2",
            "-k",
            "uvicorn.workers.UvicornWorker",
            "-b",
            "127.0.0.1:PORT",
            f"{DESK}()",
        ],
        {},
    ),
}


class Server:
    """An app run by a server, as its users run it."""

    def __init__(self, folder: Path, app: str, arguments: list[str], environment: dict[str, str]) -> None:
        self._log = folder / "server.log"
        app_folder = folder / app
        if not app_folder.exists():
            shutil.copytree(TESTS / "apps" / app, app_folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        paths = [".", str(SOURCE), *([str(GUNICORN)] if arguments[0] == "gunicorn" else [])]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("BRIDGEHEAD_")},
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "REFLEX_TELEMETRY_ENABLED": "false",
            "REFLEX_REDIS_URL": "",
            "RX_AUTO_EXPORT_ON_START": "0",
            # `reflex run --backend-only` says so to its servers: no frontend is built.
            "__REFLEX_SKIP_COMPILE": "true",
            "TEST_PROBE": str(folder / "probe.jsonl"),
            "BRIDGEHEAD_SECRET": SECRET,
            "BRIDGEHEAD_DRAIN_SECONDS": str(DRAIN),
            **environment,
        }
        if app == "desk":
            # Workers of reflex 0.9 that start at once in a new folder may read a list of pages that is half written.
            evaluate = [sys.executable, "-c", "from desk.desk import app; app()"]
            subprocess.run(evaluate, cwd=app_folder, env=environment, capture_output=True, check=True)
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *(argument.replace("PORT", str(free_port())) for argument in arguments)],
                cwd=app_folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(15)


@contextlib.asynccontextmanager
async def served(
    folder: Path, app: str, arguments: list[str], environment: dict[str, str]
) -> AsyncIterator[tuple[Sidecar, Server]]:
    """A server, the sidecar that its workers dial, and Redis."""
    sidecar = await Sidecar(SECRET).listen()
    redis = await asyncio.to_thread(RedisServer(folder).start)
    more = {"TEST_REDIS": redis.url, "BRIDGEHEAD_LINK_URL": f"tcp://127.0.0.1:{sidecar.port}"}
    server = await asyncio.to_thread(Server, folder, app, arguments, more | environment)
    try:
        yield sidecar, server
    finally:
        await asyncio.to_thread(server.kill)
        await sidecar.stop()
        redis.stop()


async def links(sidecar: Sidecar, count: int, server: Server) -> list[Connection]:
    def live() -> list[Connection] | None:
        found = [connection for connection in sidecar.connections if connection.manifests and not connection.closed]
        assert server.process.poll() is None, server.log
        return found if len(found) >= count else None

    found: list[Connection] = await until(live, "the workers", 60)
    return found


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_server_gives_its_workers_time_to_give_away_their_sessions(name: str, tmp_path: Path) -> None:
    count, arguments, environment = COMMANDS[name]
    async with served(tmp_path, "desk", arguments, environment) as (sidecar, server):
        workers = await links(sidecar, count, server)
        assert len({worker.manifests[0]["tokens"] for worker in workers}) == count
        client = await VirtualClient(workers[0]).open()
        assert await client.run("add") == "ended"
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        await until(lambda: workers[0].received(FrameType.DRAIN), "DRAIN")
        assert workers[0].received(FrameType.DRAIN) == [{"seconds": DRAIN}]
        # The worker serves until the session has gone, and is there for all of its time.
        await until(lambda: time.monotonic() - begun > DRAIN / 2, "half of the time")
        assert await client.run("add") == "ended"
        assert client.state()["count"] == 2
        assert (await client.detach("move")).reason == "move"
        await until(lambda: workers[0].closed, "the end of the link")
        assert workers[0].received(FrameType.GOAWAY) == [{"reason": "shutdown"}]
        await asyncio.to_thread(server.process.wait, 30)


@pytest.mark.parametrize("name", ["uvicorn", "granian by itself"])
async def test_an_app_with_django_needs_an_entry_module(name: str, tmp_path: Path) -> None:
    _, arguments, environment = COMMANDS[name]
    prepared = Backend("notes", tmp_path)
    prepared.make_database()
    await asyncio.to_thread((prepared.folder / "entry.py").write_text, DJANGO_ENTRY, encoding="utf-8")
    django = {"DJANGO_SETTINGS_MODULE": "site_settings", "TEST_DATABASE": str(tmp_path / "db.sqlite3")}
    arguments = ["entry:app" if argument == DESK else argument for argument in arguments]
    async with served(tmp_path, "notes", arguments, environment | django) as (sidecar, server):
        (worker, *_) = await links(sidecar, 1, server)
        client = VirtualClient(worker, cookie=f"notes_session={prepared.session}")
        assert isinstance(await client.attach(), sf.Attached)
        await client.done(client.connect())
        await client.run(HYDRATE)
        assert await client.run(f"{ROOT}.notes___notes____full_state.look", label="with django") == "ended"
        seen: list[dict[str, Any]] = await until(
            lambda: prepared.probes("handler", label="with django"), "the handler's word"
        )
        assert (seen[0]["user"], seen[0]["tier"]) == ("ada", "full")
        await client.detach()
