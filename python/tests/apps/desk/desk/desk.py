import asyncio
import json
import os
from pathlib import Path
from types import SimpleNamespace

import reflex as rx
import socketio

from bridgehead import counters, handover


def write(kind: str, **facts) -> None:
    line = json.dumps({"kind": kind, "pid": os.getpid(), **facts}, default=str) + "\n"
    with Path(os.environ["TEST_PROBE"]).open("a", encoding="utf-8") as file:
        file.write(line)


class DeskState(rx.State):
    count: int = 0
    text: str = ""
    theme: str = rx.LocalStorage("light")
    visits: str = rx.Cookie("none")

    @rx.var
    def doubled(self) -> int:
        return self.count * 2

    @rx.var(cache=False)
    async def described(self) -> str:
        return f"{self.count} {self.text}"

    @rx.event
    def add(self, label: str = ""):
        self.count += 1
        self.text = label
        write(
            "add",
            label=label,
            count=self.count,
            path=self.router_data.get("pathname"),
            query=self.router_data.get("query"),
            headers=self.router_data.get("headers"),
            ip=self.router_data.get("ip"),
            token=self.router_data.get("token"),
            counters=counters.snapshot(),
        )

    @rx.event
    def log_in(self, session_key: str):
        """As Django's login does, which this app is without."""
        session = self.router.session
        store = SimpleNamespace(session_key=session_key)
        handover.tabs.change(session.client_token, session.session_id, store)

    @rx.event
    async def slow(self, label: str, seconds: float):
        write("slow.begun", label=label)
        await asyncio.sleep(seconds)
        self.count += 1
        self.text = label
        write("slow.ended", label=label)

    @rx.event
    async def chain(self, label: str, seconds: float):
        write("chain", label=label)
        yield DeskState.slow(label + "-1", seconds)
        yield DeskState.slow(label + "-2", seconds)

    @rx.event
    async def later(self, label: str, seconds: float):
        write("later.begun", label=label)
        await asyncio.sleep(seconds)
        write("later.ended", label=label)
        yield DeskState.add(label)

    @rx.event
    def fail(self, label: str):
        write("fail", label=label)
        raise ValueError("as asked")

    @rx.event
    def set_theme(self, theme: str):
        self.theme = theme

    @rx.event
    def much(self, label: str, size: int):
        write("much", label=label)
        self.text = "x" * size

    @rx.event
    def redirect(self, label: str):
        return rx.redirect("/elsewhere")

    @rx.event(background=True)
    async def tick(self, label: str, every: float):
        write("tick.begun", label=label)
        try:
            while True:
                async with self:
                    self.count += 1
                await asyncio.sleep(every)
        finally:
            write("tick.ended", label=label)

    @rx.event(background=True)
    async def once(self, label: str):
        write("once", label=label)
        async with self:
            self.text = label

    @rx.event(background=True)
    async def hold(self, label: str, seconds: float):
        async with self:
            write("hold", label=label)
            await asyncio.sleep(seconds)

    @rx.event
    def start(self, label: str):
        yield DeskState.tick(label, 0.05)

    @rx.event
    async def loaded(self):
        write("loaded", path=self.router_data.get("pathname"))
        yield DeskState.tick("on_load", 0.05)


def index() -> rx.Component:
    return rx.box(rx.text(DeskState.text), rx.text(DeskState.doubled), rx.text(DeskState.described))


class EchoNamespace(socketio.AsyncNamespace):
    """Socket.IO beside Reflex: acknowledgements, attachments and user sessions, as any app may use them."""

    async def on_connect(self, sid, environ, auth=None):
        async with self.session(sid) as session:
            session["auth"] = auth
        write("echo.connect", remote=environ["asgi.scope"]["client"][0], query=environ["QUERY_STRING"])

    async def on_echo(self, sid, *data):
        async with self.session(sid) as session:
            return (session["auth"], *data)

    async def on_slowly(self, sid, label, seconds):
        await asyncio.sleep(seconds)
        write("echo.slowly", label=label)

    async def on_ask(self, sid, data):
        await self.emit("question", data, to=sid, callback=lambda *answer: write("echo.answer", answer=answer))

    async def on_leave(self, sid):
        await self.disconnect(sid)

    async def on_close(self, sid):
        await app.sio.eio.disconnect(app.sio.manager.eio_sid_from_sid(sid, "/echo"))

    async def on_linger(self, sid, seconds):
        async with self.session(sid) as session:
            session["lingers"] = seconds

    async def on_disconnect(self, sid, reason=None):
        async with self.session(sid) as session:
            await asyncio.sleep(session.get("lingers", 0))
        write("echo.disconnect", reason=reason)


app = rx.App()
app.add_page(index, route="/")
app.add_page(index, route="/loading", on_load=DeskState.loaded)
app.add_page(index, route="/slow", on_load=DeskState.slow("slow page", 30))
app.add_page(index, route="/item/[number]")
app.sio.register_namespace(EchoNamespace("/echo"))
