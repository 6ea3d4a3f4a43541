"""An app that writes down what runs."""

import os

import reflex as rx

from bridgehead import BridgeheadPlugin

config = rx.Config(
    app_name="ledger",
    telemetry_enabled=False,
    redis_url=os.environ["LEDGER_REDIS"],
    # A killed worker's lock holds its tabs up for so long.
    redis_lock_expiration=5_000,
    plugins=[BridgeheadPlugin()] if os.environ.get("BRIDGEHEAD_SECRET") else [],
)
