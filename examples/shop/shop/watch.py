"""The price watch of the account page: a background handler that looks after the cart until it is told to stop."""

import asyncio

import reflex as rx

from shop.cart import CartState, cart_line
from shop.models import Product

# Nobody needs it for longer, and a tab that was closed does not stop it.
LOOKS = 600


class WatchState(rx.State):
    _rx_bridge = "none"

    watching: bool = False
    looks: int = 0
    news: str = ""

    @rx.event(background=True)
    async def watch(self, seconds: float):
        """Look at the prices every so many seconds; cart and page follow them. Begun anew, it goes on counting."""
        async with self:
            self.watching = True
        while await self._look():
            await asyncio.sleep(min(60, max(0.1, seconds)))

    async def _look(self) -> bool:
        """False where it is enough."""
        async with self:
            cart = await self.get_state(CartState)
            products = {line.product_id: line for line in cart.lines}
        current = {product.pk: product async for product in Product.objects.filter(pk__in=products)}
        async with self:
            cart = await self.get_state(CartState)
            changed = [
                current[line.product_id].name
                for line in cart.lines
                if line.product_id in current and line.price != f"{current[line.product_id].price:.2f}"
            ]
            if changed:
                cart.lines = [
                    cart_line(current[line.product_id], line.quantity) if line.product_id in current else line
                    for line in cart.lines
                ]
                self.news = f"New price: {', '.join(changed)}"
            self.looks += 1
            self.watching = self.watching and self.looks < LOOKS
            return self.watching

    @rx.event
    def stop(self) -> None:
        self.watching = False
        self.looks = 0
        self.news = ""
