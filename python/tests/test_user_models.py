"""The app's own work with groups, permissions and rows goes as without the companion, whatever its user model is.

Each in a Django process of its own, since a process has one user model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from backend import SOURCE, TESTS

SETUP = """
import json, os
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.admin",
        "bridgehead.django", "members",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    AUTH_USER_MODEL=os.environ["TEST_USER_MODEL"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    MIGRATION_MODULES=dict.fromkeys(("auth", "contenttypes", "sessions", "admin")),
    SILENCED_SYSTEM_CHECKS=["fields.E304", "fields.E305"],
    USE_TZ=True,
)
django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from bridgehead.django import signals
from members.models import *

told = []
signals.announce = lambda what, using=None, *, is_new=False: told.append(what)

def heard(work):
    told.clear()
    work()
    return list(told)

def queries(work):
    with CaptureQueriesContext(connection) as captured:
        work()
    words = [query["sql"].split()[0] for query in captured]
    return [word for word in words if word not in ("BEGIN", "COMMIT")]
"""


def run(user_model: str, code: str) -> Any:
    """What the code's last line prints as JSON."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("BRIDGEHEAD_", "REDIS_"))}
    path = os.pathsep.join((str(TESTS), str(SOURCE)))
    done = subprocess.run(
        [sys.executable, "-c", SETUP + code],
        env={**clean, "PYTHONPATH": path, "TEST_USER_MODEL": f"members.{user_model}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


GROUPS = """
permission = Permission.objects.first()
group, other = Group.objects.create(name="crew"), Group.objects.create(name="watch")
print(json.dumps([
    heard(lambda: group.permissions.add(permission)),
    heard(lambda: group.permissions.clear()),
    heard(lambda: permission.group_set.add(group)),
    heard(lambda: permission.group_set.clear()),
    heard(lambda: group.delete()),
    heard(lambda: GroupProxy.objects.get(pk=other.pk).delete()),
]))
"""


@pytest.mark.parametrize("model", ["Plain", "Clubbed"])
def test_groups_that_are_nobodys_can_be_changed_and_deleted(model: str) -> None:
    assert run(model, GROUPS) == [[], [], [], [], [], []]


def test_clubs_can_be_cleared_and_deleted() -> None:
    user = {"user": "members.clubbed:1"}
    assert run(
        "Clubbed",
        """
user, club = get_user_model().objects.create_user("ada"), Club.objects.create(name="chess")
print(json.dumps([
    heard(lambda: user.groups.add(club)), heard(lambda: club.members.clear()), heard(lambda: club.delete()),
]))
""",
    ) == [[user], [user], []]


@pytest.mark.parametrize("model", ["Renamed", "Hidden"])
def test_members_hear_of_their_groups_whatever_the_way_back_is_called(model: str) -> None:
    make = """
user = get_user_model().objects.create_user("ada")
get_user_model().objects.create_user("bob")
for group in [Group.objects.create(name=name) for name in ("crew", "watch")]:
    user.groups.add(group)
"""
    code = make + GROUPS.replace("Group.objects.create", "Group.objects.get")
    user = {"user": f"members.{model.lower()}:1"}
    assert run(model, code) == [[user]] * 6


def test_a_group_and_a_permission_that_lose_all_their_users_tell_each() -> None:
    user = {"user": "members.renamed:1"}
    assert run(
        "Renamed",
        """
user, group = get_user_model().objects.create_user("ada"), Group.objects.create(name="crew")
permission = Permission.objects.first()
user.groups.add(group)
user.user_permissions.add(permission)
print(json.dumps([
    heard(lambda: group.crew.clear()), heard(lambda: permission.holders.clear()), heard(lambda: group.delete()),
]))
""",
    ) == [[user], [user], []]


UNRELATED = """
from django.contrib.admin.models import LogEntry
for name in ("ada", "bob", "eve"):
    Stranger.objects.create(name=name)
print(json.dumps([queries(lambda: LogEntry.objects.all().delete()), queries(lambda: Stranger.objects.all().delete())]))
"""


def test_rows_of_other_models_are_deleted_in_one_statement() -> None:
    assert run("Plain", UNRELATED) == [["DELETE"], ["DELETE"]]


def test_rows_of_other_models_are_deleted_in_one_statement_where_one_is_live() -> None:
    live = """
from bridgehead import live
live.register(Club)
"""
    assert run("Plain", live + UNRELATED) == [["DELETE"], ["DELETE"]]


def test_a_live_model_is_heard_of_until_it_is_live_no_more() -> None:
    assert run(
        "Plain",
        """
from bridgehead import live
from bridgehead.live import publishing, signals as live_signals
sent = []
publishing.send = lambda change, using: sent.append((change.action, change.pk))
live.register(Club)

class ClubProxy(Club):
    class Meta:
        proxy = True
        app_label = "members"

class ClubProxyProxy(ClubProxy):
    class Meta:
        proxy = True
        app_label = "members"

made = ClubProxyProxy.objects.create(name="chess")
made.save()
Club.objects.create(name="go")
ClubProxy.objects.get(pk=made.pk).delete()
Club.objects.all().delete()
live.unregister(Club)
ClubProxyProxy.objects.create(name="chess").delete()
Club.objects.create(name="go")
Club.objects.create(name="chess")
live.register(Club)
live.unregister(Club)
print(json.dumps([sent, live_signals.post_delete.has_listeners(Club)]))
""",
    ) == [
        [
            ["created", 1],
            ["updated", 1],
            ["created", 2],
            ["deleted", 1],
            ["deleted", 2],
        ],
        False,
    ]
