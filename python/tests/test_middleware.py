"""The middleware on requests as reflex-django makes them, and on those that come over HTTP."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import alogin, alogout, login
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.module_loading import import_string

from bridgehead import handover, recent
from bridgehead.annotation import Anonymous, KnownUser, Unknown, session_hash
from bridgehead.django import inline
from bridgehead.django.auth_source import find
from bridgehead.django.checks import check_settings
from bridgehead.handover import Note, unix_ms
from django_site import ENGINES, MODEL_BACKEND, log_in, store
from people.models import Person

Middleware: Any = import_string("bridgehead.django.AuthenticationMiddleware")
COOKIE = "people_session"


@pytest.fixture(autouse=True)
def _nothing_lately() -> None:
    recent.distrusted.__init__()  # type: ignore[misc]


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.rpartition(".")[2])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    with override_settings(SESSION_ENGINE=request.param):
        yield request.param


def person(**fields: Any) -> Person:
    return Person.objects.create_user(f"{uuid.uuid4().hex}@people.example", "engine", **fields)


def event_request(cookie: str | None) -> HttpRequest:
    request = HttpRequest()
    request._reflex_django_headers = {}
    request.user = AnonymousUser()
    request.COOKIES = {} if cookie is None else {COOKIE: cookie}
    return request


def note_for(cookie: str, user: Any, **changed: Any) -> Note:
    now = unix_ms()
    facts = {
        "user": user,
        "user_until": now + 10_000,
        # Past what is distrusted after an invalidation.
        "issued_at": now + 7_000,
        "session_hash": session_hash(cookie),
        "token": "tab",
        "sid": "socket",
    }
    return Note(**(facts | changed))


def known(cookie: str) -> KnownUser:
    return KnownUser(find(cookie, ())[0]["user"])


def through(request: HttpRequest, note: Note | None, *, view: Callable[[Any], None] = lambda request: None) -> Any:
    """Run the request through the middleware alone, in an event loop, as reflex-django does for auth_only."""

    async def work() -> Any:
        if note is not None:
            handover.enter(note)

        async def respond(request: Any) -> HttpResponse:
            await sync_to_async(view)(request)
            return HttpResponse()

        return await Middleware(respond)(request)

    return contextvars.copy_context().run(asyncio.run, work())


def test_it_is_djangos_to_djangos_own_checks() -> None:
    from django.contrib.auth.middleware import AuthenticationMiddleware

    assert issubclass(Middleware, AuthenticationMiddleware)
    assert (Middleware.async_capable, Middleware.sync_capable) == (True, True)


def test_an_event_has_its_user_and_its_session_for_nothing(engine: str) -> None:
    user = person()
    cookie = log_in(user)
    note = note_for(cookie, known(cookie))
    request = event_request(cookie)
    with CaptureQueriesContext(connection) as queries:
        through(request, note)
        assert (request.user, type(request.user)) == (user, Person)
        assert asyncio.run(request.auser()) is request.user
        assert request.session.session_key == cookie
    assert len(queries) == 0
    assert not request.session.accessed
    assert not request.session.modified
    assert not hasattr(request.session, "_session_cache")
    # A handler reads it without await.
    assert asyncio.run(read(request)) == str(user.pk)


async def read(request: HttpRequest) -> str:
    return str(request.session["_auth_user_id"])


@pytest.mark.parametrize("before", ["", "a[b]=1; ", 'x={"a":1}; ', "sid@x; "])
def test_a_cookie_that_only_django_can_read_hides_none_behind_it(before: str) -> None:
    user = person()
    cookie = log_in(user)
    for note in (note_for(cookie, known(cookie)), None):
        request = made_by_reflex_django(f"{before}{COOKIE}={cookie}")
        through(request, note)
        assert (request.user, request.session.session_key) == (user, cookie)
        # Behind Django's own middleware, in tier full.
        request = made_by_reflex_django(f"{before}{COOKIE}={cookie}")
        SessionMiddleware(lambda _: HttpResponse()).process_request(request)
        through(request, note)
        assert (request.user, request.session.session_key) == (user, cookie)


def test_what_another_middleware_made_of_the_cookies_stays() -> None:
    cookie = log_in(person())
    request = made_by_reflex_django(f"a[b]=1; {COOKIE}={cookie}")
    request.COOKIES = {"blocked": "yes"}
    through(request, note_for(cookie, known(cookie)))
    assert request.user.is_anonymous


def made_by_reflex_django(header: str) -> Any:
    from reflex_django.bridge.event.request_builder import _build_request_from_router_data

    request = _build_request_from_router_data({"headers": {"cookie": header}})
    request.user = AnonymousUser()
    return request


@pytest.mark.parametrize(
    "changed",
    [
        {"user": Unknown()},
        {"user_until": 0},
        {"session_hash": session_hash("another")},
        {"session_hash": ""},
        {"user": Anonymous(), "session_hash": ""},
        {"user": KnownUser({})},
    ],
)
def test_otherwise_django_is_asked(changed: dict[str, Any]) -> None:
    user = person()
    cookie = log_in(user)
    request = event_request(cookie)
    through(request, note_for(cookie, **({"user": known(cookie)} | changed)))
    assert request.user == user
    assert "_cached_user" in request.__dict__


def test_what_this_process_invalidated_is_asked_for_again() -> None:
    user = person()
    cookie = log_in(user)
    note = note_for(cookie, known(cookie), issued_at=unix_ms())
    Person.objects.filter(pk=user.pk).update(is_active=False)
    request = event_request(cookie)
    through(request, note)
    assert request.user == user  # nobody told
    user.is_active = False
    user.save()
    request = event_request(cookie)
    through(request, note)
    assert request.user.is_anonymous


def test_anonymous_too() -> None:
    request = event_request("some-cookie-of-nobody")
    with CaptureQueriesContext(connection) as queries:
        through(request, note_for("some-cookie-of-nobody", Anonymous()))
    assert isinstance(request.user, AnonymousUser)
    assert len(queries) == 0
    request = event_request(None)
    through(request, note_for("", Anonymous()))
    assert isinstance(request.user, AnonymousUser)


def test_a_page_request_is_djangos_even_inside_an_event() -> None:
    somebody, boss = person(), person(is_superuser=True)
    mine, theirs = log_in(somebody), log_in(boss)
    request = RequestFactory().get("/")
    request.COOKIES[COOKIE] = mine
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    through(request, note_for(theirs, known(theirs)))
    assert request.user == somebody
    same = RequestFactory().get("/")
    same.COOKIES[COOKIE] = theirs
    SessionMiddleware(lambda _: HttpResponse()).process_request(same)
    through(same, note_for(theirs, known(theirs)))
    assert "_cached_user" not in same.__dict__


def test_a_page_request_without_a_session_is_a_mistake() -> None:
    with pytest.raises(ImproperlyConfigured):
        through(RequestFactory().get("/"), None)


def test_it_works_in_a_chain_that_is_not_async() -> None:
    user = person()
    cookie = log_in(user)
    request = event_request(cookie)
    context = contextvars.copy_context()
    context.run(handover.enter, note_for(cookie, known(cookie)))
    response = context.run(Middleware(lambda request: HttpResponse("done")), request)
    assert response.content == b"done"
    assert request.user == user


def test_a_session_that_it_made_is_saved_in_the_end(engine: str) -> None:
    cookie = log_in(person())
    request = event_request(cookie)

    def view(request: Any) -> None:
        request.session["seen"] = True

    response = through(request, note_for(cookie, known(cookie)), view=view)
    assert COOKIE in response.cookies
    assert store(response.cookies[COOKIE].value)["seen"] is True


def test_a_login_gives_the_tab_its_session(engine: str) -> None:
    user = person()
    note = note_for("", Anonymous())
    request = event_request(None)

    def view(request: Any) -> None:
        login(request, user, backend=MODEL_BACKEND)
        request.session.save()

    async def work() -> tuple[bool, str | None]:
        handover.enter(note)
        await Middleware(respond)(request)
        await alogin(request, user, backend=MODEL_BACKEND)
        await request.session.asave()
        return handover.changed_session(Note(token="tab", sid="socket"))

    async def respond(request: Any) -> HttpResponse:
        return HttpResponse()

    changed, cookie = contextvars.copy_context().run(asyncio.run, work())
    assert (changed, cookie) == (True, request.session.session_key)
    assert find(str(cookie), ())[0]["kind"] == "user"
    assert handover.changed_session(Note(token="tab", sid="another-socket")) == (False, None)
    assert handover.changed_session(Note(token="tab", sid="")) == (False, None)
    assert handover.changed_session(Note(token="another", sid="socket")) == (False, None)
    # The tab's next event, with the cookie of before and the user of before.
    later = event_request(None)
    through(later, note_for("", Anonymous()))
    assert (later.user, later.session.session_key) == (user, cookie)

    async def leave() -> tuple[bool, str | None]:
        handover.enter(note_for("", Anonymous()))
        request = event_request(None)
        await Middleware(respond)(request)
        await alogout(request)
        return handover.changed_session(Note(token="tab", sid="socket"))

    changed, cookie = contextvars.copy_context().run(asyncio.run, leave())
    assert changed
    assert not cookie
    later = event_request(None)
    through(later, note_for("", Anonymous()))
    assert later.user.is_anonymous
    handover.tabs.drop("socket", "tab")
    assert handover.changed_session(Note(token="tab", sid="socket")) == (False, None)


def test_an_upload_changes_no_tabs_session() -> None:
    user = person()

    async def respond(request: Any) -> HttpResponse:
        return HttpResponse()

    async def work() -> Any:
        note = note_for("", Anonymous(), sid="", origin="upload")
        handover.enter(note)
        request = event_request(None)
        await Middleware(respond)(request)
        await alogin(request, user, backend=MODEL_BACKEND)
        return note.changed_store

    assert contextvars.copy_context().run(asyncio.run, work()) is None
    assert len(handover.tabs) == 0


class Threads:
    """A middleware's step, with the thread that it ran in."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def mark(self, *_: Any) -> None:
        self.names.append(threading.current_thread().name)


