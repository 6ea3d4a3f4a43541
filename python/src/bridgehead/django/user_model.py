"""What the user model does of its own, and no table shows: a sidecar that reads tables leaves users to Django then."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import FieldDoesNotExist
from django.db.models.manager import Manager
from django.db.models.query import QuerySet
from django.db.models.query_utils import DeferredAttribute

_SESSION_HASH = ("get_session_auth_hash", "_get_session_auth_hash", "get_session_auth_fallback_hash")
_PERMISSIONS = ("has_perm", "has_perms", "get_all_permissions")


def facts() -> dict[str, Any]:
    """The manifest's `user`: the model's label, and what it does of its own."""
    model: Any = get_user_model()
    return {"model": str(model._meta.label_lower), "own": list(_own(model))}


def _own(model: Any) -> Iterator[str]:
    if not issubclass(model, AbstractBaseUser):
        yield "base class"
        return
    if not _is_column(model, "password"):
        yield "password"
    # Django's own is a constant where the model has no such field.
    if not _is_column(model, "is_active") and not _is_djangos(model, AbstractBaseUser, "is_active"):
        yield "is_active"
    for name in ("is_authenticated", *_SESSION_HASH):
        if not _is_djangos(model, AbstractBaseUser, name):
            yield name
    if issubclass(model, PermissionsMixin):
        for name in _PERMISSIONS:
            if not _is_djangos(model, PermissionsMixin, name):
                yield name
    yield from _own_manager(model._default_manager)


def _own_manager(manager: Any) -> Iterator[str]:
    """Django looks for users with `get`: whoever filters there hides some."""
    kind = type(manager)
    for name in ("get_queryset", "get"):
        if not isinstance(manager, Manager) or not _is_djangos(kind, Manager, name):
            yield f"manager.{name}"
    for name in ("get", "filter"):
        if not _is_djangos(manager._queryset_class, QuerySet, name):
            yield f"queryset.{name}"


def _is_column(model: Any, name: str) -> bool:
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return bool(field.concrete) and isinstance(inspect.getattr_static(model, name), DeferredAttribute)


def _is_djangos(owner: Any, base: Any, name: str) -> bool:
    missing = object()
    return inspect.getattr_static(owner, name, missing) is inspect.getattr_static(base, name, missing)
