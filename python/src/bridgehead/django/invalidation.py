"""Tells sidecars to forget what they know of a user or a session, once it is committed.

Signals do this for what goes through Django's models and session stores. After bulk updates or raw SQL, which send no
signals, call `bridgehead.django.invalidate_user(user)` or `invalidate_all()`.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.db.transaction import TransactionManagementError

from bridgehead import companion
from bridgehead.annotation import session_hash
from bridgehead.django import snapshot
from bridgehead.handover import unix_ms
from bridgehead.publisher import Publisher
from bridgehead.recent import distrusted, recent
from bridgehead.settings import DEFAULT_NAME, Settings

logger = logging.getLogger("bridgehead")

_lock = threading.Lock()
_publisher: Publisher | None = None
_prepared = False
_settings: Settings | None = None


def invalidate_user(user_or_pk: Any, *, using: str | None = None) -> None:
    """Forget a user, given as an instance or a primary key, everywhere; after the commit of the transaction at hand."""
    pk_field = get_user_model()._meta.pk
    if isinstance(user_or_pk, get_user_model()):
        text = pk_field.value_to_string(user_or_pk)
    else:
        text = str(pk_field.to_python(user_or_pk))
    announce({"user": snapshot.key_of(text)}, using)


def invalidate_session(session_key: str, *, using: str | None = None) -> None:
    """Forget who a session belongs to."""
    announce({"session": session_hash(session_key)}, using)


def invalidate_all(*, using: str | None = None) -> None:
    """Forget every user."""
    announce({"all": True}, using)


def announce(what: Mapping[str, Any], using: str | None = None, *, is_new: bool = False) -> None:
    """Tell everybody after the commit; at once without a transaction, and where `using` is None.

    `is_new`: a session or user that was made just now, so that nobody can know it wrongly.
    """
    after_commit(partial(_send, what, is_new), using)


def after_commit(call: Callable[[], None], using: str | None) -> None:
    """Call it after the commit; at once without a transaction, and where `using` is None."""
    if using is None:
        call()
        return
    try:
        transaction.on_commit(call, using=using)
    except (TransactionManagementError, SynchronousOnlyOperation):
        # Autocommit is off and Django leaves commits to the app; or an event loop's thread, which has no transaction.
        call()


def _send(what: Mapping[str, Any], is_new: bool) -> None:
    try:
        body = {"id": secrets.token_urlsafe(12), **what}
        recent.add(what, unix_ms())
        if not is_new:
            distrusted.add(what, unix_ms())
        running = companion.current()
        if running is not None:
            running.invalidate(body)
        publisher = _get_publisher(running is not None)
        if publisher is not None:
            publisher.publish(running.name if running is not None else _own_name(), body)
    except Exception:
        # What was committed must not look failed.
        logger.exception("an invalidation could not be sent")


def _own_name() -> str:
    return (_settings.name if _settings is not None else None) or DEFAULT_NAME


def _get_publisher(linked: bool) -> Publisher | None:
    global _publisher, _prepared, _settings
    with _lock:
        if _prepared:
            return _publisher
        _prepared = True
        _settings = Settings.from_environment()
        keyring = _settings.keyring("cache")
        if _settings.redis_url is None or keyring is None:
            if not linked:
                missing = "BRIDGEHEAD_SECRET" if keyring is None else "REDIS_URL (or BRIDGEHEAD_REDIS_URL)"
                logger.warning(
                    "%s is not set: sidecars learn of what this process changes only when their answers expire", missing
                )
            return None
        try:
            _publisher = Publisher(_settings.redis_url, keyring)
        except ImportError:
            logger.error("REDIS_URL is set, but the package redis is missing: pip install redis")
        except ValueError as error:
            logger.error("REDIS_URL cannot be used to tell sidecars what this process changes: %s", error)
        return _publisher
