"""Access rules in the worker: what nobody could decide before, and what never passes a sidecar.

The sidecar enforces `login` for the events that it sees, and says so by an annotation without a rule. The rest is
enforced here, before the handler runs: a rule that an annotation carries, and the table's rules for events that were
born in Python or came without a valid annotation. Everything that is no clear yes is a no.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import quote

from reflex.middleware.middleware import Middleware
from reflex.state import StateUpdate
from reflex_base.event import Event
from reflex_base.event.context import EventContext

from bridgehead import counters
from bridgehead.handover import note_of
from bridgehead.rules import Login

logger = logging.getLogger("bridgehead")

Verdict = Literal["allow", "login", "forbidden", "unknown"]

# Reflex's own handlers that make a page: refused, there would be no page to say why. App code that they start is asked.
_PAGE_HANDLERS = frozenset(("hydrate", "hydrate_and_load", "set_is_hydrated", "on_load_internal"))
_MAX_PATH = 1_024
_FOREIGN = re.compile(r"^/[/\\]|[^\x21-\x5b\x5d-\U0010ffff]")


def concerns(dotted: str, handler: str) -> bool:
    """Whether rules are asked for this handler at all."""
    return not (handler in _PAGE_HANDLERS and dotted.startswith("reflex.state."))


async def check(rules: Iterable[Login], request: Any) -> Verdict:
    """Whether the request's user may do what all of these rules ask for."""
    user = getattr(request, "user", None)
    if user is None:
        return "unknown"
    try:
        if not user.is_authenticated:
            return "login"
        for rule in rules:
            if not await _allows(rule, user):
                return "forbidden"
    except Exception as error:
        logger.warning("a user's rights could not be checked: %s", type(error).__name__)
        return "unknown"
    return "allow"


async def _allows(rule: Login, user: Any) -> bool:
    if not user.is_active:
        return False
    if rule == "required":
        return True
    if rule == "staff":
        return bool(user.is_staff)
    permission = rule.get("permission") if isinstance(rule, Mapping) else None
    if not isinstance(permission, str):
        return False
    from asgiref.sync import sync_to_async

    return bool(await sync_to_async(user.has_perm, thread_sensitive=True)(permission))


def refusal(verdict: Verdict, login_url: str, path: str) -> Event:
    """What the browser gets instead: the way to the login page, or a toast. Every value in a script is JSON-encoded."""
    if verdict == "login":
        return _frontend("_redirect", path=with_next(login_url, path), external=False, popup=False, replace=False)
    if verdict == "forbidden":
        return _toast("bridgehead-forbidden", "You may not do this.")
    return _toast("bridgehead-retry", "We could not check who you are. Please try again in a moment.")


def with_next(login_url: str, path: str) -> str:
    """The login page's address, with the way back where that is a page of the same site."""
    if not path.startswith("/") or _FOREIGN.search(path) or len(path) > _MAX_PATH:
        return login_url
    return f"{login_url}{'&' if '?' in login_url else '?'}next={quote(path, safe="!'()*-._~")}"


def _toast(name: str, text: str) -> Event:
    call = f"refs['__toast']?.[\"error\"]({json.dumps(text)}, {{id: {json.dumps(name)}}})"
    return _frontend("_call_function", function=f"(() => ({call}))", callback=None)


def _frontend(name: str, **payload: Any) -> Event:
    return Event(name=name, payload=payload, router_data={})


class AccessMiddleware(Middleware):
    """Reflex's own kind of middleware, behind reflex-django's: the request is there, the handler has not run."""

    async def preprocess(self, app: Any, state: Any, event: Event) -> StateUpdate | None:
        from bridgehead import companion

        running = companion.current()
        if running is None:
            return None
        note = note_of(event)
        rules = running.access_of(event, note)
        if not rules:
            return None
        verdict = await check(rules, _request())
        if verdict == "allow":
            return None
        counters.add(f"access.{verdict}")
        logger.info("refused %s: %s", event.name, verdict)
        path = note.path if note.path is not None else _page_of(state)
        await EventContext.get().emit_event(refusal(verdict, running.facts.login_url or "/login", path))
        return StateUpdate()


def _request() -> Any:
    try:
        from reflex_django.bridge.context import current_request
    except ImportError:
        return None
    return current_request()


def _page_of(state: Any) -> str:
    """The page that the tab shows, for events that say none."""
    router_data = getattr(state, "router_data", None)
    path = router_data.get("asPath") if isinstance(router_data, dict) else None
    return path if isinstance(path, str) else ""
