"""Django's signals of registered models, each turned into one change, once it is committed.

Signals see what goes through a model's `save` and `delete`. Bulk writes, `update()` and SQL are seen where triggers are
installed (`manage.py bridgehead_triggers install`), and there signals are silent. Changes of a many-to-many relation
are none of the rows at its ends: publish those that show it, `bridgehead.publish(product, "updated")`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import CompositePrimaryKey, Model
from django.db.models.signals import post_delete, post_save, pre_save

from bridgehead import counters
from bridgehead.django.families import family, on_new_model
from bridgehead.live import outbox, publishing
from bridgehead.live.change import Change, ChangeError, action_of, pk_of, tags_of

logger = logging.getLogger("bridgehead")

TagsOf = Callable[[Any], Iterable[str]]

# Tags that a row had before it was saved.
_BEFORE = "_bridgehead_tags_before"

_registered: dict[Any, TagsOf | None] = {}
_concerned: dict[Any, tuple[Any, ...]] = {}
_said: set[str] = set()


def register(model: Any, *, tags: TagsOf | None = None) -> None:
    """Publish every save and delete of this model, after the commit, from every process that calls this.

    Call it in an `AppConfig.ready`, so that management commands and Celery publish too. `tags` gives the tags of an
    instance, such as `lambda order: [f"tenant:{order.tenant_id}"]`: only subscriptions that ask for one of them, or for
    none, hear of it. A row whose tags change is told to those of its old tags too, which costs a query per save. Raises
    `ImproperlyConfigured` for what cannot be live. May be called again: tags that are given replace those before.
    """
    model = check(model)
    if model not in _registered or tags is not None:
        _registered[model] = tags
        _concerned.clear()
    for one in family(model):
        _listen(one)
    on_new_model("live", _listen_if_live)


def unregister(model: Any) -> None:
    """Publish its saves and deletes no more."""
    model = check(model)
    _registered.pop(model, None)
    _concerned.clear()
    for one in family(model):
        _listen(one)


def _listen_if_live(sender: Any) -> None:
    if not sender._meta.abstract and any(issubclass(sender, model) for model in _registered):
        _listen(sender)


def _listen(sender: Any) -> None:
    """To what concerns a live model and to nothing else, so that Django's fast deletes of other models stay fast."""
    concerned = _models_of(sender)
    wanted = (
        (pre_save, _before_save, bool(concerned)),
        (post_save, _on_saved, bool(concerned)),
        (post_delete, _on_deleted, sender._meta.concrete_model in concerned),
    )
    for signal, receiver, is_wanted in wanted:
        uid = f"bridgehead.live.{receiver.__name__}"
        if is_wanted:
            signal.connect(receiver, sender=sender, dispatch_uid=uid)
        else:
            signal.disconnect(receiver, sender=sender, dispatch_uid=uid)


def registered() -> tuple[Any, ...]:
    """The models that are live, by label."""
    return tuple(sorted(_registered, key=lambda model: model._meta.label_lower))


def check(model: Any) -> Any:
    """The model itself, without proxies; `ImproperlyConfigured` for what cannot be live."""
    meta = getattr(model, "_meta", None) if isinstance(model, type) and issubclass(model, Model) else None
    if meta is None or meta.abstract:
        raise ImproperlyConfigured(f"{model!r} is not a model with a table: only such can be live")
    concrete = meta.concrete_model
    if isinstance(concrete._meta.pk, CompositePrimaryKey):
        raise ImproperlyConfigured(
            f"{concrete._meta.label} has a composite primary key and cannot be live: give it a key of one column"
        )
    return concrete


def register_label(label: str) -> Any:
    """Register the model of this label, unless it is."""
    model = check(apps.get_model(label))
    if model not in _registered:
        register(model)
    return model


def record_label(label: str, action: str, pk: Any) -> None:
    """What reflex-django's own receivers saw."""
    model = check(apps.get_model(label))
    if model in _registered:
        # Our own receivers have seen it.
        return
    register(model)
    _record(model, pk, action, (), str(router.db_for_write(model)))


def _models_of(sender: Any) -> tuple[Any, ...]:
    """The registered ones among a model and those whose tables its rows stand in too."""
    found = _concerned.get(sender)
    if found is None:
        concrete = sender._meta.concrete_model
        line = () if concrete is None else (concrete, *concrete._meta.get_parent_list())
        found = _concerned[sender] = tuple(model for model in line if model in _registered)
    return found


def _before_save(sender: Any, instance: Any, raw: bool, using: str, **_: Any) -> None:
    for model in _models_of(sender):
        if _registered[model] is None or raw or instance._state.adding:
            continue
        before = model._base_manager.using(using).filter(pk=_key(instance, model)).first()
        if before is not None:
            instance.__dict__.setdefault(_BEFORE, {})[model] = _tags(model, before)


def _on_saved(sender: Any, instance: Any, created: bool, using: str, **_: Any) -> None:
    before = instance.__dict__.pop(_BEFORE, {})
    for model in _models_of(sender):
        tags = _tags(model, instance)
        former = before.get(model, tags)
        # Without tags it concerns everybody: then it did before, or does now.
        together = tags_of((*tags, *former)) if tags and former else ()
        _record(model, _key(instance, model), "created" if created else "updated", together, using)


def _on_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    # Django sends one for each table that the row stood in.
    model = sender._meta.concrete_model
    if model in _registered:
        _record(model, _key(instance, model), "deleted", _tags(model, instance), using)


def _key(instance: Any, model: Any) -> Any:
    return getattr(instance, model._meta.pk.attname)


def _tags(model: Any, instance: Any) -> tuple[str, ...]:
    tags = _registered[model]
    if tags is None:
        return ()
    try:
        return tags_of(tags(instance))
    except Exception:
        _say(f"the tags of a {model._meta.label} cannot be told, so that it concerns every subscription")
        return ()


def _record(model: Any, pk: Any, action: str, tags: tuple[str, ...], using: str) -> None:
    label = model._meta.label_lower
    if outbox.is_tracked(model, using):
        return
    try:
        change = Change(label, action_of(action), pk_of(pk), tags)
    except ChangeError:
        counters.add("live.gap_told")
        _say(f"a {model._meta.label} has a primary key that cannot travel: all of its lists are read anew instead")
        publishing.send_gap(label, using)
        return
    publishing.send(change, using)


def _say(text: str) -> None:
    if text not in _said:
        _said.add(text)
        logger.exception("%s", text)
