"""The Django app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.conf import settings

        if settings.SHOP_DEBUG:
            from shop.debug.queries import count_queries

            count_queries()
