"""One handler, whose every run is counted where no worker's end can undo it."""

import os

import reflex as rx
from redis.asyncio import Redis

# Numbers that an update carries along: an event is answered by any update that holds its number.
REMEMBERED = 20

redis = Redis.from_url(os.environ["REFLEX_REDIS_URL"])


class TallyState(rx.State):
    _rx_bridge = "none"

    recent: list[int] = []
    total: int = 0

    @rx.event
    async def count(self, tab: str, number: int) -> None:
        """Note this run in Redis and in the state."""
        await redis.hincrby("tally", f"{tab}:{number}", 1)
        self.recent = [*self.recent[1 - REMEMBERED :], number]
        self.total += 1


def index() -> rx.Component:
    return rx.text(TallyState.total)


app = rx.App()
app.add_page(index, route="/")
