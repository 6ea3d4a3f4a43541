"""The account page."""

import reflex as rx

from shop.account import AccountState, OrderRow, OrdersState
from shop.pages.layout import heading, page
from shop.watch import WatchState


def order_row(order: OrderRow) -> rx.Component:
    return rx.table.row(
        rx.table.row_header_cell("Order ", order.id),
        rx.table.cell(order.created),
        rx.table.cell(order.pieces),
        rx.table.cell(order.total, " EUR", justify="end"),
        custom_attrs={"data-test": "account-order"},
    )


def field(label: str, name: str, value: rx.Var) -> rx.Component:
    return rx.vstack(
        rx.text(label, size="2", weight="medium"),
        # The key makes the field anew when the stored value changes: a default value is read only once.
        rx.input(name=name, default_value=value, key=value, id=f"account-{name.replace('_', '-')}", width="100%"),
        spacing="1",
        width="100%",
    )


def details() -> rx.Component:
    return rx.card(
        rx.form(
            rx.vstack(
                rx.heading("Details", size="4"),
                field("First name", "first_name", AccountState.first_name),
                field("E-mail", "email", AccountState.email),
                rx.hstack(
                    rx.button("Save", type="submit", id="account-save"),
                    rx.text(AccountState.saved, size="2", color_scheme="green", id="account-saved"),
                    align="center",
                ),
                spacing="3",
            ),
            on_submit=AccountState.save,
            reset_on_submit=False,
        ),
        size="3",
    )


def orders() -> rx.Component:
    return rx.card(
        rx.vstack(
            rx.heading("Orders", size="4"),
            rx.cond(
                OrdersState.live_rows.length() > 0,
                rx.table.root(
                    rx.table.body(rx.foreach(OrdersState.live_rows, order_row)), width="100%", id="account-orders"
                ),
                rx.text("No orders yet.", color_scheme="gray", id="account-no-orders"),
            ),
            spacing="3",
        ),
        size="3",
    )


def price_watch() -> rx.Component:
    return rx.card(
        rx.hstack(
            rx.heading("Price watch", size="4"),
            rx.cond(
                WatchState.watching,
                rx.hstack(
                    rx.text("Looked ", rx.text.strong(WatchState.looks, id="watch-looks"), " times", size="2"),
                    rx.button("Stop", on_click=WatchState.stop, variant="soft", id="watch-stop"),
                    align="center",
                ),
                rx.button("Watch my cart", on_click=WatchState.watch(1), variant="soft", id="watch-start"),
            ),
            rx.text(WatchState.news, size="2", color_scheme="green", id="watch-news"),
            align="center",
            spacing="4",
        ),
        size="3",
        width="100%",
        margin_top="1rem",
    )


def account() -> rx.Component:
    return page(
        heading("Your account", "What we know of you, and nothing more."),
        rx.hstack(
            rx.text(
                "Logged in as ",
                rx.text.strong(AccountState.username, id="account-user"),
            ),
            rx.badge("Visits in this session: ", AccountState.visits, id="account-visits", variant="soft"),
            rx.cond(AccountState.is_staff, rx.link("Admin", href="/admin/", is_external=True, id="account-admin")),
            spacing="4",
            align="center",
            margin_bottom="1rem",
        ),
        rx.grid(details(), orders(), columns=rx.breakpoints(initial="1", md="2"), spacing="4"),
        price_watch(),
    )
