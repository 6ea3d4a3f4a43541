"""One Redis, a cluster and sentinels, by their URLs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import redis_groups
from backend import free_port
from bridgehead.keys import Keyring
from bridgehead.live.change import Change, gap_message
from bridgehead.live.ways import RedisWay
from bridgehead.publisher import Publisher, channel_of
from bridgehead.redis_client import RedisClient, parse_redis_url
from redis_groups import RedisGroup
from redis_server import RedisServer

KEYRING = Keyring("cache", "s" * 32)
CHANGE = Change(model="shop.product", action="updated", pk=1, id="x", at=0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisGroup]:
    group = redis_groups.cluster()
    yield group
    group.stop()


@pytest.fixture(scope="module")
def sentinel() -> Iterator[RedisGroup]:
    group = redis_groups.sentinel()
    yield group
    group.stop()


def hear(server: RedisServer, channel: str) -> Any:
    subscription = redis.Redis.from_url(server.url, decode_responses=True).pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(channel)
    subscription.get_message(timeout=5)
    return subscription


def next_of(subscription: Any) -> str:
    end = time.monotonic() + 15
    while (message := subscription.get_message(timeout=0.2)) is None:
        assert time.monotonic() < end
    return str(message["data"])


def url_of(group: RedisGroup) -> str:
    if "--sentinel" in group.servers[-1].arguments:
        return f"redis+sentinel://127.0.0.1:{group.servers[-1].port}/shop"
    # The first is away: another one knows the cluster.
    hosts = [f"127.0.0.1:{free_port()}", *(f"127.0.0.1:{server.port}" for server in group.servers)]
    return f"redis+cluster://{','.join(hosts)}"


@pytest.mark.parametrize("form", ["cluster", "sentinel"])
def test_changes_and_invalidations_reach_whoever_listens_there(form: str, request: pytest.FixtureRequest) -> None:
    group: RedisGroup = request.getfixturevalue(form)
    # A cluster gives a message to all of its nodes, a primary to its replica.
    changes, forgotten = (hear(group.servers[1], name) for name in ("bridgehead:shop:changes", channel_of("shop")))
    RedisWay(url_of(group), "shop", streams=False).send([CHANGE, CHANGE], ["shop.order"])
    assert json.loads(next_of(changes))["changes"][0]["id"] == CHANGE.id
    assert json.loads(next_of(changes)) == json.loads(gap_message("shop.order"))
    publisher = Publisher(url_of(group), KEYRING)
    publisher.publish("shop", {"id": "x", "all": True})
    assert next_of(forgotten).count(".") == 2
    publisher.close()


@pytest.mark.parametrize("form", ["cluster", "sentinel"])
def test_the_stream_is_kept_where_its_key_belongs(form: str, request: pytest.FixtureRequest) -> None:
    group: RedisGroup = request.getfixturevalue(form)
    for name in ("a", "b", "c", "d"):
        RedisWay(url_of(group), name, streams=True).send([CHANGE], ["shop.order"])
        with contextlib.closing(group.client()) as client:
            entries = client.xrange(f"bridgehead:{name}:stream")
        assert [list(json.loads(fields["message"])) for _, fields in entries] == [
            ["changes"],
            list(json.loads(gap_message("shop.order"))),
        ]


def test_a_way_that_sentinels_lead_follows_a_failover() -> None:
    group = redis_groups.sentinel()
    try:
        way = RedisWay(url_of(group), "shop", streams=True)
        way.send([CHANGE], [])
        group.servers[0].stop()
        end = time.monotonic() + 30
        while True:
            try:
                way.send([CHANGE], [])
                break
            except redis.RedisError:
                assert time.monotonic() < end
                time.sleep(0.1)
        with redis.Redis.from_url(group.servers[1].url) as replica:
            assert replica.role()[0] == b"master"
            assert replica.xlen("bridgehead:shop:stream") >= 1
    finally:
        group.stop()


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "user", "database", "primary"),
    [
        ("redis+cluster://a,b:7000", "cluster", (("a", 6379), ("b", 7000)), {}, 0, ""),
        (
            "rediss+cluster://u:p%40@[::1]:7000/",
            "cluster",
            (("::1", 7000),),
            {"username": "u", "password": "p@"},
            0,
            "",
        ),
        (
            "redis+sentinel://:p%@a,b:1/shop%201/3?x=y",
            "sentinel",
            (("a", 26379), ("b", 1)),
            {"password": "p%"},
            3,
            "shop 1",
        ),
        ("REDIS+SENTINEL:///shop", "sentinel", (("127.0.0.1", 26379),), {}, 0, "shop"),
    ],
)
def test_urls_are_read_as_the_sidecar_reads_them(
    url: str, kind: str, hosts: object, user: object, database: int, primary: str
) -> None:
    address = parse_redis_url(url)
    assert address is not None
    assert (address.kind, address.hosts, address.user) == (kind, hosts, user)
    assert (address.database, address.primary, address.tls) == (database, primary, url.startswith("rediss"))
    assert "p@" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "redis+other://secret@a",
        "redis+sentinel://secret@a",
        "redis+cluster://secret@a:b:c",
        "redis+cluster://secret@a/secret",
        "secret://a",
        "redis://u:secret/@a",
    ],
)
def test_what_cannot_be_read_is_told_at_once_without_its_text(url: str) -> None:
    with pytest.raises(ValueError, match=r"Redis URL|sentinel URL") as caught:
        RedisClient(url)
    assert "secret" not in str(caught.value)
