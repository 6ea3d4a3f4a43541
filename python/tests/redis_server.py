"""A real Redis of the tests' own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import redis

from backend import free_port


class RedisServer:
    def __init__(self, folder: Path, arguments: tuple[str, ...] = ("--save", "")) -> None:
        self.port = free_port()
        self.arguments = arguments
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        # A file, as a sentinel needs one, comes first.
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        files = [argument for argument in self.arguments if argument.startswith("/")]
        arguments = [*files, *own, *(argument for argument in self.arguments if argument not in files)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", *arguments], stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 15
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return self
                except redis.ConnectionError:
                    assert self._process.poll() is None
                    assert time.monotonic() < end
                    time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)
            self._process = None
