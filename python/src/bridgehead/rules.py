"""The compiled rule table (docs/PROTOCOL.md, "Rules"): which tier an event gets, and why.

The sidecar decides for what clients send; this module decides with the same table for everything that it does not
see: events born in Python, and events whose annotation carries no tier.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, get_args

from bridgehead.annotation import TIERS, Tier
from bridgehead.globs import compile_glob

Mode = Literal["full", "smart", "none"]
Login = str | Mapping[str, str]
Source = Literal["annotation", "resolve", "rule", "app", "class", "mode"]
Raised = Literal["path", "upload", "access"]

_ORDER: dict[str, int] = {"none": 0, "auth_only": 1, "full": 2}
_MODES: frozenset[str] = frozenset(get_args(Mode))
_CACHE_ENTRIES = 4_096


class RulesError(ValueError):
    """The sidecar sent rules that this version cannot read."""


@dataclass(frozen=True, slots=True)
class StateFacts:
    """What the table must know of one state class."""

    dotted: str
    tier: Tier | None
    smart: Tier


class States(Protocol):
    """Where the table finds what it must know of a state, by the state's full name."""

    def get(self, name: str, /) -> StateFacts | None: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """A tier, what decided it, what raised it afterwards, and the access requirement of the first matching rule."""

    tier: Tier
    source: Source
    raised: Raised | None = None
    login: Login | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    state: re.Pattern[str] | None
    handler: re.Pattern[str] | None
    path: re.Pattern[str] | None
    tier: Tier | None
    login: Login | None

    def matches_name(self, dotted: str, handler: str) -> bool:
        return (self.state is None or self.state.fullmatch(dotted) is not None) and (
            self.handler is None or self.handler.fullmatch(handler) is not None
        )

    def matches_path(self, path: str) -> bool:
        return self.path is None or self.path.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class _ByName:
    """Everything that the event's name alone decides."""

    rule: Rule | None
    path_rules: tuple[Rule, ...]
    state: StateFacts | None
    is_upload: bool


class RuleTable:
    """Rules over one manifest. Deciding costs one look-up once an event's name has been seen."""

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        *,
        states: States,
        app_mode: Mode,
        mode: Literal["inherit"] | Mode = "inherit",
        resolve: bool = False,
        shadow: bool = False,
        version: int = 0,
    ) -> None:
        self.version = version
        self.resolve = resolve
        self.shadow = shadow
        self._states = states
        self._mode: Mode = app_mode if mode == "inherit" else mode
        self._named = tuple(rule for rule in rules if rule.path is None)
        self._pathed = tuple(rule for rule in rules if rule.path is not None)
        self._by_name: OrderedDict[str, _ByName] = OrderedDict()

    def decide(
        self,
        name: str,
        *,
        path: str | None = None,
        upload: bool = False,
        resolved: bool = False,
        app: Callable[[], Tier | None] | None = None,
    ) -> Decision:
        """Decide for an event.

        `name` is the event's full name; `path` the client's pathname, None for events born in Python; `upload` tells
        that it came over the upload route; `resolved` that the sidecar's own function had its turn and left the event
        to the rest; `app` asks the app's own resolver and is called only when its turn comes.
        """
        known = self._look_up(name)
        tier, source = self._base(known, resolved, app)
        raised: Raised | None = None
        if path is not None:
            for rule in known.path_rules:
                if rule.tier is not None and _ORDER[rule.tier] > _ORDER[tier] and rule.matches_path(path):
                    tier, raised = rule.tier, "path"
        if (upload or known.is_upload) and tier == "none":
            tier, raised = "auth_only", "upload"
        return Decision(tier, source, raised, known.rule.login if known.rule is not None else None)

    def access(self, name: str, *, path: str | None = None) -> tuple[Login, ...]:
        """What the rules ask of an event's user, all of it. A rule with a path adds to it on that page."""
        known = self._look_up(name)
        asked = [known.rule.login] if known.rule is not None else []
        if path is not None:
            asked += [rule.login for rule in known.path_rules if rule.matches_path(path)]
        return tuple(login for login in asked if login is not None)

    def _base(self, known: _ByName, resolved: bool, app: Callable[[], Tier | None] | None) -> tuple[Tier, Source]:
        if self.resolve and not resolved:
            # The sidecar decides by a function of its own that Python cannot run: the safe answer is everything.
            return "full", "resolve"
        if known.rule is not None and known.rule.tier is not None:
            return known.rule.tier, "rule"
        if app is not None and (answer := app()) is not None:
            return answer, "app"
        if known.state is not None and known.state.tier is not None:
            return known.state.tier, "class"
        if self._mode == "smart":
            # A state that the manifest does not know may need Django: the safe answer is everything.
            return (known.state.smart if known.state is not None else "full"), "mode"
        return self._mode, "mode"

    def _look_up(self, name: str) -> _ByName:
        known = self._by_name.get(name)
        if known is not None:
            self._by_name.move_to_end(name)
            return known
        state_name, _, handler = name.rpartition(".")
        state = self._states.get(state_name)
        dotted = state.dotted if state is not None else ""
        known = _ByName(
            rule=next((rule for rule in self._named if rule.matches_name(dotted, handler)), None),
            path_rules=tuple(rule for rule in self._pathed if rule.matches_name(dotted, handler)),
            state=state,
            is_upload="upload" in name.lower(),
        )
        if state is None:
            # It may be registered later; and what clients make up must not push out what is real.
            return known
        self._by_name[name] = known
        if len(self._by_name) > _CACHE_ENTRIES:
            self._by_name.popitem(last=False)
        return known


def compile_rules(body: Mapping[str, Any], *, states: States, app_mode: Mode) -> RuleTable:
    """Compile the RULES frame's body. Raises `RulesError` with the part that is wrong."""
    mode = body.get("mode", "inherit")
    if not isinstance(mode, str) or (mode != "inherit" and mode not in _MODES):
        raise RulesError("mode")
    version = body.get("version", 0)
    if isinstance(version, bool) or not isinstance(version, int):
        raise RulesError("version")
    flags = {key: body.get(key, False) for key in ("resolve", "shadow")}
    for key, flag in flags.items():
        if not isinstance(flag, bool):
            raise RulesError(key)
    entries = body.get("rules", [])
    if not isinstance(entries, list):
        raise RulesError("rules")
    return RuleTable(
        [_compile_rule(entry, f"rules.{index}") for index, entry in enumerate(entries)],
        states=states,
        app_mode=app_mode,
        mode=cast("Mode", mode),
        resolve=flags["resolve"],
        shadow=flags["shadow"],
        version=version,
    )


def _compile_rule(entry: object, where: str) -> Rule:
    if not isinstance(entry, Mapping):
        raise RulesError(where)
    patterns: dict[str, re.Pattern[str] | None] = {}
    for key in ("state", "handler", "path"):
        text = entry.get(key)
        if text is not None and not isinstance(text, str):
            raise RulesError(f"{where}.{key}")
        patterns[key] = None if text is None else compile_glob(text)
    tier = entry.get("tier")
    if tier is not None and not (isinstance(tier, str) and tier in TIERS):
        raise RulesError(f"{where}.tier")
    login = entry.get("login")
    known = login is None or (isinstance(login, str) and login in ("required", "staff"))
    if not known and not (isinstance(login, Mapping) and isinstance(login.get("permission"), str)):
        raise RulesError(f"{where}.login")
    return Rule(patterns["state"], patterns["handler"], patterns["path"], cast("Tier | None", tier), login)