def chained(middleware: Any, request: HttpRequest, handler: Callable[[Any], None]) -> tuple[Any, Threads]:
    """Run the request through one of Django's middlewares, and see where its first step runs."""
    threads = Threads()

    async def work() -> Any:
        async def respond(request: Any) -> HttpResponse:
            handler(request)
            return HttpResponse()

        instance = middleware(respond)
        original = instance.process_request
        instance.process_request = lambda request: (threads.mark(), original(request))[1]
        return await instance(request)

    return asyncio.run(work()), threads


def nothing(request: Any) -> None:
    pass


def change_session(request: Any) -> None:
    request.session["seen"] = True


@pytest.mark.parametrize("middleware", [SessionMiddleware, type("OwnSession", (SessionMiddleware,), {})])
@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("handler", [nothing, change_session])
def test_steps_that_wait_for_nothing_stay_in_the_loop_in_events_only(
    middleware: Any, page: bool, handler: Callable[[Any], None]
) -> None:
    inline.install()
    inline.install()
    request = RequestFactory().get("/") if page else event_request(None)
    response, threads = chained(middleware, request, handler)
    in_loop = threads.names == [threading.current_thread().name]
    assert in_loop == (not page and middleware is SessionMiddleware)
    assert (COOKIE in response.cookies) == (handler is change_session)
    if handler is change_session:
        assert store(response.cookies[COOKIE].value)["seen"] is True


OURS = "bridgehead.django.AuthenticationMiddleware"
DJANGOS = "django.contrib.auth.middleware.AuthenticationMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, []),
        ({"MIDDLEWARE": [SESSION, DJANGOS]}, ["bridgehead.W002"]),
        ({"MIDDLEWARE": [OURS]}, ["bridgehead.E001"]),
        ({"MIDDLEWARE": [OURS, SESSION]}, ["bridgehead.E001"]),
        ({"RX_AUTH_ONLY_MIDDLEWARE": [SESSION, DJANGOS]}, ["bridgehead.W003"]),
        ({"RX_AUTH_ONLY_MIDDLEWARE": None}, ["bridgehead.W003"]),
        ({"SESSION_SAVE_EVERY_REQUEST": True}, ["bridgehead.W004"]),
        ({"RX_EVENT_CACHE_TTL": 60}, ["bridgehead.W005"]),
        ({"RX_EVENT_CACHE_TTL": 0}, []),
    ],
)
def test_the_settings_are_checked(settings: dict[str, Any], found: list[str]) -> None:
    with override_settings(**settings):
        problems = check_settings()
    assert [problem.id for problem in problems] == found
    assert all(problem.hint for problem in problems)
