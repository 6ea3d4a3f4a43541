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
from bridgehead.django.invalidation import announce
from bridgehead.django.session_store import is_writing, session_store

# A group with more users than this makes everybody be forgotten.
MAX_USERS = 100
_MEMBERS = "_bridgehead_members"


def connect() -> None:
    """Connect them all; may be called again."""
    user_model = get_user_model()
    _connect(signals.post_save, _on_saved)
    _connect(signals.post_delete, _on_deleted)
    for field in user_model._meta.many_to_many:
        if field.name in ("groups", "user_permissions"):
            _connect(signals.m2m_changed, _on_user_relation, field.remote_field.through)
    _connect(signals.m2m_changed, _on_group_permissions, Group.permissions.through)
    _connect(signals.pre_delete, _remember_members, Group)
    _connect(signals.post_delete, _on_group_deleted, Group)
    _connect(signals.post_delete, _on_permission_deleted, Permission)
    store = session_store()
    if hasattr(store, "get_model_class"):
        model = store.get_model_class()
        _connect(signals.post_save, _on_session_saved, model)
        _connect(signals.post_delete, _on_session_deleted, model)


def _connect(signal: Any, receiver: Any, sender: Any = None) -> None:
    about = sender._meta.label_lower if sender is not None else ""
    signal.connect(receiver, sender=sender, dispatch_uid=f"bridgehead.{receiver.__name__}.{about}")


def _is_user(sender: Any) -> bool:
    """The user model, its proxies and children, and the models it inherits from."""
    user_model = get_user_model()
    return isinstance(sender, type) and (issubclass(sender, user_model) or sender in user_model._meta.all_parents)


def _on_saved(sender: Any, instance: Any, created: bool, update_fields: Any, using: str, **_: Any) -> None:
    # Each login writes last_login, and nobody's rights depend on it.
    if _is_user(sender) and (update_fields is None or set(update_fields) != {"last_login"}):
        _tell_users([instance.pk], using, is_new=created)


def _on_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    if sender is get_user_model() or (_is_user(sender) and sender._meta.proxy):
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
        setattr(instance, _MEMBERS, _members(instance.user_set, using))
    elif action == "post_clear":
        _tell_users(_take_members(instance), using)


def _on_group_permissions(
    sender: Any, instance: Any, action: str, reverse: bool, pk_set: Any, using: str, **_: Any
) -> None:
    users = get_user_model()._base_manager.using(using)
    if reverse and action == "pre_clear":
        groups = instance.group_set.using(using).values_list("pk", flat=True)
        setattr(instance, _MEMBERS, _members(users.filter(groups__in=list(groups)), using))
    elif reverse and action == "post_clear":
        _tell_users(_take_members(instance), using)
    elif action in ("post_add", "post_remove") and pk_set:
        _tell_users(_members(users.filter(groups__in=pk_set if reverse else [instance.pk]), using), using)
    elif action == "post_clear":
        _tell_users(_members(users.filter(groups__in=[instance.pk]), using), using)


def _remember_members(sender: Any, instance: Any, using: str, **_: Any) -> None:
    setattr(instance, _MEMBERS, _members(instance.user_set, using))


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


def _members(users: Any, using: str) -> list[Any] | None:
    """Primary keys of the users, or None where they are too many."""
    found = list(users.using(using).order_by().values_list("pk", flat=True).distinct()[: MAX_USERS + 1])
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
