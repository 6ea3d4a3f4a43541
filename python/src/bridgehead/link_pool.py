"""Keeps a link to every sidecar there is, for ever."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from bridgehead import counters, link_address
from bridgehead.clock import Clock, SystemClock
from bridgehead.frames import FrameType
from bridgehead.link import Link, LinkDuplicate, LinkError, LinkLost, Worker
from bridgehead.link_address import LinkUrl

logger = logging.getLogger("bridgehead")

FIRST_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 5.0
CONNECT_SECONDS = 5.0
RESOLVE_SECONDS = 10.0
# A link that lived shorter than this did not help anybody: the delays go on growing.
STEADY_SECONDS = 5.0
# What was sent so long before a link's end may not have arrived: a silent one is noticed after three heartbeats.
UNSURE_SECONDS = 200.0

Resolve = Callable[[LinkUrl], Awaitable[list[LinkUrl]]]


class LinkPool:
    """One link for every address of every URL; a name's addresses are looked up again and again."""

    def __init__(
        self,
        urls: Iterable[LinkUrl],
        worker: Worker,
        *,
        clock: Clock | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        resolve: Resolve = link_address.resolve,
        on_missed: Callable[[Link], None] = lambda link: None,
    ) -> None:
        self._urls = tuple(urls)
        self._worker = worker
        self._clock = clock or SystemClock()
        self._uniform = uniform
        self._random_bytes = random_bytes
        self._resolve = resolve
        self._on_missed = on_missed
        self._unheard: set[LinkUrl] = set()
        self._last_must_hear = float("-inf")
        self._addresses: dict[LinkUrl, set[LinkUrl]] = {url: set() for url in self._urls}
        self._dialing: dict[LinkUrl, asyncio.Task[None]] = {}
        self._open: dict[LinkUrl, Link] = {}
        self._said: set[str] = set()

    @property
    def open_links(self) -> frozenset[LinkUrl]:
        """The addresses that have a link now."""
        return frozenset(self._open)

    def broadcast(self, frame_type: FrameType, body: Mapping[str, Any], *, must_hear: bool = False) -> None:
        """Send to every sidecar that has a link. Called in the event loop's thread.

        With `must_hear`, an address that has no link now, or loses it soon, may have missed it: `on_missed` is called
        when it has one again.
        """
        for link in tuple(self._open.values()):
            link.send(frame_type, body)
        if must_hear:
            self._last_must_hear = self._clock.monotonic()
            self._unheard |= self._dialing.keys() - self._open.keys()

    def tell_session(self, body: Mapping[str, Any]) -> None:
        """Tell every sidecar that has a link of a tab's new session. Called in the event loop's thread."""
        for link in tuple(self._open.values()):
            link.tell_session(body)

    async def run(self) -> None:
        """Dial until cancelled; then every link says that it leaves."""
        try:
            while True:
                for url in self._urls:
                    await self._look_up(url)
                await self._clock.sleep(RESOLVE_SECONDS)
        finally:
            tasks = list(self._dialing.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(self, url: LinkUrl) -> None:
        try:
            self._addresses[url] = set(await self._resolve(url))
        except OSError as error:
            # The addresses known so far stay: a name server that fails must not cost a link.
            self._say_unreachable(url, str(error))
            return
        for address in self._addresses[url]:
            if address not in self._dialing:
                self._dialing[address] = asyncio.create_task(self._keep(url, address))

    async def _keep(self, url: LinkUrl, address: LinkUrl) -> None:
        attempt = 0
        try:
            while address in self._addresses[url]:
                started = self._clock.monotonic()
                await self._dial(url, address)
                attempt = 0 if self._clock.monotonic() - started >= STEADY_SECONDS else attempt
                delay = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(attempt, 16))
                attempt += 1
                await self._clock.sleep(self._uniform(0, delay))
                await self._look_up(url)
        finally:
            del self._dialing[address]

    async def _dial(self, url: LinkUrl, address: LinkUrl) -> None:
        def on_open(link: Link) -> None:
            self._open[address] = link
            self._said.clear()
            counters.add("link.connected")
            logger.info("linked with the sidecar of %r at %s", link.name, address)
            if address in self._unheard:
                self._unheard.discard(address)
                self._on_missed(link)

        try:
            reader, writer = await self._connect(address)
            link = Link(
                reader, writer, self._worker, clock=self._clock, random_bytes=self._random_bytes, on_open=on_open
            )
            await link.run()
        except LinkDuplicate:
            pass
        except (LinkError, LinkLost, OSError) as error:
            if address in self._open:
                if self._clock.monotonic() - self._last_must_hear < UNSURE_SECONDS:
                    self._unheard.add(address)
                counters.add("link.lost")
                logger.warning("the link to %s is lost (%s); dialing again", address, error)
            else:
                counters.add("link.failed")
                if not self._open or isinstance(error, LinkError):
                    self._say_unreachable(url, str(error))
        except Exception:
            counters.add("link.failed")
            logger.exception("the link to %s failed", address)
        finally:
            self._open.pop(address, None)

    async def _connect(self, address: LinkUrl) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connecting = asyncio.create_task(link_address.connect(address))
        timer = asyncio.create_task(self._clock.sleep(CONNECT_SECONDS))
        try:
            await asyncio.wait({connecting, timer}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise LinkLost(f"no connection within {CONNECT_SECONDS:g} s")
            return connecting.result()
        finally:
            timer.cancel()
            connecting.cancel()

    def _say_unreachable(self, url: LinkUrl, reason: str) -> None:
        text = f"no sidecar at {url} ({reason})"
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            logger.warning("%s; the app runs without it, dialing goes on", text)
