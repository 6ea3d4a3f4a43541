"""Reflex configuration of the tally app: Redis state, with the companion or without."""

import os

import reflex as rx

if os.environ.get("TALLY_PLAIN") == "1":
    companion = []
else:
    from bridgehead import BridgeheadPlugin

    companion = [BridgeheadPlugin()]

config = rx.Config(
    app_name="tally",
    redis_url=os.environ["REFLEX_REDIS_URL"],
    state_manager_mode="redis",
    telemetry_enabled=False,
    plugins=companion,
    disable_plugins=[rx.plugins.SitemapPlugin],
)
