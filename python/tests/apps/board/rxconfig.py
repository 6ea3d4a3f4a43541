"""Live lists with Reflex and Django."""

import os

import reflex as rx
from reflex_django.plugins import ReflexDjangoPlugin

from bridgehead import BridgeheadPlugin

config = rx.Config(
    app_name="board",
    telemetry_enabled=False,
    redis_url=os.environ.get("TEST_REDIS") or None,
    plugins=[
        ReflexDjangoPlugin(config={"settings_module": "site_settings", "bridge": {"mode": "none"}}),
        BridgeheadPlugin(),
    ],
)
