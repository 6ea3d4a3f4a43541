import uuid

from django.db import models


class Item(models.Model):
    title = models.CharField(max_length=100)
    owner = models.CharField(max_length=100)
    rank = models.IntegerField(default=0)

    class Meta:
        ordering = ("rank",)


class ItemProxy(Item):
    class Meta:
        proxy = True


class SpecialItem(Item):
    """Its rows stand in the table of Item too."""

    colour = models.CharField(max_length=20)


class Card(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    text = models.CharField(max_length=100)


class Order(models.Model):
    tenant = models.CharField(max_length=20)
    total = models.IntegerField(default=0)


class Seat(models.Model):
    pk = models.CompositePrimaryKey("row", "number")
    row = models.IntegerField()
    number = models.IntegerField()
