"""Settings of the companion, from the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridgehead.keys import MIN_SECRET_BYTES, Keyring, Purpose

logger = logging.getLogger("bridgehead")

DEFAULT_LINK_URL = "tcp://127.0.0.1:8082"
DEFAULT_NAME = "default"
DEFAULT_DRAIN_SECONDS = 10.0
BUSES = ("memory", "redis", "redis-streams", "postgres")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says.

    `secret` is None where the companion must stay silent: no links, no annotations. `name` is None where the
    environment does not say it: the worker then takes the name of the sidecar that proved the secret.
    """

    secret: str | None = field(default=None, repr=False)
    previous_secrets: tuple[str, ...] = field(default=(), repr=False)
    link_urls: tuple[str, ...] = (DEFAULT_LINK_URL,)
    name: str | None = None
    redis_url: str | None = field(default=None, repr=False)
    link_sessions: bool = True
    capacity: int = 0
    drain_seconds: float = DEFAULT_DRAIN_SECONDS
    live_bus: str | None = None
    api_url: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read `BRIDGEHEAD_SECRET`, `_PREVIOUS_SECRETS`, `_LINK_URL`, `_LINK_SESSIONS`, `_NAME`, `_CAPACITY`,
        `_DRAIN_SECONDS`, `_LIVE_BUS`, `_API_URL`, `_API_KEY` and `_REDIS_URL` (else `REDIS_URL`).

        An empty one counts as unset; one that cannot be read is logged and counts as unset too.
        """
        values = os.environ if environment is None else environment
        secret = values.get("BRIDGEHEAD_SECRET") or None
        if secret is not None and not _long_enough(secret):
            logger.error("BRIDGEHEAD_SECRET is shorter than %d bytes and is not used", MIN_SECRET_BYTES)
            secret = None
        previous = tuple(_listed(values.get("BRIDGEHEAD_PREVIOUS_SECRETS", "")))
        if any(not _long_enough(text) for text in previous):
            logger.error("a secret in BRIDGEHEAD_PREVIOUS_SECRETS is shorter than %d bytes", MIN_SECRET_BYTES)
        return cls(
            secret=secret,
            previous_secrets=tuple(text for text in previous if _long_enough(text)),
            link_urls=tuple(_listed(values.get("BRIDGEHEAD_LINK_URL", ""))) or (DEFAULT_LINK_URL,),
            name=values.get("BRIDGEHEAD_NAME") or None,
            redis_url=values.get("BRIDGEHEAD_REDIS_URL") or values.get("REDIS_URL") or None,
            link_sessions=_flag(values, "BRIDGEHEAD_LINK_SESSIONS", default=True),
            capacity=int(_number(values, "BRIDGEHEAD_CAPACITY", 0, most=1_000_000)),
            drain_seconds=_number(values, "BRIDGEHEAD_DRAIN_SECONDS", DEFAULT_DRAIN_SECONDS, most=3_600),
            live_bus=_one_of(values, "BRIDGEHEAD_LIVE_BUS", BUSES),
            api_url=_http_url(values, "BRIDGEHEAD_API_URL"),
            api_key=values.get("BRIDGEHEAD_API_KEY") or None,
        )

    def keyring(self, purpose: Purpose) -> Keyring | None:
        """The keys for a purpose, or None without a secret."""
        return None if self.secret is None else Keyring(purpose, self.secret, self.previous_secrets)


def _one_of(values: Mapping[str, str], name: str, words: tuple[str, ...]) -> str | None:
    text = values.get(name, "").strip()
    if text and text not in words:
        logger.error("%s is %r and none of %s: it is not used", name, text, ", ".join(words))
        return None
    return text or None


def _http_url(values: Mapping[str, str], name: str) -> str | None:
    text = values.get(name, "").strip()
    if text and not text.startswith(("http://", "https://")):
        logger.error("%s is not a URL such as http://127.0.0.1:8081: it is not used", name)
        return None
    return text or None


def _flag(values: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = values.get(name, "").strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    if text:
        logger.error("%s is %r and not true or false: it is not used", name, text)
    return default


def _number(values: Mapping[str, str], name: str, default: float, *, most: float) -> float:
    text = values.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if 0 <= number <= most:
        return number
    logger.error("%s is %r and not a number from 0 to %g: it is not used", name, text, most)
    return default


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _long_enough(secret: str) -> bool:
    return len(secret.encode("utf-8")) >= MIN_SECRET_BYTES
