"""A session's whole state sent to its browser as a delta, after something of it may have been lost.

Never as a hydrate: that one makes the browser's stored values (LocalStorage, SessionStorage, Cookie) the server's.
"""

from __future__ import annotations

import inspect
from typing import Any


async def send_whole_state(app: Any, token: str) -> bool:
    """Send it; false where there is no state of this token: its browser knows more than this worker."""
    from reflex.state import StateUpdate

    async with app.state_manager.modify_state_with_links(_key(app, token)) as root:
        if "pathname" not in root.router_data:
            return False
        delta = root.dict()
        for variables in delta.values():
            for name, value in variables.items():
                if inspect.iscoroutine(value):
                    # An async computed var.
                    variables[name] = await value
        _spare_the_browser(root, delta)
        await app.event_namespace.emit_update(StateUpdate(delta=delta), token)
        # All of it was sent.
        root._clean()
    return True


async def last_page(app: Any, token: str | None) -> dict[str, Any]:
    """Where the session's tab last was, as its client said it."""
    if token is None:
        return {}
    router_data = (await app.state_manager.get_state(_key(app, token))).router_data
    path = str(router_data.get("asPath") or router_data.get("pathname") or "/")
    return {
        "pathname": path.partition("?")[0].partition("#")[0],
        "asPath": path,
        "query": dict(router_data.get("query") or {}),
    }


def _key(app: Any, token: str) -> Any:
    from reflex.istate.manager.token import BaseStateToken

    return BaseStateToken(ident=token, cls=app._state)


def _spare_the_browser(state: Any, delta: dict[str, dict[str, Any]]) -> None:
    """Leave out what would take something from the browser: stored values at their defaults, and `is_hydrated` off."""
    from reflex_base.constants.state import FIELD_MARKER

    variables = delta.get(state.get_full_name(), {})
    fields = state.get_fields()
    for marked in tuple(variables):
        name = marked.removesuffix(FIELD_MARKER)
        field = fields.get(name)
        stored = field is not None and state._is_client_storage(field)
        if (stored and variables[marked] == field.default_value()) or (name == "is_hydrated" and not variables[marked]):
            del variables[marked]
    for substate in state.substates.values():
        _spare_the_browser(substate, delta)
