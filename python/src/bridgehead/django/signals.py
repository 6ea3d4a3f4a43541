"""Django's signals that change what a user is or may, each turned into one invalidation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db.models import signals
from django.utils import timezone

from bridgehead.annotation import session_hash
from bridgehead.django import snapshot
from bridgehead.django.families import family, on_new_model
from bridgehead.django.invalidation import announce
from bridgehead.django.session_store import is_writing, session_store

# A group with more users than this makes everybody be forgotten.
MAX_USERS = 100
_MEMBERS = "_bridgehead_members"


def connect() -> None:
    """Connect them all; may be called again."""
    user_model = get_user_model()
    for model in (*family(user_model), *user_model._meta.all_parents):
        _connect_user(model)
    on_new_model("users", _connect_user)
    for field in _relations():
        _connect(signals.m2m_changed, _on_user_relation, field.remote_field.through)
    if _groups() is not None:
        _connect(signals.m2m_changed, _on_group_permissions, Group.permissions.through)
        for model in _with_proxies(Group):
            _connect(signals.pre_delete, _remember_members, model)
            _connect(signals.post_delete, _on_group_deleted, model)
    for model in _with_proxies(Permission):
        _connect(signals.post_delete, _on_permission_deleted, model)
    store = session_store()
    if hasattr(store, "get_model_class"):
        model = store.get_model_class()
        _connect(signals.post_save, _on_session_saved, model)
        _connect(signals.post_delete, _on_session_deleted, model)


def _connect(signal: Any, receiver: Any, sender: Any = None) -> None:
    about = sender._meta.label_lower if sender is not None else ""
    signal.connect(receiver, sender=sender, dispatch_uid=f"bridgehead.{receiver.__name__}.{about}")


def _with_proxies(model: Any) -> list[Any]:
    """What Django names when it deletes a row of this model: for a child it names its parents too."""
    return [one for one in family(model) if one._meta.concrete_model is model]


def _connect_user(model: Any) -> None:
    """The user model, its proxies and children, and the models it inherits from."""
    user_model = get_user_model()
    if model._meta.abstract or not (issubclass(model, user_model) or model in user_model._meta.all_parents):
        return
    _connect(signals.post_save, _on_saved, model)
    if model is user_model or model._meta.proxy:
        _connect(signals.post_delete, _on_deleted, model)


def _relations() -> list[Any]:
    """The user model's fields that rights come from. It may have none, and others may call their ends anything."""
    return [field for field in get_user_model()._meta.many_to_many if field.name in ("groups", "user_permissions")]


def _groups() -> Any | None:
    """The user model's field of Django's groups, or None where it has no such."""
    fields = (field for field in _relations() if field.name == "groups" and issubclass(field.related_model, Group))
    return next(fields, None)


def _on_saved(sender: Any, instance: Any, created: bool, update_fields: Any, using: str, **_: Any) -> None:
    # Each login writes last_login, and nobody's rights depend on it.
    if update_fields is None or set(update_fields) != {"last_login"}:
        _tell_users([instance.pk], using, is_new=created)


def _on_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    _tell_users([instance.pk], using)


def _on_user_relation(
    sender: Any, instance: Any, action: str, reverse: bool, pk_set: Any, using: str, **_: Any
) -> None:
    if action in ("post_add", "post_remove"):
        if pk_set:
            _tell_users(pk_set if reverse else [instance.pk], using)
    elif action == "post_clear" and not reverse:
        _tell_users([instance.pk], using)
    elif action == "pre_clear" and reverse:
        field = next(field for field in _relations() if field.remote_field.through is sender)
        setattr(instance, _MEMBERS, _users(field, [instance.pk], using))
    elif action == "post_clear":
        _tell_users(_take_members(instance), using)


def _on_group_permissions(
    sender: Any, instance: Any, action: str, reverse: bool, pk_set: Any, using: str, **_: Any
) -> None:
    groups = _groups()
    if reverse and action == "pre_clear":
        of_permission = Group.objects.using(using).filter(permissions=instance).values_list("pk", flat=True)
        setattr(instance, _MEMBERS, _users(groups, of_permission, using))
    elif reverse and action == "post_clear":
        _tell_users(_take_members(instance), using)
    elif action in ("post_add", "post_remove") and pk_set:
        _tell_users(_users(groups, pk_set if reverse else [instance.pk], using), using)
    elif action == "post_clear":
        _tell_users(_users(groups, [instance.pk], using), using)


def _remember_members(sender: Any, instance: Any, using: str, **_: Any) -> None:
    setattr(instance, _MEMBERS, _users(_groups(), [instance.pk], using))


def _on_group_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    _tell_users(_take_members(instance), using)


def _on_permission_deleted(sender: Any, using: str, **_: Any) -> None:
    announce({"all": True}, using)


def _on_session_saved(sender: Any, instance: Any, using: str, **_: Any) -> None:
    if not is_writing():
        announce({"session": session_hash(instance.session_key)}, using)


def _on_session_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    # Nobody is let in by an expired one any more, and clearsessions deletes them by the thousand.
    if not is_writing() and instance.expire_date > timezone.now():
        announce({"session": session_hash(instance.session_key)}, using)


def _users(field: Any, ends: Iterable[Any], using: str) -> list[Any] | None:
    """Primary keys of the users with one of these at the other end of their field; None where they are too many."""
    users = get_user_model()._base_manager.using(using).filter(**{f"{field.name}__in": list(ends)})
    found = list(users.order_by().values_list("pk", flat=True).distinct()[: MAX_USERS + 1])
    return found if len(found) <= MAX_USERS else None


def _take_members(instance: Any) -> list[Any] | None:
    members: list[Any] | None = instance.__dict__.pop(_MEMBERS, None)
    return members


def _tell_users(keys: Iterable[Any] | None, using: str, *, is_new: bool = False) -> None:
    keys = None if keys is None else list(keys)
    if keys is None or len(keys) > MAX_USERS:
        announce({"all": True}, using)
        return
    pk_field = get_user_model()._meta.pk
    for key in keys:
        announce({"user": snapshot.key_of(str(pk_field.to_python(key)))}, using, is_new=is_new)
