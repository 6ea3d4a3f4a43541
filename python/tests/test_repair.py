"""Repairs of reflex-django that every worker with the plugin has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import reflex as rx

from bridgehead import repair


class FirstState(rx.State):
    """A state of an app."""

    count: int = 0


@pytest.fixture
def validate(monkeypatch: pytest.MonkeyPatch) -> Any:
    """reflex-django's module, repaired, whose compilations of the state are counted."""
    from reflex.compiler import utils
    from reflex_django.runtime import app_factory, compile_validate

    original = utils.compile_state
    module = compile_validate
    compiled: list[type] = []

    def compile_state(state: type) -> dict[str, Any]:
        compiled.append(state)
        return dict(original(state))  # type: ignore[arg-type]

    monkeypatch.setattr(module, "expected_dispatch_keys_from_app", module.expected_dispatch_keys_from_app)
    monkeypatch.setattr(utils, "compile_state", compile_state)
    monkeypatch.setattr(app_factory, "load_app_factory", SimpleNamespace)
    unrepaired = module.expected_dispatch_keys_from_app()
    compiled.clear()
    repair.remember_dispatch_keys()
    return SimpleNamespace(module=module, compiled=compiled, unrepaired=unrepaired)


def test_the_substates_that_the_frontend_knows_are_worked_out_once(validate: Any) -> None:
    name = FirstState.get_full_name()
    delta = {name: {"count": 1}, "gone.state": {"x": 1}}
    for _ in range(3):
        assert validate.module.filter_delta_to_compiled_dispatch_keys(delta, warn=False) == {name: {"count": 1}}
    assert validate.module.expected_dispatch_keys_from_app() == validate.unrepaired
    assert len(validate.compiled) == 1


def test_a_state_that_is_registered_later_is_known(validate: Any) -> None:
    validate.module.expected_dispatch_keys_from_app()

    class LaterState(rx.State):
        count: int = 0

    assert LaterState.get_full_name() in validate.module.expected_dispatch_keys_from_app()
    assert len(validate.compiled) == 2


def test_what_failed_is_tried_again(validate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from reflex.compiler import utils

    working = utils.compile_state

    def failing(state: type) -> dict[str, Any]:
        raise RuntimeError

    monkeypatch.setattr(utils, "compile_state", failing)
    delta = {"any.state": {"x": 1}}
    assert validate.module.filter_delta_to_compiled_dispatch_keys(delta, warn=False) == delta
    monkeypatch.setattr(utils, "compile_state", working)
    assert FirstState.get_full_name() in validate.module.expected_dispatch_keys_from_app()


def test_repairing_twice_changes_nothing(validate: Any) -> None:
    repaired = validate.module.expected_dispatch_keys_from_app
    repair.remember_dispatch_keys()
    assert validate.module.expected_dispatch_keys_from_app is repaired
