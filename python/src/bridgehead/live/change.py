"""A change of one row of a model, and how it travels (docs/PROTOCOL.md, "Changes")."""

from __future__ import annotations

import decimal
import json
import re
import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from datetime import time as time_of_day
from typing import Any, Literal, cast, get_args

Action = Literal["created", "updated", "deleted"]
Pk = int | str

ACTIONS: tuple[Action, ...] = get_args(Action)
MAX_BATCH = 1_000
MAX_PK = 255
MAX_TAGS = 8
MAX_TAG = 100
# What one message on a bus may hold.
_MESSAGE_CHANGES = 100
_MESSAGE_CHARACTERS = 16_384
_MAX_MODEL = 200
_SAFE = 2**53 - 1
_ID = re.compile(r"[!-~]{1,64}", re.ASCII)
_LABEL = re.compile(r"[^\W\d]\w*\.[^\W\d]\w*")


class ChangeError(ValueError):
    """What was given is no change; the message says which part, and what to do."""


def new_id() -> str:
    """An id that no other change has."""
    return secrets.token_urlsafe(12)


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Change:
    """`tags` narrow whom it concerns; without any it concerns every subscription of its model."""

    model: str
    action: Action
    pk: Pk
    tags: tuple[str, ...] = ()
    id: str = field(default_factory=new_id)
    at: int = field(default_factory=now_ms)

    def to_json(self) -> dict[str, Any]:
        """As it travels."""
        body = {"id": self.id, "model": self.model, "action": self.action, "pk": self.pk, "at": self.at}
        return body | {"tags": self.tags} if self.tags else body


def label_of(value: object) -> str:
    """A model's label in lower case; `ChangeError` for what is none."""
    if isinstance(value, str) and len(value) <= _MAX_MODEL and _LABEL.fullmatch(value):
        return value.lower()
    raise ChangeError(f"{value!r} is not the label of a model: write app_label.model, for example shop.product")


def action_of(value: object) -> Action:
    """An action; `ChangeError` for what is none."""
    if value in ACTIONS:
        return value
    raise ChangeError(f"{value!r} is not an action: write created, updated or deleted")


def pk_of(value: object) -> Pk:
    """A primary key as it travels: integers beyond 2^53 and all else as text. `ChangeError` for what no text can be."""
    if isinstance(value, tuple | list):
        raise ChangeError("a composite key cannot be live: give the model a primary key of one column")
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if abs(value) <= _SAFE else str(int(value))
    if isinstance(value, datetime | date | time_of_day):
        text = value.isoformat()
    elif isinstance(value, str | uuid.UUID | decimal.Decimal):
        text = str(value)
    else:
        raise ChangeError(f"a {type(value).__name__} is not a primary key that can be live")
    if not _is_pk(text):
        raise ChangeError(f"a primary key has 1 to {MAX_PK} characters, none of them NUL")
    return text


def tags_of(values: Iterable[str] | None, *, most: int = MAX_TAGS) -> tuple[str, ...]:
    """Tags without repeats; none where there are more than `most`: the change then concerns everybody."""
    if isinstance(values, str):
        raise ChangeError("tags are a list of texts, such as ['tenant:acme']")
    tags = tuple(dict.fromkeys(values or ()))
    if not all(_is_tag(tag) for tag in tags):
        raise ChangeError(f"a tag is a text of 1 to {MAX_TAG} characters, such as 'tenant:acme'")
    return tags if len(tags) <= most else ()


def read_change(value: object) -> Change | None:
    """A change as somebody else wrote it; None for what is none. What is not known is ignored."""
    if not isinstance(value, dict):
        return None
    name, model, action, pk, at, tags = (value.get(key) for key in ("id", "model", "action", "pk", "at", "tags"))
    if not (isinstance(name, str) and _ID.fullmatch(name)) or action not in ACTIONS or not _is_pk(pk):
        return None
    try:
        label = label_of(model)
    except ChangeError:
        return None
    readable = isinstance(tags, list) and len(tags) <= MAX_TAGS and all(_is_tag(tag) for tag in tags)
    return Change(
        label,
        cast("Action", action),
        cast("Pk", pk),
        tuple(cast("list[str]", tags)) if readable else (),
        name,
        at if type(at) is int else now_ms(),
    )


def bus_messages(changes: Sequence[Change]) -> list[str]:
    """Messages for a bus, in order: each `{"changes":[…]}` with at most 100."""
    messages: list[str] = []
    parts: list[str] = []
    length = 0
    for change in changes:
        text = json.dumps(change.to_json(), separators=(",", ":"), ensure_ascii=False)
        if parts and (len(parts) >= _MESSAGE_CHANGES or length + len(text) > _MESSAGE_CHARACTERS):
            messages.append(f'{{"changes":[{",".join(parts)}]}}')
            parts, length = [], 0
        parts.append(text)
        length += len(text)
    if parts:
        messages.append(f'{{"changes":[{",".join(parts)}]}}')
    return messages


def gap_message(model: str | None) -> str:
    """The message on a bus that changes may have been missed, of one model or of any."""
    gap = {} if model is None else {"model": model}
    return json.dumps({"gap": gap}, separators=(",", ":"), ensure_ascii=False)


def _is_tag(tag: object) -> bool:
    return isinstance(tag, str) and 0 < len(tag) <= MAX_TAG and _is_text(tag)


def _is_pk(pk: object) -> bool:
    if isinstance(pk, str):
        return 0 < len(pk) <= MAX_PK and _is_text(pk)
    return type(pk) is int and abs(pk) <= _SAFE


def _is_text(text: str) -> bool:
    """PostgreSQL's text cannot hold a NUL, nor UTF-8 a lone surrogate."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
