"""What a user model does of its own: a sidecar that reads its table must know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import AbstractUser, PermissionsMixin, User, UserManager
from django.db import models
from django.test.utils import isolate_apps

from bridgehead.django import user_model
from people.models import Person


class Living(BaseUserManager):
    def get_queryset(self) -> Any:
        return super().get_queryset().exclude(email="")


class Known(models.QuerySet):
    def known(self) -> Any:
        return self.exclude(email="")


class Filtering(models.QuerySet):
    def get(self, *args: Any, **kwargs: Any) -> Any:
        return super().get(*args, **kwargs)


class Base(AbstractBaseUser, PermissionsMixin):
    email = models.CharField(max_length=300, unique=True)
    is_active = models.BooleanField(default=True)
    objects = BaseUserManager()
    USERNAME_FIELD = "email"

    class Meta:
        abstract = True
        app_label = "people"


def test_djangos_own_user_and_a_plain_one_do_nothing_of_their_own() -> None:
    assert list(user_model._own(User)) == []
    assert list(user_model._own(Person)) == []
    assert user_model.facts() == {"model": "people.person", "own": []}


def _no_field() -> Any:
    class Simple(AbstractBaseUser):
        email = models.CharField(max_length=300, unique=True)
        objects = BaseUserManager()
        USERNAME_FIELD = "email"

        class Meta:
            app_label = "people"

    return Simple


def _harmless_queryset() -> Any:
    class Harmless(Base):
        objects = BaseUserManager.from_queryset(Known)()

        class Meta:
            app_label = "people"

    return Harmless


def _filtered() -> Any:
    class Filtered(Base):
        objects = Living()

        class Meta:
            app_label = "people"

    return Filtered


def _named_default() -> Any:
    class Named(Base):
        objects = BaseUserManager()
        living = Living()

        class Meta:
            app_label = "people"
            default_manager_name = "living"

    return Named


def _queryset() -> Any:
    class Sifted(Base):
        objects = UserManager.from_queryset(Filtering)()

        class Meta:
            app_label = "people"

    return Sifted


def _property() -> Any:
    class Banned(AbstractUser):
        is_active = property(lambda self: not self.last_name)

        class Meta:
            app_label = "people"

    return Banned


def _constant() -> Any:
    class Never(AbstractBaseUser):
        email = models.CharField(max_length=300, unique=True)
        is_active = False
        objects = BaseUserManager()

        class Meta:
            app_label = "people"

    return Never


def _hash() -> Any:
    class Hashed(Base):
        def get_session_auth_hash(self) -> str:
            return "x" + super().get_session_auth_hash()

        class Meta:
            app_label = "people"

    return Hashed


def _permission() -> Any:
    class Strict(Base):
        def has_perm(self, perm: str, obj: Any = None) -> bool:
            return False

        class Meta:
            app_label = "people"

    return Strict


def _foreign() -> Any:
    class Foreign(models.Model):
        is_active = models.BooleanField(default=True)

        class Meta:
            app_label = "people"

    return Foreign


@pytest.mark.parametrize(
    ("make", "own"),
    [
        (_no_field, []),
        (_harmless_queryset, []),
        (_filtered, ["manager.get_queryset"]),
        (_named_default, ["manager.get_queryset"]),
        (_queryset, ["queryset.get"]),
        (_property, ["is_active"]),
        (_constant, ["is_active"]),
        (_hash, ["get_session_auth_hash"]),
        (_permission, ["has_perm"]),
        (_foreign, ["base class"]),
    ],
)
def test_what_a_table_does_not_show_is_named(make: Callable[[], Any], own: list[str]) -> None:
    with isolate_apps("people"):
        assert list(user_model._own(make())) == own
