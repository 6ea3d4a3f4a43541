"""The cart drawer: nothing in it needs Django's request or user, so its events ask for none."""

import dataclasses
from decimal import Decimal

import reflex as rx

from shop.models import Product


@dataclasses.dataclass
class CartLine:
    product_id: int
    name: str
    price: str
    quantity: int
    total: str
    picture: str


def cart_line(product: Product, quantity: int) -> CartLine:
    return CartLine(
        product_id=product.pk,
        name=product.name,
        price=f"{product.price:.2f}",
        quantity=quantity,
        total=f"{product.price * quantity:.2f}",
        picture=product.picture,
    )


class CartState(rx.State):
    _rx_bridge = "none"

    lines: list[CartLine] = []
    is_open: bool = False

    @rx.var
    def count(self) -> int:
        return sum(line.quantity for line in self.lines)

    @rx.var
    def total(self) -> str:
        return f"{sum((Decimal(line.total) for line in self.lines), Decimal(0)):.2f}"

    @rx.event
    def set_open(self, value: bool) -> None:
        self.is_open = value

    @rx.event
    async def add(self, product_id: int) -> None:
        """Put one more of a product into the cart; the price is the database's, never the browser's."""
        product = await Product.objects.filter(pk=product_id).afirst()
        if product is None:
            return
        for index, line in enumerate(self.lines):
            if line.product_id == product_id:
                self.lines[index] = cart_line(product, line.quantity + 1)
                return
        self.lines.append(cart_line(product, 1))

    @rx.event
    def change(self, product_id: int, by: int) -> None:
        changed = []
        for line in self.lines:
            quantity = line.quantity + (by if line.product_id == product_id else 0)
            if quantity > 0:
                total = f"{Decimal(line.price) * quantity:.2f}"
                changed.append(dataclasses.replace(line, quantity=quantity, total=total))
        self.lines = changed

    @rx.event
    def clear(self) -> None:
        self.lines = []
