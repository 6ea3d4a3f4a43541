"""The product list with its search, live. It names no tier of its own: the app's mode decides."""

import dataclasses

import reflex as rx
from bridgehead.live import LiveMixin
from django.db.models import Q

from shop.models import Product


@dataclasses.dataclass
class ProductCard:
    """What the browser needs of a product."""

    id: int
    name: str
    category: str
    description: str
    price: str
    stock: int
    picture: str


def card(product: Product) -> ProductCard:
    return ProductCard(
        id=product.pk,
        name=product.name,
        category=product.category,
        description=product.description,
        price=f"{product.price:.2f}",
        stock=product.stock,
        picture=product.picture,
    )


class ProductState(LiveMixin, rx.State):
    """A product that is saved anywhere (a handler, the admin, a command, psql) shows in every open list."""

    live_model = Product
    live_rows: list[ProductCard] = []
    categories: list[str] = []
    search: str = ""
    category: str = "All"

    def live_queryset(self):
        products = Product.objects.all()
        if self.category != "All":
            products = products.filter(category=self.category)
        if text := self.search.strip():
            products = products.filter(Q(name__icontains=text) | Q(description__icontains=text))
        return products

    def live_row(self, product: Product) -> ProductCard:
        return card(product)

    @rx.event
    async def load(self) -> None:
        if not self.categories:
            names = Product.objects.order_by("category").values_list("category", flat=True).distinct()
            self.categories = ["All", *[name async for name in names]]
        await self.live_subscribe()

    @rx.event
    async def set_search(self, value: str) -> None:
        self.search = value[:100]
        await self.live_reload()

    @rx.event
    async def set_category(self, value: str | list[str]) -> None:
        self.category = value if isinstance(value, str) else value[0]
        await self.live_reload()
