"""The order page."""

import reflex as rx

from shop.cart import CartLine, CartState
from shop.orders import OrderState
from shop.pages.layout import heading, login_first, page


def row(line: CartLine) -> rx.Component:
    return rx.table.row(
        rx.table.row_header_cell(line.name),
        rx.table.cell(line.quantity),
        rx.table.cell(line.price, " EUR"),
        rx.table.cell(line.total, " EUR", justify="end"),
        custom_attrs={"data-test": "order-line"},
    )


def lines() -> rx.Component:
    return rx.table.root(
        rx.table.header(
            rx.table.row(
                rx.table.column_header_cell("Product"),
                rx.table.column_header_cell("Quantity"),
                rx.table.column_header_cell("Price"),
                rx.table.column_header_cell("Total", justify="end"),
            )
        ),
        rx.table.body(rx.foreach(CartState.lines, row)),
        width="100%",
        variant="surface",
    )


def form() -> rx.Component:
    return rx.vstack(
        rx.cond(
            CartState.count > 0,
            lines(),
            rx.text("Your cart is empty.", color_scheme="gray", id="order-empty"),
        ),
        rx.input(
            placeholder="A note for us",
            value=OrderState.note,
            on_change=OrderState.set_note,
            id="order-note",
            size="3",
            width="100%",
        ),
        rx.hstack(
            rx.text("For ", rx.text.strong(OrderState.customer, id="order-customer")),
            rx.spacer(),
            rx.text(CartState.total, " EUR", weight="bold", size="5", id="order-total"),
            rx.button("Place the order", on_click=OrderState.place, size="3", id="order-place"),
            width="100%",
            align="center",
        ),
        width="100%",
        spacing="4",
    )


def order() -> rx.Component:
    return page(
        heading("Your order", "Paid on delivery, as in the old days."),
        rx.vstack(
            rx.cond(
                OrderState.message != "",
                rx.callout(OrderState.message, icon="check", color_scheme="green", id="order-message", width="100%"),
            ),
            rx.cond(
                OrderState.error != "",
                rx.callout(OrderState.error, icon="triangle-alert", color_scheme="red", id="order-error", width="100%"),
            ),
            rx.cond(OrderState.customer != "", form(), login_first("Log in to place your order.")),
            width="100%",
            spacing="4",
        ),
        width="760px",
    )
