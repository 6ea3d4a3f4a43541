import json
import os
from pathlib import Path

import reflex as rx

from bridgehead import counters


class CounterState(rx.State):
    _rx_bridge = "none"
    count: int = 0

    @rx.event
    def add(self, label: str):
        self.count += 1
        line = {
            "kind": "handler",
            "label": label,
            "router_data": dict(self.router_data),
            "counters": counters.snapshot(),
        }
        with Path(os.environ["TEST_PROBE"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")


def index() -> rx.Component:
    return rx.text(CounterState.count)


app = rx.App()
app.add_page(index, route="/")
