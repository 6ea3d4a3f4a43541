"""The state classes of the running app, as Reflex registered them."""

from __future__ import annotations

import sys
from typing import Any, cast

from bridgehead.annotation import TIERS, Tier
from bridgehead.rules import StateFacts

_TIER_ATTRIBUTES = ("_rx_bridge", "rx_bridge")
_DJANGO_STATES = (
    ("reflex_django.states", "AppState"),
    ("reflex_django.auth_state", "DjangoUserState"),
    ("reflex_django.state.model_state", "ModelState"),
)


class StateCatalog:
    """Facts of every state class by its full name; classes that appear later are found when they are asked for."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self._facts: dict[str, StateFacts] = {}

    def get(self, name: str) -> StateFacts | None:
        """The facts of one state, or None where no such class is registered."""
        facts = self._facts.get(name)
        if facts is None:
            state_class = self._registry.base_states.get(name)
            if state_class is None:
                return None
            facts = StateFacts(
                dotted=f"{state_class.__module__}.{state_class.__qualname__}",
                tier=class_tier(state_class),
                smart=smart_tier(state_class),
            )
            self._facts[name] = facts
        return facts

    def size(self) -> tuple[int, int]:
        """Numbers of states and handlers: a cheap sign that the manifest has changed."""
        return len(self._registry.base_states), len(self._registry.event_handlers)

    def states(self) -> dict[str, tuple[StateFacts, list[str]]]:
        """Every state with the handlers that its events may name (its own and its mixins')."""
        handlers: dict[str, list[str]] = {}
        for full_name in self._registry.event_handlers:
            state, _, handler = full_name.rpartition(".")
            handlers.setdefault(state, []).append(handler)
        return {
            name: (facts, sorted(handlers.get(name, ())))
            for name in sorted(self._registry.base_states)
            if (facts := self.get(name)) is not None
        }


def class_tier(state_class: type) -> Tier | None:
    """The tier that the class itself asks for.

    reflex-django reads the plain attribute; on reflex 0.10 the class holds a field there, and on every version a name
    without underscore becomes a variable. The field's default is what the author wrote.
    """
    for attribute in _TIER_ATTRIBUTES:
        value = state_class.__dict__.get(attribute)
        if value is None:
            continue
        value = unwrapped(state_class, attribute, value)
        if isinstance(value, str) and (tier := value.strip().lower()) in TIERS:
            return cast("Tier", tier)
    return None


def unwrapped(state_class: type, attribute: str, value: Any) -> Any:
    """The default of a field or variable; any other value as it is."""
    if isinstance(value, str):
        return value
    if not callable(getattr(value, "default_value", None)):
        get_fields = getattr(state_class, "get_fields", None)
        value = get_fields().get(attribute, value) if callable(get_fields) else value
    default_value = getattr(value, "default_value", None)
    return default_value() if callable(default_value) else value


def smart_tier(state_class: type) -> Tier:
    """What reflex-django's mode smart gives the class: full where it works with Django, none elsewhere."""
    for module, name in _DJANGO_STATES:
        # Never imported from here: these modules register states of their own, which a plain app does not have.
        django_state = getattr(sys.modules.get(module), name, None)
        if isinstance(django_state, type) and issubclass(state_class, django_state):
            return "full"
    return "none"
