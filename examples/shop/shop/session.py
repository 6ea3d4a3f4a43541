"""Login and logout with Django's own sessions, from Reflex events."""

import json

import reflex as rx
from django.utils.http import url_has_allowed_host_and_scheme
from reflex_django import current_request
from reflex_django.bridge.session_js import browser_auth_logout_clear_js, session_cookie_set_js
from reflex_django.states import AppState


def leave_for(path: str) -> str:
    """A full page load, since only a new connection brings the new cookie along."""
    return f"window.location.assign({json.dumps(path)});"


class SessionState(AppState):
    login_error: str = ""

    @rx.event
    async def submit_login(self, form: dict[str, str]):
        self.login_error = ""
        if not await self.login(form.get("username", ""), form.get("password", "")):
            self.login_error = "Wrong user name or password"
            return None
        target = self.router.url.query_parameters.get("next", "/")
        if not url_has_allowed_host_and_scheme(target, allowed_hosts=None):
            target = "/"
        # Reflex's token stays, and with it what is in the cart.
        return rx.call_script(session_cookie_set_js(current_request().session.session_key) + leave_for(target))

    @rx.event
    async def submit_logout(self):
        await self.logout()
        return rx.call_script(browser_auth_logout_clear_js() + leave_for("/login"))
