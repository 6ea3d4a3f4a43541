"""The order page: it needs to know who orders, and nothing else of Django's request."""

from decimal import Decimal

import reflex as rx
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from reflex_django import current_user

from shop.cart import CartState
from shop.models import Order, OrderLine, Product


@transaction.atomic
def place_order(user: AbstractBaseUser, quantities: dict[int, int], note: str) -> Order:
    """Write the order at today's prices and take the goods from stock; `ValueError` says what is sold out."""
    products = list(Product.objects.select_for_update().filter(pk__in=quantities).order_by("pk"))
    order = Order.objects.create(user=user, note=note[:200])
    total = Decimal(0)
    for product in products:
        quantity = quantities[product.pk]
        if product.stock < quantity:
            raise ValueError(f"Only {product.stock} of {product.name} left")
        product.stock -= quantity
        product.save(update_fields=["stock"])
        OrderLine.objects.create(order=order, product=product, quantity=quantity, price=product.price)
        total += product.price * quantity
    order.total = total
    order.save(update_fields=["total"])
    return order


class OrderState(rx.State):
    _rx_bridge = "auth_only"

    customer: str = ""
    note: str = ""
    message: str = ""
    error: str = ""
    placed: int = 0

    @rx.event
    def load(self) -> None:
        user = current_user()
        self.customer = user.get_username() if user.is_authenticated else ""
        self.message = self.error = ""

    @rx.event
    def set_note(self, value: str) -> None:
        self.note = value[:200]

    @rx.event
    async def place(self):
        self.message = self.error = ""
        user = current_user()
        if not user.is_authenticated:
            self.customer = ""
            return rx.redirect("/login")
        cart = await self.get_state(CartState)
        quantities = {line.product_id: line.quantity for line in cart.lines}
        if not quantities:
            self.error = "Your cart is empty"
            return None
        try:
            order = await sync_to_async(place_order)(user, quantities, self.note)
        except ValueError as error:
            self.error = str(error)
            return None
        cart.lines = []
        self.customer = user.get_username()
        self.note = ""
        self.placed = order.pk
        self.message = f"Order {order.pk} is placed: {order.total:.2f} EUR"
        return None
