"""A python-socketio server that knows nothing of Reflex; test/support/foreign-node.ts says the same in JavaScript."""

import asyncio
import os
from typing import Any

import socketio

Scope = dict[str, Any]

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins=[], max_http_buffer_size=1_000_000)
PATH = os.environ.get("FOREIGN_PATH", "/_event")


def _serve(namespace: str) -> None:
    @sio.on("connect", namespace=namespace)
    async def connect(sid: str, environ: Scope, auth: Any) -> None:
        if namespace == "/locked":
            raise socketio.exceptions.ConnectionRefusedError("no entry", {"code": 7})
        headers = {
            key[5:].lower().replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_")
        }
        await sio.emit("welcome", {"auth": auth, "headers": headers}, to=sid, namespace=namespace)

    @sio.on("echo", namespace=namespace)
    async def echo(sid: str, *arguments: Any) -> Any:
        await sio.emit("echoed", tuple(arguments), to=sid, namespace=namespace)
        return tuple(arguments)

    @sio.on("reverse", namespace=namespace)
    async def reverse(sid: str, data: bytes) -> bytes:
        await sio.emit("reversed", {"nested": [data[::-1], 1, data]}, to=sid, namespace=namespace)
        return data[::-1]

    @sio.on("count", namespace=namespace)
    async def count(sid: str, number: int) -> None:
        await sio.emit("counted", number, to=sid, namespace=namespace)

    @sio.on("ask", namespace=namespace)
    async def ask(sid: str, question: Any) -> None:
        async def work() -> None:
            answer = await sio.call("question", question, to=sid, namespace=namespace)
            await sio.emit("answered", answer, to=sid, namespace=namespace)

        # A call inside a handler would wait for itself.
        background.add(task := asyncio.create_task(work()))
        task.add_done_callback(background.discard)

    @sio.on("numbers", namespace=namespace)
    async def numbers(sid: str) -> None:
        await sio.emit("numbers", {"nan": float("nan"), "infinity": float("inf"), "big": 2**70}, namespace=namespace)

    @sio.on("length", namespace=namespace)
    async def length(sid: str, text: str) -> int:
        return len(text)

    @sio.on("kick", namespace=namespace)
    async def kick(sid: str) -> None:
        await sio.disconnect(sid, namespace=namespace)

    @sio.on("disconnect", namespace=namespace)
    async def disconnect(sid: str, reason: str) -> None:
        left.append(namespace)


background: set[asyncio.Task[None]] = set()
left: list[str] = []
for name in ("/", "/chat", "/locked", "/_event"):
    _serve(name)

engine = socketio.ASGIApp(sio, socketio_path=PATH.strip("/"))


async def app(scope: Scope, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"] == "/left":
        body = ",".join(left).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})
        return
    await engine(scope, receive, send)
