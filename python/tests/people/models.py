"""A user model that is little like Django's: text and UUID keys, all kinds of fields, a secret or two."""

from __future__ import annotations

import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class Team(models.Model):
    code = models.CharField(primary_key=True, max_length=10)


class PersonManager(BaseUserManager):
    def create_user(self, email, password=None, **fields):
        person = self.model(email=email, **fields)
        person.set_password(password)
        person.save(using=self._db)
        return person


class Person(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.CharField(max_length=300, unique=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    bio = models.TextField(default="")
    team = models.ForeignKey(Team, null=True, on_delete=models.SET_NULL)
    number = models.BigIntegerField(default=0)
    score = models.FloatField(default=0)
    balance = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    born = models.DateField(null=True)
    seen = models.DateTimeField(null=True)
    wakes = models.TimeField(null=True)
    away = models.DurationField(null=True)
    badge = models.UUIDField(null=True)
    address = models.GenericIPAddressField(null=True)
    settings = models.JSONField(default=dict)
    picture = models.FileField(default="")
    raw = models.BinaryField(default=b"")
    api_token = models.CharField(max_length=40, default="never-to-travel")
    otp_secret = models.CharField(max_length=40, default="never-to-travel")

    objects = PersonManager()
    USERNAME_FIELD = "email"


class PersonProxy(Person):
    class Meta:
        proxy = True


class Customer(Person):
    """A child in a table of its own."""

    discount = models.IntegerField(default=0)
