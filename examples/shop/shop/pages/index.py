"""The product list."""

import reflex as rx

from shop.cart import CartState
from shop.pages.layout import heading, page
from shop.products import ProductCard, ProductState


def product(card: ProductCard) -> rx.Component:
    return rx.card(
        rx.inset(
            rx.image(src=card.picture, width="100%", height="168px", object_fit="cover", alt=card.name),
            side="top",
            pb="current",
        ),
        rx.vstack(
            rx.hstack(
                rx.text(card.name, weight="bold", size="3"),
                rx.spacer(),
                rx.badge(card.category, variant="soft", color_scheme="gray"),
                width="100%",
                align="center",
            ),
            rx.text(card.description, size="2", color_scheme="gray", min_height="2.8em"),
            rx.hstack(
                rx.vstack(
                    rx.text(card.price, " EUR", weight="medium", custom_attrs={"data-test": "product-price"}),
                    rx.text(
                        card.stock,
                        " in stock",
                        size="1",
                        color_scheme="gray",
                        custom_attrs={"data-test": "product-stock"},
                    ),
                    spacing="0",
                ),
                rx.spacer(),
                rx.button(
                    rx.icon("plus", size=16),
                    "Add",
                    on_click=CartState.add(card.id),
                    variant="soft",
                    custom_attrs={"data-test": "product-add", "data-product": card.id},
                ),
                width="100%",
                align="center",
            ),
            spacing="2",
        ),
        custom_attrs={"data-test": "product", "data-product": card.id},
    )


def index() -> rx.Component:
    return page(
        heading("Good things for the home", "Made slowly, sent quickly."),
        rx.flex(
            rx.input(
                rx.input.slot(rx.icon("search", size=16)),
                placeholder="Search the shop",
                on_change=ProductState.set_search.debounce(150),
                id="product-search",
                size="3",
                width="20rem",
                max_width="100%",
            ),
            rx.segmented_control.root(
                rx.foreach(ProductState.categories, lambda name: rx.segmented_control.item(name, value=name)),
                value=ProductState.category,
                on_change=ProductState.set_category,
                id="product-category",
                size="2",
            ),
            justify="between",
            align="center",
            wrap="wrap",
            gap="1rem",
            margin_bottom="1.5rem",
        ),
        rx.grid(
            rx.foreach(ProductState.live_rows, product),
            columns=rx.breakpoints(initial="1", xs="2", md="3", lg="4"),
            spacing="4",
            id="products",
        ),
        rx.cond(
            ProductState.live_rows.length() == 0,
            rx.text("Nothing found.", color_scheme="gray", id="products-empty"),
        ),
    )
