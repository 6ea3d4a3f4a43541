import uuid
from decimal import Decimal

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class Member(AbstractBaseUser, PermissionsMixin):
    """What projects do to a user model: another key, another name, other columns, a credential."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    born = models.DateField(null=True)
    balance = models.DecimalField(max_digits=8, decimal_places=2, default=Decimal("1.50"))
    visits = models.BigIntegerField(default=2**60)
    score = models.FloatField(default=0.25)
    bio = models.TextField(default="", blank=True)
    motto = models.TextField(default="", blank=True)
    reset_token = models.CharField(max_length=40, default="never to travel")

    objects = BaseUserManager()
    USERNAME_FIELD = "email"
