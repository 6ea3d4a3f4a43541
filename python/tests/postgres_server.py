"""A real PostgreSQL of the tests' own, with durability off."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from backend import free_port


def _program(name: str) -> str:
    """From PATH, or where Debian keeps it."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    assert found is not None, f"{name} is needed: apt-get install postgresql"
    return found


class PostgresServer:
    def __init__(self) -> None:
        self.port = free_port()
        # Its own user must reach it, which a test's folder does not allow.
        self._folder = Path(tempfile.mkdtemp(prefix="bridgehead-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://board@127.0.0.1:{self.port}/{database}"

    def start(self) -> PostgresServer:
        data = self._folder / "data"
        who = {} if self._user is None else {"user": self._user.pw_uid, "group": self._user.pw_gid}
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self._folder)}
        initdb = [_program("initdb"), "-D", str(data), "-U", "board", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=self._folder, env=environment, **who)
        settings = {
            "fsync": "off",
            "synchronous_commit": "off",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
        }
        command = [_program("postgres"), "-D", str(data), "-p", str(self.port)]
        command += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=log, stderr=subprocess.STDOUT, **who
            )
        end = time.monotonic() + 30
        while True:
            try:
                self.execute("SELECT 1")
                return self
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._folder / "postgres.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """As psql would, outside of the app; the rows, where it gives any."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        if self._process is not None:
            # At once: nobody needs its data any more.
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(15)
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)
