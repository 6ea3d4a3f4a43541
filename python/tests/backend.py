"""A real worker: one of the apps under tests/apps, run by `reflex run` as its users run it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent
SOURCE = TESTS.parent / "src"

_MAKE_USERS = """
import django; django.setup()
from django.contrib.auth import get_user_model, HASH_SESSION_KEY, SESSION_KEY, BACKEND_SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
user = get_user_model().objects.create_user("ada", password="engine")
get_user_model().objects.create_user("bob", password="engine")
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print(session.session_key)
"""


_named: set[int] = set()


def free_port() -> int:
    """One that was given to nobody here, and below those that whoever asks for any gets: many are used much later."""
    while True:
        port = 20_000 + secrets.randbelow(12_768)
        if port in _named:
            continue
        _named.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


async def until(condition: Callable[[], Any], what: str, seconds: float = 15) -> Any:
    """Wait for a condition to give something true."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.01)
    return result


class Backend:
    def __init__(self, app: str, folder: Path, **environment: str) -> None:
        self.folder = folder / app
        shutil.copytree(TESTS / "apps" / app, self.folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        self.port = 0
        self.log_file = folder / "worker.log"
        self.probe_file = folder / "probe.jsonl"
        self.session = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("BRIDGEHEAD_")},
            "PYTHONPATH": os.pathsep.join((".", str(SOURCE))),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "RX_AUTO_EXPORT_ON_START": "0",
            "REFLEX_TELEMETRY_ENABLED": "false",
            "REFLEX_REDIS_URL": "",
            "GRANIAN_WORKERS": "1",
            "TEST_DATABASE": str(folder / "db.sqlite3"),
            "TEST_PROBE": str(self.probe_file),
            # Nobody listens there, unless a test says otherwise.
            "BRIDGEHEAD_LINK_URL": f"tcp://127.0.0.1:{free_port()}",
            **environment,
        }

    def _python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def make_database(self) -> None:
        self._python("-m", "django", "migrate", "--run-syncdb", "--verbosity", "0")
        self.session = self._python("-c", _MAKE_USERS).strip()

    def start(self) -> None:
        for _ in range(3):
            self.port = free_port()
            if self._run():
                return
            # Between our look and the worker's bind somebody else may take the port.
            assert "port" in self.log.lower() or "address already in use" in self.log.lower(), self.log
        raise AssertionError(self.log)

    def _run(self) -> bool:
        """Start once; false if the worker ended at once."""
        address = ["--backend-host", "127.0.0.1", "--backend-port", str(self.port)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reflex", "run", "--env", "prod", "--backend-only", *address],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None:
                return False
            assert time.monotonic() < end, self.log
            time.sleep(0.05)
        return True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM to the server and its workers, as a supervisor does; SIGKILL if they do not go."""
        if self._process is None:
            return
        for kind in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, kind)
                self._process.wait(15)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._process.wait(15)
        self._process = None

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def probes(self, kind: str, **facts: Any) -> list[dict[str, Any]]:
        """The lines that the app wrote down, those with these facts."""
        if not self.probe_file.exists():
            return []
        text = self.probe_file.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line for line in lines if line["kind"] == kind and facts.items() <= line.items()]

    async def probe(self, kind: str, **facts: Any) -> dict[str, Any]:
        """The first line with these facts, as soon as it is there."""
        found: list[dict[str, Any]] = await until(lambda: self.probes(kind, **facts), f"{kind} {facts}\n{self.log}")
        return found[0]
