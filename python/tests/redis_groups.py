"""A real Redis Cluster, and a real primary with a replica and a sentinel."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis

from backend import free_port
from redis_server import RedisServer

_PRIMARIES = 3
_SLOTS = 16_384


class RedisGroup:
    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        self.folder = Path(tempfile.mkdtemp(prefix="bridgehead-redis-"))

    def start(self, *arguments: str) -> RedisServer:
        folder = self.folder / str(len(self.servers))
        folder.mkdir()
        server = RedisServer(folder, arguments or ("--save", ""))
        self.servers.append(server)
        return server.start()

    def client(self) -> redis.Redis | redis.RedisCluster:
        """One that finds its way to the data."""
        kind = redis.RedisCluster if "--cluster-enabled" in self.servers[0].arguments else redis.Redis
        return kind(host="127.0.0.1", port=self.servers[0].port, decode_responses=True)

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def cluster() -> RedisGroup:
    """Three primaries, without replicas."""
    group = RedisGroup()
    buses = [free_port() for _ in range(_PRIMARIES)]
    for bus in buses:
        group.start("--cluster-enabled", "yes", "--cluster-port", str(bus))
    clients = [redis.Redis(port=server.port, decode_responses=True) for server in group.servers]
    for index, client in enumerate(clients):
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", group.servers[index].port, buses[index])
        first, after = (round(part * _SLOTS / _PRIMARIES) for part in (index, index + 1))
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
    _wait(lambda: all(_knows_all(client) for client in clients))
    for client in clients:
        client.close()
    return group


def _knows_all(client: redis.Redis) -> bool:
    info = str(client.execute_command("CLUSTER", "INFO"))
    return "cluster_state:ok" in info and f"cluster_known_nodes:{_PRIMARIES}" in info


def sentinel() -> RedisGroup:
    """A primary, a replica, and last the sentinel that knows them as `shop` and takes a second to judge."""
    group = RedisGroup()
    primary = group.start()
    replica = group.start("--replicaof", "127.0.0.1", str(primary.port))
    with redis.Redis(port=replica.port) as client:
        _wait(lambda: client.info("replication")["master_link_status"] == "up")
    file = group.folder / "sentinel.conf"
    file.write_text(
        f"sentinel monitor shop 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds shop 1000\nsentinel failover-timeout shop 5000\n"
    )
    with redis.Redis(port=group.start(str(file), "--sentinel").port) as client:
        _wait(lambda: len(client.execute_command("SENTINEL REPLICAS", "shop")) == 1)
    return group


def _wait(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)
