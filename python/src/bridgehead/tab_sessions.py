"""Sessions that handlers changed: the tab's socket still carries the cookie of before."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

_MAX_TABS = 10_000


@dataclass(slots=True)
class _Changed:
    sid: str
    # The session store while its handler may still change it, its key afterwards.
    store: Any
    key: str | None = None


class TabSessions:
    """The session that a tab has since a handler logged it in or out, kept as long as its socket.

    An entry belongs to one token on one socket (`sid`, which only the server knows): another socket, also one that
    claims the same token, has its own cookie and never sees it.
    """

    def __init__(self) -> None:
        self._tabs: OrderedDict[str, _Changed] = OrderedDict()

    def change(self, token: str, sid: str, store: Any) -> None:
        """A handler of this tab changes the session in this store."""
        self._tabs[token] = _Changed(sid, store)
        self._tabs.move_to_end(token)
        if len(self._tabs) > _MAX_TABS:
            # That tab falls back to its own cookie: what it was before, never somebody else.
            self._tabs.popitem(last=False)

    def settle(self, token: str, store: Any) -> None:
        """The handler is done: keep the session's key, not the session."""
        changed = self._tabs.get(token)
        if changed is not None and changed.store is store:
            changed.key, changed.store = store.session_key or None, None

    def find(self, token: str, sid: str) -> tuple[bool, str | None]:
        """Whether the tab's session was changed, and the cookie's value since then (None: no cookie)."""
        changed = self._tabs.get(token) if sid else None
        if changed is None or changed.sid != sid:
            return False, None
        return True, changed.key if changed.store is None else (changed.store.session_key or None)

    def drop(self, sid: str, token: str | None) -> None:
        """The socket is gone."""
        if token is not None and (changed := self._tabs.get(token)) is not None and changed.sid == sid:
            del self._tabs[token]

    def __len__(self) -> int:
        return len(self._tabs)
