"""A Reflex plugin that notes each event, with one middleware before reflex-django's and one after it."""

from typing import Any

from reflex_base.plugins.base import Plugin


class DebugPlugin(Plugin):
    def post_compile(self, app: Any = None, **context: Any) -> None:
        from django.conf import settings

        if app is None or not settings.SHOP_DEBUG:
            return
        from bridgehead import events

        from shop.debug.middleware import AfterBridge, BeforeBridge, note_decision

        events.subscribe(note_decision, when="decided")
        app.add_middleware(BeforeBridge(), index=0)
        app.add_middleware(AfterBridge())
