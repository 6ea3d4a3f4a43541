"""Pictures from customers."""

import reflex as rx

from shop.gallery import GalleryState, PictureCard
from shop.pages.layout import heading, login_first, page


def picture(card: PictureCard) -> rx.Component:
    return rx.card(
        rx.inset(
            rx.image(
                src=rx.get_upload_url(card.file),
                width="100%",
                height="180px",
                object_fit="cover",
                alt=card.title,
                custom_attrs={"data-test": "gallery-image"},
            ),
            side="top",
            pb="current",
        ),
        rx.text(card.title, size="2", weight="medium", custom_attrs={"data-test": "gallery-title"}),
        rx.text("by ", card.user, size="1", color_scheme="gray"),
        custom_attrs={"data-test": "gallery-picture"},
    )


def upload() -> rx.Component:
    return rx.card(
        rx.hstack(
            rx.upload(
                rx.hstack(
                    rx.icon("image-plus", size=20),
                    rx.text("Drop pictures here, or click to choose"),
                    rx.foreach(rx.selected_files("picture"), lambda name: rx.badge(name, variant="soft")),
                    align="center",
                    wrap="wrap",
                ),
                id="picture",
                accept={"image/*": [".png", ".jpg", ".jpeg", ".gif", ".webp"]},
                multiple=True,
                border=f"1px dashed {rx.color('gray', 7)}",
                border_radius="10px",
                padding="1rem 1.5rem",
                flex="1",
            ),
            rx.button(
                "Upload",
                on_click=[
                    GalleryState.handle_upload(rx.upload_files(upload_id="picture")),
                    rx.clear_selected_files("picture"),
                ],
                size="3",
                id="upload-send",
            ),
            align="center",
            spacing="4",
        ),
        width="100%",
        id="upload-box",
    )


def gallery() -> rx.Component:
    return page(
        heading("In your homes", "Pictures from our customers."),
        rx.vstack(
            rx.cond(GalleryState.customer != "", upload(), login_first("Log in to show us your pictures.")),
            rx.cond(
                GalleryState.error != "",
                rx.callout(
                    GalleryState.error, icon="triangle-alert", color_scheme="red", id="upload-error", width="100%"
                ),
            ),
            rx.grid(
                rx.foreach(GalleryState.pictures, picture),
                columns=rx.breakpoints(initial="1", xs="2", md="4"),
                spacing="4",
                width="100%",
                id="gallery",
            ),
            spacing="4",
            width="100%",
        ),
    )
