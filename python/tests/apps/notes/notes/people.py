"""Handlers that ask who the user is, and that log in and out."""

import asyncio

import reflex as rx
from django.conf import settings
from django.contrib.auth import aupdate_session_auth_hash
from reflex_django.bridge.context import current_request
from reflex_django.states import AppState

from notes import probe


def described(label: str) -> dict:
    """Who the request's user is, without touching a field that is not there."""
    request = current_request()
    user, session = request.user, request.session
    return {
        "label": label,
        "user": user.get_username(),
        "type": type(user).__name__,
        "pk": user.pk,
        "pk_type": type(user.pk).__name__,
        "backend": getattr(user, "backend", None),
        "deferred": sorted(user.get_deferred_fields()) if user.pk else [],
        "adding": user._state.adding if user.pk else None,
        "database": user._state.db if user.pk else None,
        "cache_ttl": getattr(settings, "RX_EVENT_CACHE_TTL", None),
        "session_key": session.session_key,
        "session_flags": [session.accessed, session.modified, hasattr(session, "_session_cache")],
    }


class PeopleState(AppState):
    @rx.event
    async def look(self, label: str):
        probe.write("handler", **described(label), same=await current_request().auser() is current_request().user)

    @rx.event
    async def touch(self, label: str):
        """What Django's own user and session allow in an async handler, without await."""
        request = current_request()
        probe.write(
            "handler",
            label=label,
            password=request.user.password[:6],
            email=request.user.email,
            known=request.session.get("_auth_user_id"),
            deferred=sorted(request.user.get_deferred_fields()),
        )

    @rx.event
    async def enter(self, label: str):
        """`label` is "<label> <user name>"."""
        text, _, name = label.partition(" ")
        entered = await self.login(name, "engine")
        probe.write("handler", **described(text), entered=entered)
        yield PeopleState.look(text + "-1")

    @rx.event
    async def enter_and_stay(self, label: str):
        """`label` is "<label> <user name>". Shows the next page, and goes on until the test lets it end."""
        text, _, name = label.partition(" ")
        entered = await self.login(name, "engine")
        yield rx.redirect("/members")
        probe.write("staying", label=text, entered=entered)
        while not probe.is_released(text):  # noqa: ASYNC110  # the test is another process
            await asyncio.sleep(0.01)
        probe.write("handler", **described(text), entered=entered)

    @rx.event
    async def leave(self, label: str):
        await self.logout()
        probe.write("handler", **described(label))
        yield PeopleState.look(label + "-1")

    @rx.event
    async def new_password(self, label: str):
        user = current_request().user
        user.set_password("engine")
        await user.asave()
        await aupdate_session_auth_hash(current_request(), user)
        await current_request().session.asave()
        probe.write("handler", **described(label))

    @rx.event
    async def rename(self, label: str):
        user = current_request().user
        user.first_name = label
        await user.asave(update_fields=["first_name"])
        probe.write("handler", **described(label))
        yield PeopleState.look(label + "-1")

    @rx.event
    async def count(self, label: str):
        """Only data in the session: who it belongs to stays the same."""
        session = current_request().session
        await session.aset("count", await session.aget("count", 0) + 1)
        await session.asave()
        probe.write("handler", **described(label), count=await session.aget("count"))


class StrangerState(rx.State):
    """Not one of reflex-django's states: its events are what a rule says."""

    @rx.event
    def look(self, label: str):
        probe.write("handler", label=label)

    @rx.event
    def chain(self, label: str):
        probe.write("handler", label=label)
        yield StrangerState.guarded(label + "-1")

    @rx.event
    def guarded(self, label: str):
        probe.write("handler", label=label)
