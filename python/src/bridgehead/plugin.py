"""The Reflex plugin: `plugins=[ReflexDjangoPlugin(...), BridgeheadPlugin()]` in rxconfig.py, ours behind."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from reflex_base.plugins.base import Plugin

from bridgehead import companion, manifest, repair, resolver
from bridgehead.access import AccessMiddleware
from bridgehead.drain import drain
from bridgehead.settings import Settings
from bridgehead.stopped import StoppedSessions
from bridgehead.uploads import AnnotationHeader

logger = logging.getLogger("bridgehead")

_MARK = "_bridgehead_plugged"


@asynccontextmanager
async def bridgehead_lifespan(app: Any) -> AsyncIterator[None]:
    """Runs in every worker process, from after its event processor has started until before that stops."""
    # Once more: reflex-django writes its settings anew whenever it is applied, which may be after our post_compile.
    _prepare_django()
    running = companion.start(app, Settings.from_environment())
    if running.settings.secret is not None:
        _warn_of_settings()
    running.handover.wrap_namespace(app.event_namespace)
    running.handover.wrap_processor(app.event_processor)
    pool = running.link_pool()
    dialing = None if pool is None else asyncio.create_task(pool.run(), name="bridgehead_links")
    live = running.live
    publishing = None if live is None else asyncio.create_task(live.run(), name="bridgehead_live")
    counting = None if running.stats is None else asyncio.create_task(running.stats.run(), name="bridgehead_stats")
    try:
        yield
    finally:
        if running.sessions is not None:
            # The app runs on meanwhile: its event processor stops only after this.
            await drain(running.sessions, running.settings.drain_seconds)
        if counting is not None:
            counting.cancel()
        running.shadow.close()
        if live is not None and publishing is not None:
            await live.close()
            publishing.cancel()
        if dialing is not None:
            dialing.cancel()
            await asyncio.wait({dialing})


class BridgeheadPlugin(Plugin):
    """Joins a Reflex app to a Bridgehead sidecar. Without a sidecar, or a secret, the app runs as before."""

    def post_compile(self, **context: Any) -> None:
        """Reflex calls this in every worker process, before the app's lifespan begins, and maybe more than once."""
        app = context.get("app")
        if app is None:
            return
        _prepare_django()
        if getattr(app, _MARK, False):
            return
        setattr(app, _MARK, True)
        app.api_transformer = (*_as_tuple(app.api_transformer), _strip_annotation_header)
        app.add_middleware(StoppedSessions(), index=0)
        app.add_middleware(AccessMiddleware())
        app.register_lifespan_task(bridgehead_lifespan)


def _prepare_django() -> None:
    if manifest.django_bridge_runs():
        repair.repair_model_state()
        repair.remember_dispatch_keys()
        resolver.install()
        _spare_events_work()


def _spare_events_work() -> None:
    """Where our middleware is in use: no threads for what waits for nothing, and not reflex-django's cache of users.

    That cache costs a connection per event and knows less than the hand-over.
    """
    from importlib import import_module

    from django.conf import settings

    from bridgehead.django.checks import OURS

    own = import_module(os.environ["DJANGO_SETTINGS_MODULE"]) if "DJANGO_SETTINGS_MODULE" in os.environ else settings
    middleware = (*settings.MIDDLEWARE, *_as_tuple(getattr(settings, "RX_AUTH_ONLY_MIDDLEWARE", None)))
    if OURS not in middleware:
        return
    if not hasattr(own, "RX_EVENT_CACHE_TTL"):
        settings.RX_EVENT_CACHE_TTL = 0
    if manifest.has_sessions():
        from bridgehead.django import inline

        inline.install()


def _warn_of_settings() -> None:
    """Say in the worker's log what `manage.py check` would say."""
    if manifest.django_bridge_runs():
        from bridgehead.django.checks import check_settings

        for problem in check_settings():
            logger.warning("%s %s", problem.msg, problem.hint)


def _strip_annotation_header(asgi_app: Any) -> AnnotationHeader:
    from reflex_base.config import get_config
    from reflex_base.constants import Endpoint

    return AnnotationHeader(asgi_app, get_config().prepend_backend_path(str(Endpoint.UPLOAD)))


def _as_tuple(transformer: Any) -> tuple[Any, ...]:
    if transformer is None:
        return ()
    return tuple(transformer) if isinstance(transformer, (list, tuple)) else (transformer,)
