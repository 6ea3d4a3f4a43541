"""User models whose ways to Django's groups and permissions are little like Django's own."""

from __future__ import annotations

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import Group, Permission
from django.db import models


class Manager(BaseUserManager):
    def create_user(self, name):
        return self.create(name=name)


class Plain(AbstractBaseUser):
    """Has neither groups nor permissions."""

    name = models.CharField(max_length=20, unique=True)
    objects = Manager()
    USERNAME_FIELD = "name"


class Renamed(AbstractBaseUser):
    name = models.CharField(max_length=20, unique=True)
    groups = models.ManyToManyField(Group, related_name="crew", related_query_name="sailor")
    user_permissions = models.ManyToManyField(Permission, related_name="holders")
    objects = Manager()
    USERNAME_FIELD = "name"


class Hidden(AbstractBaseUser):
    """Its groups know nothing of it."""

    name = models.CharField(max_length=20, unique=True)
    groups = models.ManyToManyField(Group, related_name="+")
    user_permissions = models.ManyToManyField(Permission, related_name="+")
    objects = Manager()
    USERNAME_FIELD = "name"


class Club(models.Model):
    name = models.CharField(max_length=20)


class Clubbed(AbstractBaseUser):
    """Its groups are none of Django's."""

    name = models.CharField(max_length=20, unique=True)
    groups = models.ManyToManyField(Club, related_name="members")
    objects = Manager()
    USERNAME_FIELD = "name"


class GroupProxy(Group):
    class Meta:
        proxy = True


class Stranger(models.Model):
    """A model that is nobody's user, and that nobody listens to."""

    name = models.CharField(max_length=20)
    plain = models.ForeignKey(Plain, null=True, on_delete=models.SET_NULL)
