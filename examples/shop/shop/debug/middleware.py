"""The two Reflex middlewares of the debug plugin."""

from typing import Any

from asgiref.sync import sync_to_async
from bridgehead.events import EventReport
from django.conf import settings
from django.utils.functional import LazyObject, empty
from reflex.middleware import Middleware
from reflex_django.bridge.context import current_event_tier, current_request

from shop.debug.record import begin, current
from shop.debug.rights import rights_of


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
        record.bridge_queries = record.queries
        request = current_request()
        if settings.SHOP_DEBUG_RIGHTS and request is not None:
            record.rights = await sync_to_async(lambda: rights_of(request.user))()
        record.user, record.user_type = seen_user(request)
        # Last: whoever has read a tier has the rest too.
        record.tier = current_event_tier()
