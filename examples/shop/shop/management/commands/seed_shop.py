"""Fill an empty database with products and the two demo users. Running it again changes nothing."""

from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

from shop.models import Product

PRODUCTS = (
    ("espresso-cup", "Espresso cup", "Kitchen", "Double-walled stoneware, 80 ml", "12.50", 140),
    ("kettle", "Pour kettle", "Kitchen", "Gooseneck spout for a calm pour", "64.00", 35),
    ("cutting-board", "Cutting board", "Kitchen", "End-grain oak, oiled by hand", "48.00", 60),
    ("desk-lamp", "Desk lamp", "Light", "Warm light on a brass arm", "119.00", 22),
    ("lantern", "Garden lantern", "Light", "Weatherproof, charges in the sun", "39.90", 80),
    ("candle", "Beeswax candle", "Light", "Burns for forty hours", "9.80", 300),
    ("monstera", "Monstera", "Plants", "A young plant in a clay pot", "29.00", 45),
    ("cactus", "Cactus", "Plants", "Asks for almost nothing", "14.00", 120),
    ("watering-can", "Watering can", "Plants", "Enamelled steel, 1.5 litres", "34.50", 50),
    ("armchair", "Reading chair", "Living", "Wool cover on a beech frame", "420.00", 8),
    ("wall-clock", "Wall clock", "Living", "Silent movement, 30 cm", "56.00", 40),
    ("blanket", "Wool blanket", "Living", "Woven from recycled wool", "79.00", 65),
)


class Command(BaseCommand):
    help = "Make the products and the users demo (password demo-pass) and admin (password admin-pass, staff)."

    def handle(self, *args: Any, **options: Any) -> None:
        for slug, name, category, description, price, stock in PRODUCTS:
            Product.objects.get_or_create(
                slug=slug,
                defaults={
                    "name": name,
                    "category": category,
                    "description": description,
                    "price": Decimal(price),
                    "stock": stock,
                },
            )
        users = get_user_model().objects
        if not users.filter(username="demo").exists():
            users.create_user("demo", "demo@example.org", "demo-pass", first_name="Dana")
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", "admin@example.org", "admin-pass", first_name="Ada")
        self.stdout.write("shop: products and users are there (demo / demo-pass, admin / admin-pass)")
