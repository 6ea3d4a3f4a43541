"""`bridgehead.publish` and `bridgehead.push`: from a worker over its links, else by what the process can reach.

Without a link: the outbox table where PostgreSQL has it (in the transaction at hand), else Redis, else the HTTP API.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, get_args

from bridgehead import companion, counters
from bridgehead.live import outbox
from bridgehead.live.change import MAX_BATCH, Change, ChangeError, action_of, label_of, new_id, now_ms, pk_of, tags_of
from bridgehead.live.courier import Courier
from bridgehead.live.messages import Gap
from bridgehead.live.ways import HttpWay, RedisWay
from bridgehead.settings import DEFAULT_NAME, Settings

logger = logging.getLogger("bridgehead")

Target = Literal["session", "user", "group", "path", "all"]


def publish(
    instance_or_label: Any,
    action: str,
    pk: Any = None,
    *,
    tags: Iterable[str] | None = None,
    using: str | None = None,
) -> None:
    """Tell every session that a row was `created`, `updated` or `deleted`, once the transaction at hand is committed.

    Takes an instance, or a label such as `shop.product` and its `pk`. `tags` narrow it to the subscriptions that have
    one of them. `using`: the database whose transaction it belongs to; default, the one that the model is written to.
    Works in sync and async code, and never waits for the network. Raises `ChangeError` for what is no change.
    """
    if isinstance(instance_or_label, str):
        label = label_of(instance_or_label)
        if pk is None:
            raise ChangeError(f"which {label}? Give its primary key")
    else:
        label, pk = _label_and_pk(instance_or_label, pk)
    change = Change(label, action_of(action), pk_of(pk), tags_of(tags))
    send(change, using or outbox.database_of(label))


def push(
    to: Literal["all"] | Mapping[Target, Any],
    *,
    event: str | None = None,
    payload: Mapping[str, Any] | None = None,
    toast: str | Mapping[str, Any] | None = None,
    redirect: str | None = None,
    script: str | None = None,
) -> None:
    """Run an allow-listed handler (`event`, `payload`) in sessions, or send browsers a toast, a redirect or a script.

    `to`: `"all"`, or one of `{"session": …}`, `{"user": …}`, `{"group": …}`, `{"path": …}`; `event`:
    `module.Class.handler`. It goes out once the transaction at hand (of the default database) is committed, in the
    background: to the HTTP API where BRIDGEHEAD_API_URL and BRIDGEHEAD_API_KEY are set, else over the bus. Raises
    `ValueError` for what cannot be sent.
    """
    target: Any = {"all": True} if to == "all" else to
    if not isinstance(target, Mapping) or len(target) != 1 or not target.keys() <= set(get_args(Target)):
        raise ValueError("to is 'all', or one of session, user, group and path, such as {'user': 42}")
    what: dict[str, Any] = {"toast": toast, "redirect": redirect, "script": script}
    if event is not None:
        what["event"] = {"name": event, "payload": dict(payload or {})}
    said = {key: value for key, value in what.items() if value is not None}
    if len(said) != 1 or (payload is not None and event is None):
        raise ValueError("give one of event (with payload), toast, redirect and script")
    try:
        body = json.dumps({"to": dict(target), **said}, ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"a push must be what JSON can hold: {error}") from None
    after_commit(partial(_push_now, new_id(), body), outbox.database_of(""))


def send(change: Change, using: str | None) -> None:
    """Send a change with the transaction at hand of that database, None for no transaction. Never raises."""
    try:
        if not _is_linked() and using is not None and outbox.write([change], using):
            counters.add("live.written")
            return
        after_commit(partial(_send_now, change), using)
    except Exception:
        # The app's own work must not fail for it.
        logger.exception("a change could not be published")


def send_gap(model: str, using: str | None) -> None:
    """Tell that changes of a model are missing, with the transaction at hand."""
    after_commit(partial(_send_gap_now, model), using)


def send_rest(changes: Iterable[Change], gaps: Iterable[str | None]) -> None:
    """What a worker that stops could not hand over."""
    for change in changes:
        _ways().put(change)
    for model in gaps:
        _ways().put(Gap(model))


def after_commit(work: Callable[[], None], using: str | None) -> None:
    """Do it once the transaction of that database is committed; at once where there is none."""
    if using is None:
        work()
        return
    from django.core.exceptions import SynchronousOnlyOperation
    from django.db import transaction
    from django.db.transaction import TransactionManagementError

    try:
        transaction.on_commit(work, using=using)
    except (TransactionManagementError, SynchronousOnlyOperation):
        # Autocommit is off and Django leaves commits to the app; or an event loop's thread, which has no transaction.
        work()


def _label_and_pk(instance: Any, pk: Any) -> tuple[str, Any]:
    meta = getattr(instance, "_meta", None)
    if meta is None or isinstance(instance, type):
        raise ChangeError("publish takes an instance of a model, or a label and a primary key")
    pk = instance.pk if pk is None else pk
    if pk is None:
        raise ChangeError(f"this {meta.label} has no primary key (any more): give it as pk")
    return meta.concrete_model._meta.label_lower, pk


def _is_linked() -> bool:
    running = companion.current()
    return running is not None and running.live is not None


def _send_now(change: Change) -> None:
    running = companion.current()
    if running is not None and running.live is not None and running.live.publish(change):
        return
    _ways().put(change)


def _push_now(push_id: str, body: str) -> None:
    _ways().push(push_id, body)


def _send_gap_now(model: str) -> None:
    running = companion.current()
    if running is not None and running.live is not None and running.live.publish_gap(model):
        return
    _ways().put(Gap(model))


class _Ways:
    """What this process can reach, found out once."""

    def __init__(self, settings: Settings) -> None:
        has_key = settings.api_url is not None and settings.api_key is not None
        self._http = HttpWay(settings.api_url or "", settings.api_key or "") if has_key else None
        self._redis = _redis_way(settings)
        self._deployment = settings.name or DEFAULT_NAME
        self._said: set[str] = set()
        self._changes = Courier[Change | Gap]("changes", self._deliver, at_once=MAX_BATCH, overflowed=self._overflowed)
        self._pushes = Courier[tuple[str, str]]("pushes", self._deliver_push, at_once=1, overflowed=self._lost_push)

    def put(self, item: Change | Gap) -> None:
        """Deliver it in the background, or say once that nobody can."""
        if self._redis is None and self._http is None and not outbox.may_exist():
            counters.add("live.unpublished")
            self._warn(_NO_WAY)
            return
        self._changes.put(item)

    def push(self, push_id: str, body: str) -> None:
        """Deliver it in the background, or say once that nobody can."""
        if self._http is None and self._redis is None and not outbox.may_exist():
            self._warn(_NO_PUSH)
            return
        self._pushes.put((push_id, body))

    def _overflowed(self, item: Change | Gap) -> Gap:
        counters.add("live.dropped")
        return Gap(item.model)

    def _lost_push(self, item: tuple[str, str]) -> None:
        counters.add("live.dropped")
        self._warn("pushes come faster than the sidecar takes them, and some are lost")

    def _deliver(self, items: list[Change | Gap]) -> None:
        changes = [item for item in items if isinstance(item, Change)]
        gaps = [item.model for item in items if isinstance(item, Gap)]
        if outbox.write_apart(changes, gaps):
            return
        if self._redis is not None:
            self._redis.send(changes, gaps)
        elif self._http is not None:
            if changes:
                self._http.send(changes)
            if gaps:
                self._warn("changes are made faster than the sidecar takes them, and some are not told")
        # The last thing to try: a database that has nothing to do with them may be out of this process' reach.
        elif not outbox.write_apart(changes, gaps, anywhere=True):
            counters.add("live.unpublished")
            self._warn(_NO_WAY)

    def _deliver_push(self, items: list[tuple[str, str]]) -> None:
        for push_id, body in items:
            if self._http is not None:
                self._http.post("/api/push", body, push_id)
                continue
            message = {"push": {"id": push_id, "at": now_ms(), **json.loads(body)}}
            if self._redis is not None:
                self._redis.send_messages([json.dumps(message, ensure_ascii=False)])
                continue
            # Every deployment of the database reads the outbox.
            text = json.dumps({**message, "deployment": self._deployment}, ensure_ascii=False)
            if not outbox.write_push_apart(push_id, text):
                self._warn(_NO_PUSH)

    def _warn(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)


_NO_WAY = (
    "changes made in this process are not published: give it REDIS_URL, or BRIDGEHEAD_API_URL and BRIDGEHEAD_API_KEY"
)


_NO_PUSH = "nothing is pushed: bridgehead.push needs BRIDGEHEAD_API_URL and BRIDGEHEAD_API_KEY, or REDIS_URL"


def _redis_way(settings: Settings) -> RedisWay | None:
    bus = settings.live_bus or ("redis" if settings.redis_url is not None else None)
    if settings.redis_url is None or bus not in ("redis", "redis-streams"):
        return None
    try:
        return RedisWay(settings.redis_url, settings.name or DEFAULT_NAME, streams=bus == "redis-streams")
    except ImportError:
        logger.error("REDIS_URL is set, but the package redis is missing: pip install redis")
    except ValueError as error:
        logger.error("REDIS_URL cannot be used to publish changes: %s", error)
    return None


_lock = threading.Lock()
_found: _Ways | None = None


def _ways() -> _Ways:
    global _found
    with _lock:
        if _found is None:
            _found = _Ways(Settings.from_environment())
        return _found
