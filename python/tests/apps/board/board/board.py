import asyncio
import contextlib
import dataclasses
import json
import os
from pathlib import Path

import reflex as rx
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from reflex_django.bridge.context import current_user
from reflex_django.live import live_broadcaster, register_live_model

import bridgehead
from board.models import Card, Item, Order
from bridgehead.live import LiveMixin


def write(kind: str, **facts) -> None:
    line = json.dumps({"kind": kind, "pid": os.getpid(), **facts}, default=str) + "\n"
    with Path(os.environ["TEST_PROBE"]).open("a", encoding="utf-8") as file:
        file.write(line)


@dataclasses.dataclass
class CardRow:
    id: str
    text: str


class ItemList(LiveMixin, rx.State):
    """The user's own items; nobody else's."""

    _rx_bridge = "auth_only"
    live_model = Item
    live_limit = 4

    def live_queryset(self):
        return Item.objects.filter(owner=current_user().get_username())

    def live_row(self, obj):
        return {"id": obj.pk, "title": obj.title, "rank": obj.rank}


class CardList(LiveMixin, rx.State):
    live_model = Card
    live_rows: list[CardRow] = []
    search: str = ""

    async def live_queryset(self):
        return Card.objects.filter(text__contains=self.search).order_by("-text")

    def live_row(self, obj):
        return CardRow(id=str(obj.pk), text=obj.text)

    @rx.event
    async def find(self, text: str):
        self.search = text
        await self.live_reload()


class OrderList(LiveMixin, rx.State):
    live_model = Order

    def live_queryset(self):
        return Order.objects.filter(tenant="acme")

    def live_row(self, obj):
        return {"id": obj.pk, "total": obj.total}

    def live_tags(self):
        return ["tenant:acme"]

    def live_pks(self):
        return [1, 2**60]


class WriterState(rx.State):
    """Writes in a worker, as handlers do."""

    @rx.event
    async def add(self, owner: str, title: str, rank: int):
        item = await Item.objects.acreate(owner=owner, title=title, rank=rank)
        write("added", title=title, id=item.pk)

    @rx.event
    async def roll_back(self, owner: str):
        def work():
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                item = Item.objects.create(owner=owner, title="never", rank=1)
                bridgehead.publish(item, "updated")
                raise ZeroDivisionError

        await sync_to_async(work)()
        write("rolled_back")

    @rx.event
    async def bulk(self, owner: str, count: int):
        items = [Item(owner=owner, title=f"bulk {n}", rank=n) for n in range(count)]
        await Item.objects.abulk_create(items)
        await Item.objects.filter(owner=owner, title__startswith="bulk").aupdate(rank=50)

        def raw():
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM board_item WHERE title LIKE 'bulk %'")

        await sync_to_async(raw)()
        write("bulk_done")

    @rx.event
    def flood(self, count: int):
        for n in range(count):
            bridgehead.publish("board.item", "updated", n)

    @rx.event
    def by_hand(self, pk: str):
        bridgehead.publish("Board.Item", "updated", pk, tags=["a"])


def index() -> rx.Component:
    return rx.box(
        rx.foreach(ItemList.live_rows, lambda row: rx.text(row["title"])),
        rx.foreach(CardList.live_rows, lambda row: rx.text(row.text)),
        rx.cond(OrderList.live_has_more, rx.button("more", on_click=OrderList.live_turn(OrderList.live_page + 1))),
    )


@contextlib.asynccontextmanager
async def listening():
    """Code that is written against reflex-django's own broadcaster."""
    register_live_model(Item)

    async def listen(label):
        queue = live_broadcaster().subscribe(label)
        while True:
            change = await queue.get()
            write("heard", label=change.model_label, action=change.action, pk=repr(change.pk))

    tasks = [asyncio.create_task(listen(label)) for label in ("board.item", "board.card")]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


app = rx.App()
app.add_page(index, route="/", on_load=[ItemList.live_subscribe, CardList.live_subscribe])
app.register_lifespan_task(listening)
