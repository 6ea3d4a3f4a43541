"""The desk app's workers with one Redis and the sidecar that they dial, all in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from backend import Backend, until
from redis_server import RedisServer
from reflex_client import SECRET
from sidecar import Connection, Sidecar


class Desk:
    app = "desk"

    def __init__(self, folder: Path, sidecar: Sidecar, redis_url: str, **environment: str) -> None:
        self.sidecar = sidecar
        self.workers: list[Backend] = []
        self._folder = folder
        self._environment = {
            "BRIDGEHEAD_SECRET": SECRET,
            "DJANGO_SETTINGS_MODULE": "",
            "TEST_REDIS": redis_url,
            "TEST_PROBE": str(folder / "probe.jsonl"),
            **environment,
        }

    async def start(self, **environment: str) -> Connection:
        """One more worker; its link."""
        folder = self._folder / f"worker-{len(self.workers)}"
        folder.mkdir()
        url = f"tcp://127.0.0.1:{self.sidecar.port}"
        worker = Backend(self.app, folder, **{"BRIDGEHEAD_LINK_URL": url, **self._environment, **environment})
        worker.probe_file = Path(self._environment["TEST_PROBE"])
        self.workers.append(worker)
        before = len(self.sidecar.connections)
        await asyncio.to_thread(worker.start)
        return await self.link(before)

    def live(self) -> list[Connection]:
        """The newest link of each worker that is well."""
        found = {c.manifests[0]["pid"]: c for c in self.sidecar.connections if c.manifests and not c.closed}
        return list(found.values())

    async def link(self, after: int = 0) -> Connection:
        """The first live link of those that came after so many."""
        found: list[Connection] = await until(
            lambda: [c for c in self.sidecar.connections[after:] if c.manifests and not c.closed],
            "a link",
        )
        return found[0]

    def signal(self, connection: Connection, kind: signal.Signals) -> None:
        """To the process behind a link."""
        os.kill(connection.manifests[0]["pid"], kind)

    async def probe(self, kind: str, **facts: Any) -> dict[str, Any]:
        return await self.workers[0].probe(kind, **facts)

    def probes(self, kind: str, **facts: Any) -> list[dict[str, Any]]:
        return self.workers[0].probes(kind, **facts)

    async def stop(self) -> None:
        for worker in self.workers:
            await asyncio.to_thread(worker.stop)


@contextlib.asynccontextmanager
async def desk(
    folder: Path, *, with_redis: bool = True, heartbeat_ms: int = 5_000, **environment: str
) -> AsyncIterator[Desk]:
    """A sidecar and Redis, no worker yet."""
    redis = await asyncio.to_thread(RedisServer(folder).start) if with_redis else None
    sidecar = await Sidecar(SECRET, heartbeat_ms=heartbeat_ms).listen()
    running = Desk(folder, sidecar, redis.url if redis is not None else "", **environment)
    try:
        yield running
    finally:
        await running.stop()
        await sidecar.stop()
        if redis is not None:
            redis.stop()
