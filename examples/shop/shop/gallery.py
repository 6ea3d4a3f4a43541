"""Customers' pictures: uploaded through Reflex, kept in its upload folder, listed from the database."""

import dataclasses
import secrets
from pathlib import PurePath

import reflex as rx
from reflex_django import current_user

from shop.models import Picture

SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}


@dataclasses.dataclass
class PictureCard:
    title: str
    file: str
    user: str


class GalleryState(rx.State):
    _rx_bridge = "auth_only"

    pictures: list[PictureCard] = []
    customer: str = ""
    error: str = ""

    @rx.event
    async def load(self) -> None:
        user = current_user()
        self.customer = user.get_username() if user.is_authenticated else ""
        self.error = ""
        await self._list()

    @rx.event
    async def handle_upload(self, files: list[rx.UploadFile]) -> None:
        self.error = ""
        user = current_user()
        if not user.is_authenticated:
            self.error = "Log in to show us your pictures"
            return
        for file in files:
            title = PurePath(file.name or "picture").name
            suffix = PurePath(title).suffix.lower()
            if suffix not in SUFFIXES:
                self.error = f"{title} is not a picture"
                continue
            name = f"{secrets.token_hex(8)}{suffix}"
            (rx.get_upload_dir() / name).write_bytes(await file.read())
            await Picture.objects.acreate(user=user, title=title[:200], file=name)
        await self._list()

    async def _list(self) -> None:
        self.pictures = [
            PictureCard(title=picture.title, file=picture.file, user=picture.user.get_username())
            async for picture in Picture.objects.select_related("user")[:24]
        ]
