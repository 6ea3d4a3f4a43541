"""Plain Django, told what to do line by line: {"op": ..., arguments} in, {"ok": result} or {"error": text} out."""

import json
import sys
import time
from datetime import timedelta
from importlib import import_module
from typing import Any

import django

django.setup()

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, get_user_model, login, logout
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils import timezone
from shop.debug.rights import rights_of

# A session's auth hash is made of the stored password, whatever it was hashed with.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

User = get_user_model()
Store = import_module(settings.SESSION_ENGINE).SessionStore


def request_with(cookie: str | None) -> HttpRequest:
    request = RequestFactory().get("/")
    if cookie is not None:
        request.COOKIES[settings.SESSION_COOKIE_NAME] = cookie
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    AuthenticationMiddleware(lambda _: HttpResponse()).process_request(request)
    return request


def whoami(cookie: str | None) -> str:
    """What Django answers to a page request with this cookie; changes nothing, where Django would renew the session."""
    with transaction.atomic():
        user = request_with(cookie).user
        name = user.get_username() if user.is_authenticated else "anonymous"
        transaction.set_rollback(True)
    return name


def rights(cookie: str | None) -> dict[str, Any]:
    """The same with what that user may."""
    with transaction.atomic():
        found = rights_of(request_with(cookie).user)
        transaction.set_rollback(True)
    return found


def make_user(username: str, **fields: Any) -> int:
    return int(User.objects.create_user(username, password="first", **fields).pk)


def log_in(username: str) -> str:
    request = request_with(None)
    login(request, User.objects.get(username=username), backend="django.contrib.auth.backends.ModelBackend")
    request.session.save()
    return str(request.session.session_key)


def log_out(cookie: str) -> None:
    logout(request_with(cookie))


def anonymous_session() -> str:
    session = Store()
    session["cart"] = [1, 2]
    session.save()
    return str(session.session_key)


def edit_session(cookie: str, remove: list[str] = [], **values: Any) -> None:
    session = Store(cookie)
    for key in remove:
        del session[key]
    session.update(values)
    session.save()


def cycle(cookie: str) -> str:
    session = Store(cookie)
    session.cycle_key()
    session.save()
    return str(session.session_key)


def expire(cookie: str) -> None:
    session = Store(cookie)
    session.set_expiry(timezone.now() - timedelta(seconds=10))
    session.save()


def save_user(username: str, password: str | None = None, **fields: Any) -> None:
    user = User.objects.get(username=username)
    for name, value in fields.items():
        setattr(user, name, value)
    if password is not None:
        user.set_password(password)
    user.save()


def rolled_back(username: str, **fields: Any) -> None:
    """A change that never happens."""
    try:
        with transaction.atomic():
            save_user(username, **fields)
            raise InterruptedError
    except InterruptedError:
        pass


def sql(text: str, values: list[Any] = []) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text, values)


def demote_timed(username: str) -> float:
    """Makes no staff of a user as an admin would, and tells when that began: Unix milliseconds."""
    user = User.objects.get(username=username)
    user.is_staff = False
    began = time.time_ns() / 1_000_000
    user.save()
    return began


def bulk_update(username: str, **fields: Any) -> None:
    """A change that sends no signal."""
    User.objects.filter(username=username).update(**fields)


def grant(username: str, permission: str) -> None:
    User.objects.get(username=username).user_permissions.add(permission_of(permission))


def revoke_all(username: str) -> None:
    User.objects.get(username=username).user_permissions.clear()


def permission_of(name: str) -> Permission:
    app, codename = name.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)


def join(username: str, group: str, permission: str) -> None:
    """Into a group that has this permission."""
    found = Group.objects.get_or_create(name=group)[0]
    found.permissions.add(permission_of(permission))
    User.objects.get(username=username).groups.add(found)


def leave(username: str, group: str) -> None:
    User.objects.get(username=username).groups.remove(Group.objects.get(name=group))


def take_from_group(group: str, permission: str) -> None:
    Group.objects.get(name=group).permissions.remove(permission_of(permission))


OPERATIONS = {
    "whoami": whoami,
    "rights": rights,
    "make_user": make_user,
    "user_id": lambda username: User.objects.get(username=username).pk,
    "log_in": log_in,
    "log_out": log_out,
    "anonymous_session": anonymous_session,
    "edit_session": edit_session,
    "cycle": cycle,
    "expire": expire,
    "flush": lambda cookie: Store(cookie).flush(),
    "delete_session": lambda cookie: Store(cookie).delete(),
    "save_user": save_user,
    "delete_user": lambda username: User.objects.get(username=username).delete() and None,
    "rolled_back": rolled_back,
    "sql": sql,
    "bulk_update": bulk_update,
    "demote_timed": demote_timed,
    "grant": grant,
    "revoke_all": revoke_all,
    "join": join,
    "leave": leave,
    "take_from_group": take_from_group,
    "delete_group": lambda group: Group.objects.get(name=group).delete() and None,
    "backend_key": lambda: BACKEND_SESSION_KEY,
}

for line in sys.stdin:
    order = json.loads(line)
    try:
        answer: dict[str, Any] = {"ok": OPERATIONS[order.pop("op")](**order)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
