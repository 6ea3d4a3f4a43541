"""Login with a Django session."""

import reflex as rx

from shop.pages.layout import page
from shop.session import SessionState


def login() -> rx.Component:
    return page(
        rx.card(
            rx.form(
                rx.vstack(
                    rx.heading("Welcome back", size="6"),
                    rx.text("Log in to order and to see your account.", color_scheme="gray", size="2"),
                    rx.input(
                        name="username",
                        placeholder="User name",
                        id="login-username",
                        size="3",
                        width="100%",
                        auto_complete=False,
                        required=True,
                    ),
                    rx.input(
                        name="password",
                        placeholder="Password",
                        type="password",
                        id="login-password",
                        size="3",
                        width="100%",
                        required=True,
                    ),
                    rx.cond(
                        SessionState.login_error != "",
                        rx.callout(
                            SessionState.login_error,
                            icon="triangle-alert",
                            color_scheme="red",
                            size="1",
                            id="login-error",
                            width="100%",
                        ),
                    ),
                    rx.button("Log in", type="submit", size="3", width="100%", id="login-submit"),
                    spacing="4",
                ),
                on_submit=SessionState.submit_login,
                reset_on_submit=False,
                id="login-form",
            ),
            size="4",
            max_width="26rem",
            margin="3rem auto",
        )
    )
