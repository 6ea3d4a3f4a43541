"""Reads the primary database for a while, where the app's routers would choose a replica."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import router

_reading: contextvars.ContextVar[bool] = contextvars.ContextVar("bridgehead_read_primary", default=False)


class PrimaryRouter:
    """In front of the app's routers: sends a read to where they would write, when it is asked to."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return str(router.db_for_write(model, **hints)) if _reading.get() else None


@contextmanager
def read(wanted: bool) -> Iterator[None]:
    """Within, this context's reads go to the primary if `wanted`. Code that names its database is not concerned."""
    if not wanted or not router.routers:
        yield
        return
    if not isinstance(router.routers[0], PrimaryRouter):
        router.routers.insert(0, PrimaryRouter())
    reset = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(reset)
