"""What the browser and the sidecar do together: a Socket.IO client that speaks as Reflex's frontend does."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import socketio

from backend import Backend
from bridgehead import annotation
from bridgehead.keys import Keyring

SECRET = "the-secret-of-the-tests-and-of-nothing-else-1"
NAME = "notes-shop"
ROOT = "reflex___state____state"
HYDRATE = f"{ROOT}.hydrate"


def state(name: str) -> str:
    return f"{ROOT}.notes___notes____{name}"


class ReflexClient:
    def __init__(self, backend: Backend, *, session: str | None = None, headers: dict[str, str] | None = None) -> None:
        self.backend = backend
        self.token = str(uuid.uuid4())
        self.session = session
        self.cookie = "" if session is None else f"theme=dark; notes_session={session}"
        self.headers = headers or {}
        self.updates: list[Any] = []
        self.boot: dict[str, Any] | None = None
        self._socket = socketio.AsyncClient(reconnection=False)
        self._socket.on("event", self._on_update, namespace="/_event")

    async def _on_update(self, update: Any) -> None:
        self.updates.append(update)

    async def __aenter__(self) -> ReflexClient:
        headers = {**self.headers, **({"Cookie": self.cookie} if self.cookie else {})}
        await self._socket.connect(
            f"{self.backend.url}/?token={self.token}",
            headers=headers,
            auth=self.boot,
            transports=["websocket"],
            namespaces=["/_event"],
            socketio_path="/_event",
            wait_timeout=15,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.disconnect()

    def event(
        self, name: str, payload: dict[str, Any] | None = None, note: object = None, path: str = "/"
    ) -> dict[str, Any]:
        router_data: dict[str, Any] = {"pathname": path, "asPath": path, "query": {}}
        if note is not None:
            router_data["_bridgehead"] = note
        return {"name": name, "payload": payload or {}, "router_data": router_data}

    async def send(self, name: str, label: str | None = None, note: object = None, path: str = "/") -> None:
        await self.send_raw(self.event(name, {} if label is None else {"label": label}, note, path))

    async def send_raw(self, data: Any) -> None:
        await self._socket.emit("event", data, namespace="/_event")

    def sign(
        self,
        handler: str,
        tier: annotation.Tier | None = None,
        *,
        user: annotation.User = annotation.Unknown(),  # noqa: B008  # immutable
        rules: Sequence[Any] = (),
        secret: str = SECRET,
        name: str = NAME,
        token: str | None = None,
        session: str | None = None,
        age_ms: int = 0,
        life_ms: int = 10_000,
    ) -> str:
        """An annotation as the sidecar makes it, or one with something wrong."""
        issued = int(time.time() * 1000) - age_ms
        return annotation.make(
            annotation.Claims(
                name=name,
                token_hash=annotation.token_hash(token or self.token),
                session_hash=annotation.session_hash(self.session if session is None else session),
                handler=handler,
                issued_at=issued,
                expires_at=issued + life_ms,
                tier=tier,
                user=user,
                rules=tuple(rules),
            ),
            Keyring("annotation", secret),
        )
