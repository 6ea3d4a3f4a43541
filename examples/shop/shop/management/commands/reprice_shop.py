"""Change many prices at once: what signals do not see, and triggers do."""

from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db.models import F

from shop.models import Product


class Command(BaseCommand):
    help = "Multiply prices in one UPDATE, for example by 1.1."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("factor", type=Decimal)
        parser.add_argument("--category", help="only products of this category")

    def handle(self, *args: Any, **options: Any) -> None:
        products = Product.objects.all()
        if options["category"]:
            products = products.filter(category=options["category"])
        count = products.update(price=F("price") * options["factor"])
        self.stdout.write(f"{count} prices changed")
