"""The two Reflex middlewares of the debug plugin."""

from typing import Any

from bridgehead.events import EventReport
from django.utils.functional import LazyObject, empty
from reflex.middleware import Middleware
from reflex_django.bridge.context import current_event_tier, current_request

from shop.debug.record import begin, current


def seen_user(request: Any) -> tuple[str | None, str | None]:
    """Who the user is, without asking for it: a question would be a query that the event did not make."""
    user = getattr(request, "user", None)
    if user is None:
        return None, None
    if isinstance(user, LazyObject) and user.__dict__.get("_wrapped", empty) is empty:
        return "unresolved", type(user).__name__
    return (user.get_username() if user.is_authenticated else "anonymous"), type(user).__name__


def note_decision(report: EventReport) -> None:
    if (record := current.get()) is not None:
        record.source, record.origin, record.annotation = report.source, report.origin, report.annotation


class BeforeBridge(Middleware):
    async def preprocess(self, app: Any, state: Any, event: Any) -> None:
        begin(event.name, getattr(event, "token", None) or state.router.session.client_token, event.router_data or {})


class AfterBridge(Middleware):
    async def preprocess(self, app: Any, state: Any, event: Any) -> None:
        record = current.get()
        if record is None:
            return
        record.tier = current_event_tier()
        record.bridge_queries = record.queries
        record.user, record.user_type = seen_user(current_request())
