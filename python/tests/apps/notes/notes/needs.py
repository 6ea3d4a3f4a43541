"""Handlers that take one thing each from Django, for what shadow mode sees of it."""

import threading

import reflex as rx
from asgiref.sync import sync_to_async
from django.contrib import messages
from reflex_django.bridge.context import current_request, current_response, current_session, current_user
from reflex_django.states import AppState

from notes import probe


class NeedsState(rx.State):
    @rx.event
    def nothing(self, label: str):
        probe.write("handler", label=label, request_type=type(current_request()).__name__)

    @rx.event
    async def user(self, label: str):
        probe.write("handler", label=label, user=current_user().get_username())

    @rx.event
    async def user_in_a_thread(self, label: str):
        probe.write("handler", label=label, user=await sync_to_async(lambda: current_request().user.pk)())

    @rx.event
    async def user_in_a_bare_thread(self, label: str):
        request = current_request()
        thread = threading.Thread(target=lambda: request.user)
        thread.start()
        thread.join()
        probe.write("handler", label=label)

    @rx.event(background=True)
    async def user_behind(self, label: str):
        probe.write("handler", label=label, user=current_user().get_username())

    @rx.event
    async def session(self, label: str):
        probe.write("handler", label=label, theme=await current_session().aget("theme"))

    @rx.event
    async def session_written(self, label: str):
        await current_session().aset("theme", label)
        await current_session().asave()
        probe.write("handler", label=label)

    @rx.event
    def path(self, label: str):
        probe.write("handler", label=label, path=current_request().path)

    @rx.event
    def message(self, label: str):
        messages.success(current_request(), "Saved")
        probe.write("handler", label=label)

    @rx.event
    def of_the_chain(self, label: str):
        probe.write("handler", label=label, full_chain=current_request().full_chain)

    @rx.event
    def response(self, label: str):
        probe.write("handler", label=label, status=current_response().status_code)

    @rx.event
    def chain(self, label: str):
        probe.write("handler", label=label)
        yield NeedsState.user(label + "-1")


class FieldsState(AppState):
    @rx.event
    def nothing(self, label: str):
        probe.write("handler", label=label)

    @rx.event
    def field(self, label: str):
        probe.write("handler", label=label, known=self.is_authenticated)

    @rx.event(background=True)
    async def field_behind(self, label: str):
        async with self:
            probe.write("handler", label=label, known=self.is_authenticated)

    @rx.event
    async def enter(self, label: str):
        """`label` is "<label> <user name>"."""
        text, _, name = label.partition(" ")
        entered = await self.login(name, "engine")
        probe.write("handler", label=text, entered=entered)
