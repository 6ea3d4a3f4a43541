"""Memory of virtual sessions in a real worker: python tools/measure_sessions.py [bare sessions] [hydrated sessions]

Starts the tests' desk app with a Redis of its own, attaches idle sessions over one link and prints the growth of the
worker's resident memory for each: attached alone, connected, and hydrated one after another.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS.parent / "src")]

from backend import until  # noqa: E402
from desk import desk  # noqa: E402
from sidecar import Connection  # noqa: E402
from virtual_client import VirtualClient  # noqa: E402

HYDRATE = "reflex___state____state.hydrate"


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4_096


def client(link: Connection, number: int) -> VirtualClient:
    made = VirtualClient(link, cookie=f"sessionid={number:032x}; theme=dark")
    made.headers += (
        ("Accept-Language", "en"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", f"{number:024d}"),
        ("Sec-WebSocket-Version", "13"),
        ("X-Forwarded-For", f"203.0.{number // 250}.{number % 250}"),
    )
    return made


async def grow(link: Connection, clients: list[VirtualClient], depth: str, at_once: int) -> None:
    pid = link.manifests[0]["pid"]
    gate = asyncio.Semaphore(at_once)

    async def one(each: VirtualClient) -> None:
        async with gate:
            await each.attach()
            if depth != "attached":
                await each.done(each.connect(), 60)
            if depth == "hydrated":
                await each.done(each.event(HYDRATE), 60)
            each.clear()

    before, begun = resident(pid), time.monotonic()
    await asyncio.gather(*(one(each) for each in clients))
    seconds = time.monotonic() - begun
    await asyncio.sleep(1)
    grown = resident(pid) - before
    print(f"{depth:9} {len(clients):6}  {grown / len(clients) / 1000:6.2f} kB each  {len(clients) / seconds:6.0f} /s")


async def main(bare: int, hydrated: int) -> None:
    async with desk(Path(tempfile.mkdtemp())) as running:
        link = await running.start()
        number = iter(range(10**9))
        # What the first sessions load stays: it is no session's.
        await grow(link, [client(link, next(number)) for _ in range(200)], "hydrated", 1)
        await grow(link, [client(link, next(number)) for _ in range(bare)], "attached", 50)
        await grow(link, [client(link, next(number)) for _ in range(bare)], "connected", 4)
        await grow(link, [client(link, next(number)) for _ in range(hydrated)], "hydrated", 1)
        await until(lambda: True, "the end")


if __name__ == "__main__":
    counts = [int(text) for text in sys.argv[1:]]
    asyncio.run(main(*(counts + [10_000, 2_000][len(counts) :])))
