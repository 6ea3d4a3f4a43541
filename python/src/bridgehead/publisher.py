"""Publishes invalidations to Redis, where sidecars listen that have no link to this process."""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

from bridgehead.keys import Keyring, base64url
from bridgehead.redis_client import RedisClient

logger = logging.getLogger("bridgehead")

_MAX_WAITING = 10_000
_RETRY_SECONDS = 1.0
# How long a process that ends waits for what it has still to say.
_FAREWELL_SECONDS = 2.0


def channel_of(name: str) -> str:
    """The channel of a deployment's invalidations."""
    return f"bridgehead:{name}:invalidate"


def signed(body: Mapping[str, Any], keyring: Keyring) -> str:
    """`<kid>.<payload>.<mac>` with the `cache` key, so that a writer to Redis cannot make one."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    message = f"{keyring.current.kid}.{base64url(text)}"
    return f"{message}.{keyring.current.sign(message.encode('ascii'))}"


class Publisher:
    """One connection in a thread of its own. `publish` never blocks and never raises.

    While Redis is away messages wait; when more than 10,000 do, they become one that tells to forget everything.
    Raises as `RedisClient` for a URL that cannot be used.
    """

    def __init__(self, url: str, keyring: Keyring) -> None:
        self._client = RedisClient(url)
        self._keyring = keyring
        self._waiting: queue.Queue[tuple[str, str]] = queue.Queue(_MAX_WAITING)
        self._overflowed: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._failed = False
        self._stopping = threading.Event()

    def publish(self, name: str, body: Mapping[str, Any]) -> None:
        """Send to the sidecars of this deployment, soon."""
        with self._lock:
            self._begin()
            try:
                self._waiting.put_nowait((channel_of(name), signed(body, self._keyring)))
            except queue.Full:
                # Nothing is lost if everything is forgotten.
                self._overflowed[channel_of(name)] = {"id": body["id"], "all": True}

    def close(self) -> None:
        """Wait a moment until everything is said."""
        end = time.monotonic() + _FAREWELL_SECONDS
        while self._is_alive() and self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.01)
        self._stopping.set()

    def _is_alive(self) -> bool:
        return self._thread is not None and self._pid == os.getpid() and self._thread.is_alive()

    def _begin(self) -> None:
        if self._is_alive():
            return
        if self._pid != os.getpid():
            # A fork takes neither the thread nor a share in the connection along.
            self._pid = os.getpid()
            self._waiting = queue.Queue(_MAX_WAITING)
            self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridgehead-publish", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _run(self) -> None:
        while not self._stopping.is_set():
            channel, text = self._waiting.get()
            while not self._sent(channel, text):
                if self._stopping.wait(_RETRY_SECONDS):
                    return
            if self._overflowed and self._waiting.empty():
                with self._lock:
                    overflowed, self._overflowed = self._overflowed, {}
                for channel, body in overflowed.items():
                    while not self._sent(channel, signed(body, self._keyring)):
                        if self._stopping.wait(_RETRY_SECONDS):
                            return
            # Only now: who closes waits for this, and what overflowed must be said as well.
            self._waiting.task_done()

    def _sent(self, channel: str, text: str) -> bool:
        try:
            self._client.send([("PUBLISH", channel, text)])
        except Exception as error:
            if not self._failed:
                self._failed = True
                logger.warning("an invalidation cannot be published to Redis (%s); trying on", type(error).__name__)
            return False
        if self._failed:
            self._failed = False
            logger.info("invalidations are published to Redis again")
        return True
