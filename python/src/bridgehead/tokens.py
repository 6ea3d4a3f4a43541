"""Reflex's records of which socket has a token, where virtual sessions come and go (local and Redis token managers).

Reflex takes a record whose owner is gone for a second tab and gives the newcomer another token, and with it an empty
state. A takeover makes the newcomer the owner, overwriting the record; and a session that ends never removes
another's.
"""

from __future__ import annotations

import logging
import pickle
import uuid
from collections.abc import Callable
from typing import Any, Literal

from bridgehead import counters

logger = logging.getLogger("bridgehead")

Owner = Literal["nobody", "here", "stale"]


class Tokens:
    """Wraps the token manager of one app's event namespace.

    `is_live` tells which Socket.IO sids are virtual sessions that have not ended, `takes_over` whether the one that is
    being linked takes its token over; `ousted` ends the one that loses it.
    """

    def __init__(
        self,
        manager: Any,
        *,
        is_live: Callable[[str], bool],
        takes_over: Callable[[], bool],
        ousted: Callable[[str], None],
    ) -> None:
        self._manager = manager
        self._is_live = is_live
        self._takes_over = takes_over
        self._ousted = ousted
        self._link: Any = manager.link_token_to_sid
        self._redis: Any = getattr(manager, "redis", None)
        if not manager.sid_to_token:
            # A server that imports the app before it forks (gunicorn --preload) would give all its workers one name.
            # reflex 0.10 does so itself.
            manager.instance_id = str(uuid.uuid4())
        manager.link_token_to_sid = self.link
        manager.disconnect_token = self.release
        self._record_deleted: Any = getattr(manager, "_handle_socket_record_del", None)
        if self._record_deleted is not None:
            manager._handle_socket_record_del = self._restore

    @property
    def instance(self) -> str | None:
        """The name of this worker in Reflex's records; None without Redis."""
        return None if self._redis is None else str(self._manager.instance_id)

    def sid_of(self, token: str) -> str | None:
        """The Socket.IO sid that has this token in this worker."""
        record = self._manager.token_to_socket.get(token)
        if record is None or record.instance_id != self._manager.instance_id:
            return None
        return str(record.sid)

    def token_of(self, sid: str) -> str | None:
        """The token of a Socket.IO sid."""
        token = self._manager.sid_to_token.get(sid)
        return token if isinstance(token, str) else None

    async def owner(self, token: str) -> Owner | str:
        """Who has this token: another worker's name, a socket `here`, a `stale` record of this worker, or nobody."""
        if self.sid_of(token) is not None:
            return "here"
        if self._redis is None:
            return "nobody"
        try:
            record = _read(await self._redis.get(self._manager._get_redis_key(token)))
        except Exception:
            # As Reflex does when Redis is away: nobody is known.
            counters.add("tokens.unavailable")
            return "nobody"
        if record is None:
            return "nobody"
        return "stale" if record[0] == self._manager.instance_id else record[0]

    async def link(self, token: str, sid: str) -> str | None:
        """In place of the manager's own: the new token of a duplicate, or None."""
        if not self._takes_over():
            answer: str | None = await self._link(token, sid)
            return answer
        manager = self._manager
        record = _record(manager.instance_id, sid)
        former = manager.token_to_socket.get(token)
        if former is not None and manager.sid_to_token.get(former.sid) == token:
            del manager.sid_to_token[former.sid]
        if former is not None and former.sid != sid and self._is_live(former.sid):
            # It came between the newcomer's attach and its CONNECT, and would get nothing any more.
            self._ousted(former.sid)
        manager.token_to_socket[token] = record
        manager.sid_to_token[sid] = token
        counters.add("session.takeover")
        if self._redis is not None:
            manager._ensure_socket_record_task()
            try:
                await self._redis.set(manager._get_redis_key(token), pickle.dumps(record), ex=manager.token_expiration)
            except Exception:
                counters.add("tokens.unavailable")
                logger.exception("the record of a token that was taken over could not be written")
        return None

    async def release(self, token: str, sid: str) -> None:
        """In place of the manager's own: this socket has the token no more, and nobody else loses it."""
        manager = self._manager
        record = manager.token_to_socket.get(token)
        if record is None or record.sid != sid or record.instance_id != manager.instance_id:
            if manager.sid_to_token.get(sid) == token:
                del manager.sid_to_token[sid]
            return
        del manager.token_to_socket[token]
        manager.sid_to_token.pop(sid, None)
        if self._redis is not None:
            await self._delete_own(token, sid)

    async def _restore(self, token: str, *details: Any, **more: Any) -> None:
        """Redis tells of a record that is gone. News of a former socket's must not cost the present one its token.

        reflex 0.10 does so itself.
        """
        manager = self._manager
        record = manager.token_to_socket.get(token)
        if record is None or record.instance_id != manager.instance_id or not self._is_live(record.sid):
            await self._record_deleted(token, *details, **more)
            return
        try:
            stored = await self._redis.set(
                manager._get_redis_key(token), pickle.dumps(record), ex=manager.token_expiration, nx=True
            )
            if not stored:
                # Somebody else has it by now.
                await manager._get_token_owner(token, refresh=True)
        except Exception:
            counters.add("tokens.unavailable")

    async def _delete_own(self, token: str, sid: str) -> None:
        from redis.exceptions import WatchError

        key = self._manager._get_redis_key(token)
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                await pipe.watch(key)
                if _read(await pipe.get(key)) != (self._manager.instance_id, sid):
                    return
                pipe.multi()
                pipe.delete(key)
                await pipe.execute()
        except WatchError:
            # A new owner wrote it this moment.
            return
        except Exception:
            counters.add("tokens.unavailable")


def _record(instance: str, sid: str) -> Any:
    from reflex.utils.token_manager import SocketRecord

    return SocketRecord(instance_id=instance, sid=sid)


def _read(stored: bytes | None) -> tuple[str, str] | None:
    """Instance and sid in a record as Reflex writes it."""
    if not stored:
        return None
    # Reflex's own format; whoever can write to its Redis can write states there, which are pickled too.
    record = pickle.loads(stored)  # noqa: S301
    return record.instance_id, record.sid
