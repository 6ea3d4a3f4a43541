"""The account page: the whole of Django's middleware runs for its events; the list of orders needs the user alone."""

import dataclasses

import reflex as rx
from bridgehead.live import LiveMixin
from django.contrib import messages
from django.db.models import Sum
from reflex_django import current_request, current_user
from reflex_django.states import AppState

from shop.models import Order


@dataclasses.dataclass
class OrderRow:
    id: int
    created: str
    pieces: int
    total: str


class OrdersState(LiveMixin, rx.State):
    """The user's own orders, live: one that is placed in another tab, or for them in the admin, appears."""

    _rx_bridge = "auth_only"

    live_model = Order
    live_limit = 20
    live_rows: list[OrderRow] = []

    def live_queryset(self):
        user = current_user()
        own = Order.objects.filter(user_id=user.pk) if user.is_authenticated else Order.objects.none()
        # An aggregate makes Django leave the model's own ordering out.
        return own.annotate(pieces=Sum("lines__quantity", default=0)).order_by("-pk")

    def live_row(self, order: Order) -> OrderRow:
        return OrderRow(
            id=order.pk,
            created=order.created.strftime("%Y-%m-%d %H:%M"),
            pieces=order.pieces,
            total=f"{order.total:.2f}",
        )

    def live_tags(self):
        # As the app registers them: nobody's list is read anew for what others order.
        return [f"user:{current_user().pk}"]


class AccountState(AppState):
    _rx_bridge = "full"

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
