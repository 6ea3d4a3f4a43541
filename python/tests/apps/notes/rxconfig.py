"""A small Reflex + Django app that tells what ran inside it."""

import os

import reflex as rx
from reflex_django.plugins import ReflexDjangoPlugin

from bridgehead import BridgeheadPlugin

config = rx.Config(
    app_name="notes",
    telemetry_enabled=False,
    cors_allowed_origins=["https://notes.example", "http://localhost:3000"],
    plugins=[
        ReflexDjangoPlugin(
            config={
                "settings_module": "site_settings",
                "bridge": {"mode": os.environ.get("TEST_MODE", "full"), "resolver": os.environ.get("TEST_RESOLVER")},
            }
        ),
        BridgeheadPlugin(),
    ],
)
