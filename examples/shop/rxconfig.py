"""Reflex configuration of the shop."""

import os

import reflex as rx
from reflex_django.plugins import ReflexDjangoPlugin

from shop.debug.plugin import DebugPlugin
from shop.settings import SHOP_PLAIN

if SHOP_PLAIN:
    companion = []
else:
    from bridgehead import BridgeheadPlugin

    companion = [BridgeheadPlugin()]

redis_url = os.environ.get("REFLEX_REDIS_URL") or os.environ.get("REDIS_URL") or None

config = rx.Config(
    app_name="shop",
    # tools/frontend.ts builds once with a placeholder port and writes the public one into its copy.
    api_url=os.environ.get("REFLEX_API_URL", "http://localhost:8000"),
    redis_url=redis_url,
    # Without Redis the state lives in this one worker; on disk it would outlive the shop's own database.
    state_manager_mode="redis" if redis_url else "memory",
    telemetry_enabled=False,
    show_built_with_reflex=False,
    plugins=[
        ReflexDjangoPlugin(
            config={
                "settings_module": "shop.settings",
                "profile": "integrated",
                "mount": {"django_prefix": ["/admin", "/debug"]},
                "bridge": {"mode": os.environ.get("SHOP_BRIDGE_MODE", "full")},
            }
        ),
        *companion,
        rx.plugins.RadixThemesPlugin(
            theme=rx.theme(accent_color="jade", gray_color="sage", radius="large", appearance="light")
        ),
        # Last: it reads what the two above have decided. Does nothing without SHOP_DEBUG=1.
        DebugPlugin(),
    ],
    disable_plugins=[rx.plugins.SitemapPlugin],
)
