import os

SECRET_KEY = "only-for-tests-of-this-small-app-and-nothing-else"
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "bridgehead.django",
    "notes",
]
AUTHENTICATION = os.environ.get("TEST_AUTHENTICATION", "bridgehead.django.AuthenticationMiddleware")
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    AUTHENTICATION,
    "django.contrib.messages.middleware.MessageMiddleware",
    "notes.middleware.mark_full_chain",
]
ROOT_URLCONF = "site_urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["TEST_DATABASE"],
        "OPTIONS": {"timeout": 20},
    }
}
SESSION_COOKIE_NAME = "notes_session"
RX_AUTH = {"LOGIN_URL": "/enter"}
if AUTHENTICATION.startswith("bridgehead."):
    RX_AUTH_ONLY_MIDDLEWARE = [AUTHENTICATION]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
