from django.apps import AppConfig


class BoardConfig(AppConfig):
    name = "board"

    def ready(self):
        from board.models import Card, Item, Order
        from bridgehead.live import register

        register(Item)
        register(Card)
        register(Order, tags=lambda order: [f"tenant:{order.tenant}"])
