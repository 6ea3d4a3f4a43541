"""An app whose tabs hold what a restart could take from them."""

import os

import reflex as rx

from bridgehead import BridgeheadPlugin

config = rx.Config(
    app_name="desk",
    telemetry_enabled=False,
    redis_url=os.environ.get("TEST_REDIS") or None,
    plugins=[BridgeheadPlugin()],
)
