"""Django in the tests' own process, on files of its own: import it before anything of Django's models."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import django
from django.conf import settings

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
SECRET_KEY = "only-for-tests-of-the-companion-and-nothing-else"

if not settings.configured:
    folder = Path(tempfile.mkdtemp(prefix="bridgehead-django-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 20}}
    settings.configure(
        SECRET_KEY=SECRET_KEY,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "bridgehead.django",
            "people",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "bridgehead.django.AuthenticationMiddleware",
        ],
        RX_AUTH_ONLY_MIDDLEWARE=["bridgehead.django.AuthenticationMiddleware"],
        DATABASES={
            "default": {**database, "NAME": str(folder / "default.sqlite3")},
            "replica": {**database, "NAME": str(folder / "replica.sqlite3")},
        },
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": folder / "c"}
        },
        SESSION_FILE_PATH=str(folder),
        SESSION_COOKIE_NAME="people_session",
        AUTH_USER_MODEL="people.Person",
        AUTHENTICATION_BACKENDS=[MODEL_BACKEND],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()

    from django.core.management import call_command

    for alias in ("default", "replica"):
        call_command("migrate", run_syncdb=True, verbosity=0, database=alias)

ENGINES = [
    f"django.contrib.sessions.backends.{name}" for name in ("db", "cached_db", "cache", "file", "signed_cookies")
]


def log_in(user: Any, *, backend: str = MODEL_BACKEND, **data: Any) -> str:
    """Log a user in as Django does; gives the session cookie's value."""
    from django.contrib.auth import login
    from django.http import HttpRequest

    request = HttpRequest()
    request.session = store()
    login(request, user, backend=backend)
    request.session.update(data)
    request.session.save()
    return str(request.session.session_key)


def store(key: str | None = None) -> Any:
    """A session of the configured engine."""
    from bridgehead.django.session_store import session_store

    return session_store()(key)


def djangos_answer(cookie: str) -> str:
    """Who Django itself says it is: a primary key, or `anonymous`."""
    from django.contrib.auth import get_user
    from django.http import HttpRequest

    request = HttpRequest()
    request.session = store(cookie or None)
    user = get_user(request)
    return str(user.pk) if user.is_authenticated else "anonymous"
