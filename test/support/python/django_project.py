"""A small Django project, told what to do line by line: {"op": ..., arguments} in, {"ok": …} or {"error": …} out.

Its settings are the JSON object in the first argument.
"""

import json
import sys
from datetime import timedelta
from importlib import import_module
from typing import Any

import django
from django.conf import settings

given = json.loads(sys.argv[1])
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        # Beside auth.User its permissions would have the same reverse names, and Django would ask the wrong table.
        *(["members"] if given["AUTH_USER_MODEL"] == "members.Member" else []),
    ],
    # Tables are made from the models, also where the user model is the app's own.
    MIGRATION_MODULES={"auth": None, "contenttypes": None, "sessions": None},
    USE_TZ=True,
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    **given,
)
django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, get_user, get_user_model, login  # noqa: E402
from django.contrib.auth.models import Group, Permission  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.http import HttpRequest  # noqa: E402
from django.utils import timezone  # noqa: E402

from bridgehead.django import snapshot  # noqa: E402
from link_worker import LinkWorker  # noqa: E402

User = get_user_model()
Store = import_module(settings.SESSION_ENGINE).SessionStore


def migrate() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)


def request_with(cookie: str | None) -> HttpRequest:
    request = HttpRequest()
    request.session = Store(cookie)
    return request


def answer(cookie: str, permissions: list[str]) -> dict[str, Any]:
    """What Django itself says of this cookie; changes nothing."""
    with transaction.atomic():
        request = request_with(cookie)
        held = request.session.get(HASH_SESSION_KEY, "")
        backend = request.session.get(BACKEND_SESSION_KEY)
        user = get_user(request)
        transaction.set_rollback(True)
    if not user.is_authenticated:
        return {"kind": "anonymous"}
    ends = Session.objects.get(session_key=cookie).expire_date
    granted = [name for name in permissions if user.has_perm(name)]
    return {
        "kind": "user",
        "user": snapshot.make(user, backend, held),
        "permissions": granted,
        "groups": list(user.groups.order_by("name").values_list("name", flat=True)),
        "expires": ends.timestamp() * 1000,
    }


def make_user(name: str, **fields: Any) -> str:
    user = User(**{User.USERNAME_FIELD: name}, **fields)
    user.set_password("first")
    user.save()
    return str(user.pk)


def log_in(pk: str, backend: str = "django.contrib.auth.backends.ModelBackend") -> str:
    request = request_with(None)
    login(request, User.objects.get(pk=pk), backend=backend)
    request.session.save()
    return str(request.session.session_key)


def new_session(values: dict[str, Any]) -> str:
    session = Store()
    session.update(values)
    session.save()
    return str(session.session_key)


def edit_session(cookie: str, values: dict[str, Any]) -> None:
    session = Store(cookie)
    session.update(values)
    session.save()


def expire(cookie: str) -> None:
    session = Store(cookie)
    session.set_expiry(timezone.now() - timedelta(seconds=1))
    session.save()


def save_user(pk: str, password: str | None = None, **fields: Any) -> None:
    user = User.objects.get(pk=pk)
    for name, value in fields.items():
        setattr(user, name, value)
    if password is not None:
        user.set_password(password)
    user.save()


def find_permission(name: str) -> Permission:
    app, codename = name.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)


def grant_by_group(pk: str, permission: str) -> None:
    group = Group.objects.get_or_create(name=permission)[0]
    group.permissions.add(find_permission(permission))
    User.objects.get(pk=pk).groups.add(group)


def sql(text: str, values: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text, values)


linked: list[LinkWorker] = []


def link(url: str, secret: str) -> None:
    linked.append(LinkWorker(url, secret, settings.SESSION_COOKIE_NAME))


OPERATIONS = {
    "migrate": migrate,
    "answer": answer,
    "make_user": make_user,
    "log_in": log_in,
    "new_session": new_session,
    "edit_session": edit_session,
    "expire": expire,
    "flush": lambda cookie: Store(cookie).flush(),
    "save_user": save_user,
    "delete_user": lambda pk: User.objects.get(pk=pk).delete() and None,
    "grant": lambda pk, permission: User.objects.get(pk=pk).user_permissions.add(find_permission(permission)),
    "grant_by_group": grant_by_group,
    "sql": sql,
    "link": link,
    "unlink": lambda: linked.pop().stop(),
}

for line in sys.stdin:
    order = json.loads(line)
    try:
        result: dict[str, Any] = {"ok": OPERATIONS[order.pop("op")](**order)}
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(result), flush=True)
