"""URLs that Django answers; every other page is Reflex's."""

from django.conf import settings
from django.contrib import admin
from django.urls import path

from shop.debug.views import events

urlpatterns = [path("admin/", admin.site.urls)]
if settings.SHOP_DEBUG:
    urlpatterns.append(path("debug/events", events))
