"""A user as it travels (docs/PROTOCOL.md, "Snapshot"), and the user made of it again."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import router

from bridgehead.django.threads import off_loop
from bridgehead.keys import base64url

try:
    from django.db.models.fetch_modes import FetchMode
except ImportError:  # Django 6.0
    FetchMode = None

MAX_BYTES = 2_048
MAX_CHARACTERS = 256
_MAX_SAFE_INTEGER = 2**53 - 1
_FLAGS = ("is_active", "is_staff", "is_superuser")
# A snapshot is signed, not secret. What looks like a credential stays in the database, as the password does.
_SECRET = re.compile(r"pass|secret|token|otp|totp|mfa|salt|signature|credential|private|(^|_)(key|hash|pin|api)(_|$)")


class SnapshotError(ValueError):
    """This user cannot travel, or what came is no user of this app."""


def label() -> str:
    """The user model's label, as snapshots and invalidations name it."""
    return str(get_user_model()._meta.label_lower)


def key_of(pk_text: str) -> str:
    """How invalidations name a user: `auth.user:42`."""
    return f"{label()}:{pk_text}"


def user_key(user: Any) -> str:
    """The same for a user at hand."""
    return key_of(user._meta.pk.value_to_string(user))


def auth_hash(session_auth_hash: str) -> str:
    """What stands for a session's auth hash."""
    return base64url(hashlib.sha256(session_auth_hash.encode("utf-8", "surrogatepass")).digest()[:16])


def make(user: Any, backend: str, session_auth_hash: str) -> dict[str, Any]:
    """The snapshot of a user that a backend gave. Touches no field that is deferred, but for the flags."""
    model: Any = get_user_model()
    if user.__class__ != model:
        raise SnapshotError("the backend gives users of another class than the user model")
    snapshot: dict[str, Any] = {
        "m": label(),
        "id": user._meta.pk.value_to_string(user),
        "b": backend,
        "h": auth_hash(session_auth_hash),
        "f": {},
    }
    for field in _fields(model):
        if field.attname in user.__dict__ and (packed := _pack(field, user.__dict__[field.attname])) is not None:
            snapshot["f"][field.attname] = packed[0]
    for flag in _FLAGS:
        # Rules of access are judged by them, whatever else is to travel, and where they are no fields too.
        if flag not in snapshot["f"] and isinstance(value := getattr(user, flag, None), bool):
            snapshot["f"][flag] = value
    if _size(snapshot) > MAX_BYTES:
        kept = (*_FLAGS, model.USERNAME_FIELD)
        snapshot["f"] = {name: value for name, value in snapshot["f"].items() if name in kept}
    if _size(snapshot) > MAX_BYTES:
        raise SnapshotError("the user's key is too long")
    return snapshot


def restore(snapshot: Mapping[str, Any], *, primary: bool = False) -> Any:
    """The user of a snapshot, without a query; `SnapshotError` where it is none of this app."""
    model: Any = get_user_model()
    pk_text, backend, values = (snapshot.get(key) for key in ("id", "b", "f"))
    if snapshot.get("m") != label() or not isinstance(pk_text, str) or not isinstance(values, Mapping):
        raise SnapshotError("not a user of this app")
    if backend not in settings.AUTHENTICATION_BACKENDS:
        raise SnapshotError("not one of this app's backends")
    pk_field = model._meta.pk
    try:
        fields = {pk_field.attname: pk_field.to_python(pk_text)}
    except Exception as error:
        raise SnapshotError("not a primary key") from error
    if fields[pk_field.attname] is None:
        raise SnapshotError("no primary key")
    for field in _fields(model):
        if field.attname in values:
            value = values[field.attname]
            try:
                fields[field.attname] = None if value is None else field.to_python(value)
            except Exception:  # noqa: S112  # deferred: the database knows better
                continue
    # As Django reads a row: in the order of the model's fields, the missing ones deferred.
    names = [field.attname for field in model._meta.concrete_fields if field.attname in fields]
    database = router.db_for_write(model) if primary else router.db_for_read(model)
    user = model.from_db(database, names, [fields[name] for name in names])
    _load_off_loop(user)
    user.backend = backend
    return user


@lru_cache(maxsize=4)
def _fields(model: type[Any]) -> tuple[Any, ...]:
    """The fields that may travel."""
    chosen = getattr(settings, "BRIDGEHEAD_USER_FIELDS", None)
    return tuple(
        field
        for field in model._meta.concrete_fields
        if not field.primary_key
        and field.attname != "password"
        and (field.name in (*chosen, *_FLAGS) if chosen is not None else not _SECRET.search(field.name.lower()))
    )


def _pack(field: Any, value: Any) -> tuple[Any] | None:
    """The value as JSON holds it, in a tuple; None where it would not come back the same."""
    if value is None or isinstance(value, bool):
        packed: Any = value
    elif isinstance(value, int):
        if abs(value) > _MAX_SAFE_INTEGER:
            return None
        packed = value
    elif isinstance(value, float):
        if not math.isfinite(value):
            return None
        packed = value
    elif isinstance(value, str):
        packed = value
    elif callable(isoformat := getattr(value, "isoformat", None)):
        packed = isoformat()
    else:
        packed = str(value)
    if isinstance(packed, str) and (len(packed) > MAX_CHARACTERS or not _is_unicode(packed)):
        return None
    try:
        back = None if packed is None else field.to_python(packed)
        same = type(back) is type(value) and bool(back == value)
    except Exception:
        return None
    return (packed,) if same else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _size(snapshot: Mapping[str, Any]) -> int:
    return len(json.dumps(snapshot, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))


if FetchMode is not None:

    class _OffLoop(FetchMode):  # type: ignore[misc]  # Django has no types of its own
        """Loads a deferred field also where an event loop runs."""

        __slots__ = ()

        def fetch(self, fetcher: Any, instance: Any) -> None:
            off_loop(fetcher.fetch_one, instance)

        def __reduce__(self) -> str:
            return "OFF_LOOP"

    OFF_LOOP = _OffLoop()

    def _load_off_loop(user: Any) -> None:
        user._state.fetch_mode = OFF_LOOP

else:

    def _load_off_loop(user: Any) -> None:
        refresh: Callable[..., None] = type(user).refresh_from_db
        user.refresh_from_db = partial(off_loop, refresh, user)
