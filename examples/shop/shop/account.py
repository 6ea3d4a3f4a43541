"""The account page: the whole of Django's middleware runs for its events."""

import dataclasses

import reflex as rx
from django.contrib import messages
from reflex_django import current_request
from reflex_django.states import AppState

from shop.models import Order


@dataclasses.dataclass
class OrderRow:
    id: int
    created: str
    pieces: int
    total: str


class AccountState(AppState):
    _rx_bridge = "full"

    orders: list[OrderRow] = []
    visits: int = 0
    saved: str = ""

    @rx.event
    async def load(self):
        if not self.user.is_authenticated:
            return rx.redirect("/login")
        self.saved = ""
        session = current_request().session
        self.visits = await session.aget("account_visits", 0) + 1
        await session.aset("account_visits", self.visits)
        await session.asave()
        orders = Order.objects.filter(user=self.user).prefetch_related("lines")[:20]
        self.orders = [
            OrderRow(
                id=order.pk,
                created=order.created.strftime("%Y-%m-%d %H:%M"),
                pieces=sum(line.quantity for line in order.lines.all()),
                total=f"{order.total:.2f}",
            )
            async for order in orders
        ]
        return None

    @rx.event
    def set_saved(self, value: str) -> None:
        """Show or take away the line under the form."""
        self.saved = value[:200]

    @rx.event
    async def save(self, form: dict[str, str]):
        user = self.user
        if not user.is_authenticated:
            return rx.redirect("/login")
        user.first_name = form.get("first_name", "")[:150]
        user.email = form.get("email", "")[:254]
        await user.asave(update_fields=["first_name", "email"])
        await self.refresh_django_user_fields()
        # Django's message framework, from an event: what only the full tier offers.
        messages.success(current_request(), "Saved")
        self.saved = "Your details are saved"
        return None
