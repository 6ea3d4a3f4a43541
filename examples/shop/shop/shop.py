"""The Reflex app: its pages, and the frontend if this worker is told to serve it."""

import reflex as rx
from django.conf import settings
from reflex_django.states import DjangoUserState

from shop.account import AccountState, OrdersState
from shop.frontend import serve_frontend
from shop.gallery import GalleryState
from shop.orders import OrderState
from shop.pages.account import account
from shop.pages.gallery import gallery
from shop.pages.index import index
from shop.pages.login import login
from shop.pages.order import order
from shop.products import ProductState

app = rx.App(
    head_components=[rx.el.link(rel="icon", type="image/svg+xml", href="/favicon.svg")],
    api_transformer=serve_frontend(settings.SHOP_FRONTEND_DIR) if settings.SHOP_FRONTEND_DIR else None,
)

# The bar on top shows who is logged in: every page asks Django for it once.
who = DjangoUserState.sync_from_django
app.add_page(index, route="/", title="Fern & Oak", on_load=[who, ProductState.load])
app.add_page(login, route="/login", title="Log in · Fern & Oak", on_load=who)
app.add_page(order, route="/order", title="Order · Fern & Oak", on_load=[who, OrderState.load])
app.add_page(
    account,
    route="/account",
    title="Account · Fern & Oak",
    on_load=[who, AccountState.load, OrdersState.live_subscribe],
)
app.add_page(gallery, route="/gallery", title="Gallery · Fern & Oak", on_load=[who, GalleryState.load])
