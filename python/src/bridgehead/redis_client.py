"""The Redis that a URL names, in the forms the sidecar knows: one server, a cluster, or the primary of sentinels."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

_SECONDS = 2.0
_HEALTH_CHECK_SECONDS = 15
_SHAPE = re.compile(r"(rediss?)\+(sentinel|cluster)://(?:([^@/]*)@)?([^/?]*)(/[^?]*)?(?:\?.*)?", re.IGNORECASE)
_HOST = re.compile(r"(?:\[([^\]]+)\]|([^:]*))(?::(\d{1,5}))?")
_DATABASE = re.compile(r"\d{1,5}")

Command = Sequence[str | int]


class RedisClient:
    """Connects with the first command, since a cluster is asked for its nodes and may be away.

    Raises an `ImportError` without the package redis, and a `ValueError` for a URL it cannot read.
    """

    def __init__(self, url: str) -> None:
        self._make = _maker(url)
        self._client: Any = None
        self._pid = os.getpid()

    def send(self, commands: Sequence[Command]) -> None:
        """All of them, in order. Raises where one was not done: any of them may have been."""
        import redis

        if self._client is None or self._pid != os.getpid():
            # A fork has no share in the connection.
            self._client, self._pid = self._make(), os.getpid()
        is_cluster = isinstance(self._client, redis.RedisCluster)
        if is_cluster:
            # A pipeline of a cluster refuses PUBLISH, which belongs to no slot.
            for command in commands:
                self._client.execute_command(*command)
            return
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        pipeline.execute()


@dataclass(frozen=True)
class RedisAddress:
    """A URL with several hosts."""

    kind: str
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    # Credentials of the servers that keep data: sentinels are asked without.
    user: dict[str, str] = field(default_factory=dict, repr=False)
    database: int = 0
    # The name under which sentinels know the primary.
    primary: str = ""


def parse_redis_url(url: str) -> RedisAddress | None:
    """None where redis-py reads the URL itself: one server, by TCP or a Unix socket."""
    if "+" not in url.partition("://")[0]:
        return None
    match = _SHAPE.fullmatch(url)
    if match is None:
        raise ValueError(
            "not a Redis URL: redis+sentinel://host:26379/primary-name, redis+cluster://host:6379, or rediss+… for TLS"
        )
    scheme, form, userinfo, authority, path = match.groups()
    kind, tls, user = form.lower(), scheme.lower() == "rediss", _read_user(userinfo or "")
    hosts = tuple(_read_host(part, 26_379 if kind == "sentinel" else 6_379) for part in authority.split(","))
    first, second = [*(path or "").split("/")[1:3], "", ""][:2]
    if kind == "cluster":
        return RedisAddress(kind, hosts, tls, user, _read_database(first))
    if first == "":
        raise ValueError("a sentinel URL needs the primary's name as its path: redis+sentinel://host:26379/name")
    return RedisAddress(kind, hosts, tls, user, _read_database(second), unquote(first))


def _read_user(userinfo: str) -> dict[str, str]:
    username, _, password = (unquote(part) for part in userinfo.partition(":"))
    return {name: text for name, text in (("username", username), ("password", password)) if text != ""}


def _read_host(text: str, default_port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise ValueError("a host of the Redis URL cannot be read: give host:port, or [address]:port for IPv6")
    return match[1] or match[2] or "127.0.0.1", int(match[3] or default_port)


def _read_database(text: str) -> int:
    if text != "" and _DATABASE.fullmatch(text) is None:
        raise ValueError("a Redis URL's database must be a number")
    return int(text or 0)


def _maker(url: str) -> Callable[[], Any]:
    import redis
    from redis import cluster, connection, sentinel

    # Without types of their own.
    parse_url: Any = connection.parse_url
    nodes: Any = cluster.ClusterNode
    sentinels: Any = sentinel.Sentinel
    timeouts: dict[str, Any] = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS}
    address = parse_redis_url(url)
    if address is None:
        try:
            parse_url(url)
        except ValueError:
            # Its own words may hold a part of the URL.
            raise ValueError("not a Redis URL: redis://host:6379/0, rediss://… for TLS, or unix:///path") from None
        return lambda: redis.Redis.from_url(url, **timeouts, health_check_interval=_HEALTH_CHECK_SECONDS)
    common = timeouts | ({"ssl": True} if address.tls else {})
    server = common | address.user
    if address.kind == "cluster":
        # The database of a cluster is 0.
        known = [nodes(host, port) for host, port in address.hosts]
        return lambda: redis.RedisCluster(startup_nodes=known, **server)
    server |= {"db": address.database, "health_check_interval": _HEALTH_CHECK_SECONDS}
    return lambda: sentinels(list(address.hosts), sentinel_kwargs=common).master_for(address.primary, **server)
