"""What every page shares: the bar on top, the cart drawer, the page's frame."""

import reflex as rx

from shop.cart import CartLine, CartState
from shop.session import SessionState


def nav_link(text: str, href: str) -> rx.Component:
    return rx.link(text, href=href, id=f"nav-{text.lower()}", color_scheme="gray", weight="medium", underline="hover")


def brand() -> rx.Component:
    return rx.link(
        rx.hstack(
            rx.image(src="/favicon.svg", width="30px", height="30px", alt=""),
            rx.text("Fern & Oak", size="5", weight="bold", color=rx.color("gray", 12)),
            align="center",
            spacing="2",
        ),
        href="/",
        underline="none",
        id="nav-home",
    )


def user_menu() -> rx.Component:
    return rx.cond(
        SessionState.is_authenticated,
        rx.menu.root(
            rx.menu.trigger(
                rx.button(
                    rx.icon("circle-user-round", size=18),
                    rx.text(SessionState.username, id="session-user"),
                    variant="soft",
                    id="user-menu",
                )
            ),
            rx.menu.content(
                rx.menu.item("Account", on_select=rx.redirect("/account"), id="menu-account"),
                rx.menu.item("Log out", on_select=SessionState.submit_logout, id="logout", color="red"),
            ),
        ),
        rx.link(rx.button("Log in", variant="soft", id="nav-login"), href="/login"),
    )


def cart_button() -> rx.Component:
    return rx.button(
        rx.icon("shopping-bag", size=18),
        "Cart",
        rx.badge(CartState.count, id="cart-count", variant="solid", radius="full"),
        on_click=CartState.set_open(True),
        id="cart-open",
    )


def navbar() -> rx.Component:
    return rx.box(
        rx.hstack(
            brand(),
            rx.hstack(nav_link("Products", "/"), nav_link("Gallery", "/gallery"), spacing="5", margin_left="2rem"),
            rx.spacer(),
            user_menu(),
            cart_button(),
            align="center",
            max_width="1080px",
            margin="0 auto",
            padding="0.8rem 1.5rem",
        ),
        position="sticky",
        top="0",
        z_index="10",
        width="100%",
        background=rx.color("gray", 1),
        border_bottom=f"1px solid {rx.color('gray', 4)}",
    )


def cart_row(line: CartLine) -> rx.Component:
    def change(sign: int, icon: str, name: str) -> rx.Component:
        return rx.icon_button(
            rx.icon(icon, size=14),
            on_click=CartState.change(line.product_id, sign),
            variant="soft",
            size="1",
            custom_attrs={"data-test": f"cart-{name}", "data-product": line.product_id, "aria-label": name},
        )

    return rx.hstack(
        rx.image(src=line.picture, width="64px", height="52px", border_radius="8px", alt=""),
        rx.vstack(
            rx.text(line.name, weight="medium", size="2"),
            rx.text(f"{line.price} EUR", size="1", color_scheme="gray"),
            spacing="1",
        ),
        rx.spacer(),
        change(-1, "minus", "less"),
        rx.text(line.quantity, size="2", custom_attrs={"data-test": "cart-quantity"}),
        change(1, "plus", "more"),
        align="center",
        width="100%",
        custom_attrs={"data-test": "cart-line", "data-product": line.product_id},
    )


def cart_drawer() -> rx.Component:
    return rx.drawer.root(
        rx.drawer.overlay(z_index="20"),
        rx.drawer.portal(
            rx.drawer.content(
                rx.vstack(
                    rx.hstack(
                        rx.drawer.title(rx.heading("Your cart", size="5")),
                        rx.spacer(),
                        rx.icon_button(
                            rx.icon("x", size=18),
                            on_click=CartState.set_open(False),
                            variant="ghost",
                            color_scheme="gray",
                            id="cart-close",
                            custom_attrs={"aria-label": "Close"},
                        ),
                        width="100%",
                        align="center",
                    ),
                    rx.cond(
                        CartState.count > 0,
                        rx.vstack(rx.foreach(CartState.lines, cart_row), width="100%", spacing="4"),
                        rx.text("Nothing in it yet.", color_scheme="gray", id="cart-empty"),
                    ),
                    rx.spacer(),
                    rx.divider(),
                    rx.hstack(
                        rx.text("Total", weight="medium"),
                        rx.spacer(),
                        rx.text(CartState.total, " EUR", weight="bold", id="cart-total"),
                        width="100%",
                    ),
                    rx.hstack(
                        rx.button(
                            "Empty",
                            on_click=CartState.clear,
                            variant="soft",
                            color_scheme="gray",
                            size="3",
                            id="cart-clear",
                        ),
                        rx.button(
                            "Order",
                            rx.icon("arrow-right", size=16),
                            on_click=[CartState.set_open(False), rx.redirect("/order")],
                            flex="1",
                            size="3",
                            id="cart-order",
                        ),
                        width="100%",
                    ),
                    width="100%",
                    height="100%",
                    padding="1.5rem",
                    spacing="4",
                ),
                id="cart-drawer",
                background=rx.color("gray", 1),
                width="24rem",
                max_width="100vw",
                height="100%",
                top="0",
                left="auto",
                right="0",
                z_index="21",
            )
        ),
        open=CartState.is_open,
        on_open_change=CartState.set_open,
        direction="right",
    )


def page(*children: rx.Component, width: str = "1080px") -> rx.Component:
    return rx.box(
        navbar(),
        cart_drawer(),
        rx.box(*children, max_width=width, margin="0 auto", padding="2rem 1.5rem 4rem"),
        min_height="100vh",
        background=rx.color("gray", 2),
    )


def heading(title: str, text: str) -> rx.Component:
    return rx.vstack(
        rx.heading(title, size="7"),
        rx.text(text, color_scheme="gray"),
        spacing="1",
        margin_bottom="1.5rem",
    )


def login_first(text: str) -> rx.Component:
    """For visitors on a page that needs a user."""
    return rx.card(
        rx.hstack(
            rx.icon("lock", size=18),
            rx.text(text),
            rx.spacer(),
            rx.link(rx.button("Log in", variant="soft"), href="/login", id="login-first"),
            align="center",
        ),
        width="100%",
    )
