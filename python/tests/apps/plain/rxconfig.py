"""A plain Reflex app: nothing of Django in it."""

import reflex as rx

from bridgehead import BridgeheadPlugin

config = rx.Config(app_name="plain", telemetry_enabled=False, plugins=[BridgeheadPlugin()])
