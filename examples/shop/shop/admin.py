"""The Django admin of the shop."""

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest

from shop.models import Order, OrderLine, Picture, Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "category", "price", "stock")
    list_filter = ("category",)
    search_fields = ("name", "description")
    actions = ("restock",)

    @admin.action(description="Put 10 more of each into stock, in one UPDATE")
    def restock(self, request: HttpRequest, products: QuerySet[Product]) -> None:
        count = products.update(stock=F("stock") + 10)
        self.message_user(request, f"{count} products restocked")


class OrderLineInline(admin.TabularInline):
    model = OrderLine
    extra = 0


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("id", "user", "total", "created")
    inlines = (OrderLineInline,)


@admin.register(Picture)
class PictureAdmin(admin.ModelAdmin):
    list_display = ("title", "user", "file", "created")
