"""Django settings of the shop: PostgreSQL and Redis by environment, SQLite and memory without."""

import os
from pathlib import Path
from typing import Any

import dj_database_url

BASE_DIR = Path(__file__).resolve().parent.parent

# Good for a demo on loopback only; a deployment sets its own.
SECRET_KEY = os.environ.get("SECRET_KEY", "django-insecure-example-shop-on-loopback-only")
SECRET_KEY_FALLBACKS = [key for key in os.environ.get("SECRET_KEY_FALLBACKS", "").split(",") if key]
DEBUG = os.environ.get("DJANGO_DEBUG", "0") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "*").split(",")
CSRF_TRUSTED_ORIGINS = [origin for origin in os.environ.get("CSRF_TRUSTED_ORIGINS", "").split(",") if origin]

# Without Bridgehead's companion, as reflex-django documents itself: what the benches compare with.
SHOP_PLAIN = os.environ.get("SHOP_PLAIN") == "1"
# Opens /debug/: what each event met in Python. Tests only.
SHOP_DEBUG = os.environ.get("SHOP_DEBUG") == "1"
SHOP_DEBUG_RIGHTS = SHOP_DEBUG and os.environ.get("SHOP_DEBUG_RIGHTS") == "1"
# A folder with the exported frontend, which the worker then serves itself (the demo: one address for everything).
SHOP_FRONTEND_DIR = os.environ.get("SHOP_FRONTEND_DIR") or None

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "reflex_django.django.apps.ReflexDjangoConfig",
    *([] if SHOP_PLAIN else ["bridgehead.django"]),
    "shop",
]

AUTHENTICATION_MIDDLEWARE = (
    "django.contrib.auth.middleware.AuthenticationMiddleware"
    if SHOP_PLAIN
    else "bridgehead.django.AuthenticationMiddleware"
)
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    # Django's own, spared its queries in events whose user the sidecar knows.
    AUTHENTICATION_MIDDLEWARE,
    "django.contrib.messages.middleware.MessageMiddleware",
    "reflex_django.bridge.streaming.AsyncStreamingMiddleware",
]

# For events of the tier auth_only it makes the session too.
if not SHOP_PLAIN:
    RX_AUTH_ONLY_MIDDLEWARE = ["bridgehead.django.AuthenticationMiddleware"]
RX_EVENT_CACHE_FAST_AUTH = os.environ.get("SHOP_FAST_AUTH") == "1"

ROOT_URLCONF = "shop.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

database: dict[str, Any] = dict(dj_database_url.config(default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}"))
if database["ENGINE"] == "django.db.backends.sqlite3":
    # Several threads write (one per event): wait for the lock instead of failing, and let readers read meanwhile.
    database["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
DATABASES = {"default": database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if cache_url := os.environ.get("SHOP_CACHE_URL") or os.environ.get("REDIS_URL"):
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": cache_url}}

SESSION_ENGINE = os.environ.get("SHOP_SESSION_ENGINE", "django.contrib.sessions.backends.db")
# reflex-django hands the session to the browser by script: an event has no Set-Cookie of its own.
SESSION_COOKIE_HTTPONLY = False

LOGIN_URL = "/login"
STATIC_URL = "/static/"
USE_TZ = True
TIME_ZONE = "UTC"
