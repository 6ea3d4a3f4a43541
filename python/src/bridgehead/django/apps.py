from __future__ import annotations

from django.apps import AppConfig, apps


class BridgeheadConfig(AppConfig):  # type: ignore[misc]  # Django has no types of its own
    name = "bridgehead.django"
    label = "bridgehead"
    verbose_name = "Bridgehead"

    def ready(self) -> None:
        """In every process that loads the app: workers, management commands, Celery, the shell."""
        from bridgehead.django import checks  # noqa: F401  # registers them

        if apps.is_installed("django.contrib.auth") and apps.is_installed("django.contrib.sessions"):
            from bridgehead.django import signals

            signals.connect()
