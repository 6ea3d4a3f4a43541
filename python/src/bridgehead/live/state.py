"""`LiveMixin`: a list of rows in a Reflex state that stays right whoever changes the rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import reflex as rx
from asgiref.sync import sync_to_async

from bridgehead.catalog import unwrapped
from bridgehead.django.broken import reading
from bridgehead.live import signals, subscribing
from bridgehead.live.change import pk_of, tags_of
from bridgehead.session_frames import MAX_PKS, MAX_SUBSCRIBED_TAGS, MAX_SUBSCRIPTION_ID, Subscribe

MAX_LIMIT = 10_000
# What an app writes, and Reflex would make event handlers of, for every browser to call.
_HOOKS = ("live_queryset", "live_row", "live_tags", "live_pks")


def _hook[F: Callable[..., Any]](function: F) -> F:
    """Not an event handler."""
    # Reflex's own word for it.
    setattr(function, "__override_base_method__", True)  # noqa: B010
    return function


class LiveMixin(rx.State, mixin=True):
    """Mix into a state, before its other bases: `class ProductList(LiveMixin, rx.State)`.

    The state says `live_model`, `live_queryset` (whose rows this user may see, in their order) and `live_row` (what the
    browser gets of one). `live_rows` is then the list, from the page's `on_load=ProductList.live_subscribe` on. A page
    of it has `live_limit` rows; `live_page` counts from 0, `live_has_more` tells of a next one, `live_turn` goes there.

    Each change has the page read anew through `live_queryset`, so that rows come, move and go by the query alone: what
    a browser says in `apply_live_change` is not looked at.
    """

    live_model: ClassVar[Any] = None
    live_limit: ClassVar[int] = 200

    live_rows: list[dict[str, Any]] = []  # noqa: RUF012  # Reflex copies it
    live_page: int = 0
    live_has_more: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        for name in _HOOKS:
            if inspect.isfunction(function := cls.__dict__.get(name)):
                _hook(function)
        super().__init_subclass__(**kwargs)
        model = _option(cls, "live_model")
        if not cls._mixin and model is not None:
            signals.register(model)

    @_hook
    def live_queryset(self) -> Any:
        """The rows that this session's user may see, in the order of the list; without order, by primary key.

        Not sliced: see `live_limit`. A plain method may use the ORM, and runs in a thread; one with `async` is awaited.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a live_queryset: which rows may this user see?")

    @_hook
    def live_row(self, obj: Any) -> Any:
        """What the browser gets of a row: a dictionary, or an instance of a dataclass. It runs in a thread."""
        raise NotImplementedError(f"{type(self).__name__} needs a live_row: what may the browser get of a row?")

    @_hook
    def live_tags(self) -> Iterable[str] | None:
        """Hear only of changes with one of these tags, at most 100, and of those without any; None: of all.

        Such as `[f"tenant:{self.tenant}"]`; see `register`.
        """
        return None

    @_hook
    def live_pks(self) -> Iterable[Any] | None:
        """Hear only of changes of these rows, at most 1,000; None: of all."""
        return None

    @rx.event
    async def live_subscribe(self) -> None:
        """Read the list, and keep it right from now on. Again: with other tags, pks or another user."""
        await subscribing.subscribe(self.router.session.client_token, await _subscription(self))
        await _read(self)

    @rx.event
    async def live_unsubscribe(self) -> None:
        """Leave the list as it is from now on."""
        await subscribing.unsubscribe(self.router.session.client_token, _subscription_id(type(self)))

    @rx.event
    async def live_reload(self) -> None:
        """Read the list anew: for handlers that change what `live_queryset` depends on, `await self.live_reload()`."""
        await _read(self)

    @rx.event
    async def live_turn(self, page: int) -> None:
        """Go to a page of the list."""
        self.live_page = page if isinstance(page, int) else 0
        await _read(self)

    @rx.event
    async def apply_live_change(self, live: dict[str, Any]) -> None:
        """The sidecar runs this when rows have changed."""
        # What came is not trusted: a browser can run this too.
        await _read(self)


async def _subscription(state: Any) -> Subscribe:
    cls = type(state)
    model = signals.check(_option(cls, "live_model"))
    pks, tags = await _asked(state.live_pks), await _asked(state.live_tags)
    keys = None if pks is None else tuple(dict.fromkeys(pk_of(pk) for pk in pks))
    words = None if tags is None else tuple(tags)
    return Subscribe(
        _subscription_id(cls),
        model._meta.label_lower,
        f"{cls.get_full_name()}.apply_live_change",
        # More than a subscription can hold: then it hears of all.
        keys if keys is None or len(keys) <= MAX_PKS else None,
        None if words is None or len(set(words)) > MAX_SUBSCRIBED_TAGS else tags_of(words, most=MAX_SUBSCRIBED_TAGS),
    )


def _subscription_id(cls: Any) -> str:
    return str(cls.get_name())[-MAX_SUBSCRIPTION_ID:]


async def _read(state: Any) -> None:
    """Make the list what the database says now."""
    limit = min(max(1, int(_option(type(state), "live_limit"))), MAX_LIMIT)
    queryset = await _asked(state.live_queryset)

    def read(page: int) -> tuple[list[Any], bool]:
        found = list(_ordered(queryset)[page * limit : page * limit + limit + 1])
        return [state.live_row(obj) for obj in found[:limit]], len(found) > limit

    page = min(max(0, state.live_page), 2**31 // limit)
    rows, has_more = await sync_to_async(reading)(read, page)
    if page and not rows:
        # There is no such page (any more).
        page = max(0, await sync_to_async(queryset.count)() - 1) // limit
        rows, has_more = await sync_to_async(reading)(read, page)
    for name, value in (("live_rows", rows), ("live_page", page), ("live_has_more", has_more)):
        # An equal value would be sent to the browser all the same.
        if getattr(state, name) != value:
            setattr(state, name, value)


async def _asked(hook: Callable[[], Any]) -> Any:
    """What a hook says. A plain one may use the ORM."""
    return await hook() if inspect.iscoroutinefunction(hook) else await sync_to_async(hook)()


def _ordered(queryset: Any) -> Any:
    """With the primary key as the last word, so that equal rows keep their places."""
    if queryset.query.is_sliced:
        raise TypeError("live_queryset gives a slice: give the whole queryset and set live_limit")
    if not queryset.ordered:
        return queryset.order_by("pk")
    return queryset.order_by(*(queryset.query.order_by or queryset.query.get_meta().ordering), "pk")


def _option(cls: Any, name: str) -> Any:
    """What the class says, not the instance: a variable of that name is none that a browser could set."""
    return unwrapped(cls, name, getattr(cls, name, None))
