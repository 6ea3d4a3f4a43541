"""The Django app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.conf import settings

        if not settings.SHOP_PLAIN:
            from bridgehead.live import register

            from shop.models import Order, Product

            # In every process that changes them: the admin, commands, the shell.
            register(Product)
            register(Order, tags=lambda order: [f"user:{order.user_id}"])
        if settings.SHOP_DEBUG:
            from shop.debug.queries import count_queries

            count_queries()
