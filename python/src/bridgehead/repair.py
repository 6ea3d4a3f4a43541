"""Repairs of reflex-django: where reflex 0.10 turned a class attribute into a field, and where it works for nothing."""

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


def remember_dispatch_keys() -> None:
    """Have reflex-django work out once, not for every delta, which substates the frontend knows. May run many times.

    It builds the app's whole initial state for that, in a thread that the event loop waits for: half the time of a
    light event. What it finds changes only when another state class is registered.
    """
    try:
        from reflex_base.registry import RegistrationContext
        from reflex_django.runtime import compile_validate
    except ImportError:
        return
    original = compile_validate.expected_dispatch_keys_from_app
    if getattr(original, _MARK, False):
        return
    known: set[str] = set()
    states = 0

    def expected_dispatch_keys_from_app(app: Any | None = None) -> set[str]:
        nonlocal known, states
        if app is not None:
            return set(original(app))
        registered = len(RegistrationContext.ensure_context().base_states)
        # Nothing found means that it failed.
        if not known or registered != states:
            known, states = set(original()), registered
        return known

    setattr(expected_dispatch_keys_from_app, _MARK, True)
    compile_validate.expected_dispatch_keys_from_app = expected_dispatch_keys_from_app
