"""The Django admin of the shop."""

from django.contrib import admin

from shop.models import Order, OrderLine, Picture, Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "category", "price", "stock")
    list_filter = ("category",)
    search_fields = ("name", "description")


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
