"""Repairs of reflex-django where reflex 0.10 turned a class attribute into a field."""

from __future__ import annotations

from typing import Any

from bridgehead.catalog import unwrapped

_MARK = "_bridgehead_repaired"


def repair_model_state() -> None:
    """Make `ModelState.get_options()` work where `_model_state_options` became a field. May run many times."""
    try:
        from reflex_django.state.base import BaseModelState
    except ImportError:
        return
    if getattr(BaseModelState, _MARK, False):
        return
    original = BaseModelState.__dict__["get_options"].__func__

    def get_options(cls: type) -> Any:
        options = getattr(cls, "_model_state_options", None)
        inner = unwrapped(cls, "_model_state_options", options)
        return original(cls) if inner is options or inner is None else inner

    # By name: type checkers rightly refuse to see a method replaced.
    setattr(BaseModelState, "get_options", classmethod(get_options))  # noqa: B010
    setattr(BaseModelState, _MARK, True)
