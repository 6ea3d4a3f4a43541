"""Each event has an id: what ran is in a file, what became of it in the tab's state."""

import asyncio
import json
import os
import time

import reflex as rx


def write(kind: str, token: str, **facts) -> None:
    """One line, whole, however many workers write."""
    line = json.dumps({"kind": kind, "token": token, "pid": os.getpid(), "at": time.time(), **facts}) + "\n"
    with open(os.environ["LEDGER_FILE"], "ab", buffering=0) as file:
        file.write(line.encode())


class LedgerState(rx.State):
    ids: list[int] = []
    ticks: int = 0
    ticking: bool = False

    def _enter(self, id: int) -> None:
        self.ids.append(id)
        write("ran", self.router.session.client_token, id=id)

    @rx.event
    def note(self, id: int):
        self._enter(id)

    @rx.event
    async def slow(self, id: int, seconds: float):
        write("begun", self.router.session.client_token, id=id)
        await asyncio.sleep(seconds)
        self._enter(id)

    @rx.event
    def block(self, id: int, seconds: float):
        """Nothing else of this worker runs meanwhile."""
        write("begun", self.router.session.client_token, id=id)
        time.sleep(seconds)
        self._enter(id)

    @rx.event(background=True)
    async def tick(self):
        token = self.router.session.client_token
        write("tick.begun", token)
        try:
            async with self:
                self.ticking = True
            going = True
            while going:
                async with self:
                    self.ticks += 1
                    going = self.ticking and self.ticks < 300
                    write("tick", token, tick=self.ticks)
                await asyncio.sleep(0.2)
        finally:
            write("tick.ended", token)

    @rx.event
    def quiet(self):
        self.ticking = False


def index() -> rx.Component:
    return rx.box(rx.foreach(LedgerState.ids, rx.text), rx.text(LedgerState.ticks))


app = rx.App()
app.add_page(index, route="/")
