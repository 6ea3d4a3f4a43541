"""The companion of one worker process: what the plugin starts and the resolver asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from bridgehead import access, counters, events, manifest
from bridgehead.annotation import TIERS, Tier
from bridgehead.catalog import StateCatalog
from bridgehead.frames import FrameType
from bridgehead.handover import Handover, Note, enter, note_of
from bridgehead.link import Link, Worker
from bridgehead.link_address import LinkUrlError, parse_link_url
from bridgehead.link_pool import LinkPool
from bridgehead.live.worker import LiveChanges
from bridgehead.rules import Decision, Login, RulesError, RuleTable, compile_rules
from bridgehead.settings import DEFAULT_NAME, Settings
from bridgehead.shadow import Recorder
from bridgehead.stats import Stats
from bridgehead.virtual_sessions import VirtualSessions

logger = logging.getLogger("bridgehead")

AppResolver = Callable[[Any, Any], Any]


class Companion:
    """Decides the tier of every event of one app."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self.settings = settings
        self.instance = str(uuid.uuid4())
        self.host = socket.gethostname()
        self.catalog = StateCatalog(app._registration_context)
        self.facts = manifest.AppFacts.read()
        self.shadow = Recorder(self._tell_report)
        self.handover = Handover(
            settings.keyring("annotation"),
            lambda: self.name,
            self.facts.cookie,
            tell_session=self._tell_session,
            record=self.shadow.record,
            after_event=_after_event() if self.facts.uses_django else lambda: None,
        )
        # An app without any state has no Socket.IO server.
        self.sessions = VirtualSessions(app) if settings.link_sessions and app.sio is not None else None
        self.stats = None if self.sessions is None else Stats(self.sessions)
        self._auth_source: Any = _auth_source() if self.facts.answers_auth else None
        self._permissions: tuple[str, ...] = ()
        self._loop = asyncio.get_running_loop()
        self.live: LiveChanges | None = None
        self._pool: LinkPool | None = None
        self._learned_name: str | None = None
        self._app_resolver = _import_resolver(self.facts.resolver)
        self._plain = RuleTable(states=self.catalog, app_mode=self.facts.mode)
        self._table = self._plain
        self._said: set[str] = set()

    @property
    def name(self) -> str:
        """The deployment's name: the environment's, else that of the sidecar that proved the secret."""
        return self.settings.name or self._learned_name or DEFAULT_NAME

    def learn_name(self, name: str) -> None:
        """A sidecar that proved the secret says its name."""
        self._learned_name = name

    def link_pool(self) -> LinkPool | None:
        """Links to every sidecar; None without a secret."""
        keyring = self.settings.keyring("link")
        if keyring is None:
            logger.warning("BRIDGEHEAD_SECRET is not set: no sidecar is looked for, the app runs as it is")
            return None
        urls = []
        for text in self.settings.link_urls:
            try:
                urls.append(parse_link_url(text))
            except LinkUrlError as error:
                logger.error("BRIDGEHEAD_LINK_URL: %s", error)
        self.live = LiveChanges(uses_django=self.facts.uses_django)
        worker = Worker(
            keyring=keyring,
            name=lambda: self.settings.name or self._learned_name,
            learn_name=self.learn_name,
            manifest=self.manifest,
            stamp=self.catalog.size,
            use_rules=self.use_rules,
            linked=set(),
            answer=None if self._auth_source is None else self._answer,
            sessions=self.sessions,
            live=self.live,
        )
        if self.facts.uses_django:
            events.count_queries()
        self._pool = LinkPool(urls, worker, on_missed=self._catch_up)
        return self._pool

    async def _answer(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        """The AUTH_REPLY to an AUTH_QUERY."""
        cookie = query.get("cookie")
        permissions = self._permissions
        reply = await self._auth_source.answer(
            cookie if isinstance(cookie, str) else "", permissions, read_primary=query.get("primary") is True
        )
        result = reply["result"]
        if result["kind"] == "user":
            # Whoever asks may have sent its rules before another sidecar did.
            result = {**result, "asked": list(permissions)}
        return {"id": query.get("id"), **reply, "result": result}

    def _tell_session(self, token_hash: str, session: str | None, cookie: str | None) -> None:
        counters.add("session.changed")
        if self._pool is not None:
            self._pool.tell_session({"t": token_hash, "session": session, "cookie": cookie})

    def session_stored(self, note: Note) -> None:
        """The running event's tab has another session, and it is stored. From any thread."""
        # As an invalidation, and behind the one that this session may have caused itself.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.handover.tell_session, note)

    def _tell_report(self, body: Mapping[str, Any]) -> None:
        if self._pool is not None:
            self._pool.broadcast(FrameType.REPORT, body)

    def invalidate(self, body: Mapping[str, Any]) -> None:
        """Tell every linked sidecar. From any thread."""
        # A closed loop: the worker is about to end, and its links with it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._broadcast_invalidation, body)

    def _broadcast_invalidation(self, body: Mapping[str, Any]) -> None:
        counters.add("invalidation.sent")
        if self._pool is not None:
            self._pool.broadcast(FrameType.INVALIDATE, body, must_hear=True)

    @staticmethod
    def _catch_up(link: Link) -> None:
        """A sidecar was away while something was invalidated: it must not trust what it knew before."""
        link.send(FrameType.INVALIDATE, {"id": secrets.token_urlsafe(12), "all": True})

    def manifest(self) -> dict[str, Any]:
        """What this worker says of itself, now."""
        sessions = manifest.SessionFacts(capacity=self.settings.capacity)
        if self.sessions is not None:
            sessions = replace(self.sessions.facts(), capacity=self.settings.capacity)
        return manifest.build(
            self.catalog,
            self.facts,
            name=self.settings.name,
            instance=self.instance,
            host=self.host,
            sessions=sessions,
        )

    def use_rules(self, body: Mapping[str, Any]) -> None:
        """Take the rules that a sidecar sent; rules that cannot be read change nothing. They outlive the link."""
        try:
            self._table = compile_rules(body, states=self.catalog, app_mode=self.facts.mode)
        except RulesError as error:
            counters.add("rules.refused")
            logger.error("the sidecar's rules cannot be read, at %s; the former ones stay", error)
            return
        permissions = body.get("permissions", [])
        names = permissions if isinstance(permissions, list) else []
        self._permissions = tuple(name for name in names if isinstance(name, str))
        counters.add("rules.received")
        is_shadow = self.shadow.follow(body)
        if self.facts.uses_django:
            _watch_django(is_shadow)

    def resolve(self, state_class: Any, event: Any) -> Tier:
        """The tier of an event, for reflex-django."""
        note = note_of(event)
        enter(note)
        decision, shadow = self._decide(state_class, event, note)
        if decision.tier == "none" and self.access_of(event, note):
            # Whoever must be asked for needs a request.
            decision = replace(decision, tier="auth_only", raised="access")
        if shadow is not None or events.watched():
            note.report = events.EventReport(
                event=event.name,
                origin=note.origin,
                tier=decision.tier,
                source=decision.source,
                raised=decision.raised,
                annotation=note.outcome,
                shadow=shadow,
            )
            events.decided(note.report)
            if shadow is not None:
                note.watch = self.shadow.watch(note.report, self._class_of(event.name), shadow)
        return decision.tier

    def access_of(self, event: Any, note: Note) -> tuple[Login, ...]:
        """What this worker must ask of the event's user before its handler runs."""
        if note.claims is not None:
            # The sidecar has seen to the rest.
            return note.claims.rules
        if self._table.shadow:
            return ()
        asked = self._table.access(event.name, path=note.path)
        if not asked:
            return ()
        return asked if access.concerns(self._class_of(event.name), event.name.rpartition(".")[2]) else ()

    def _class_of(self, event_name: str) -> str:
        facts = self.catalog.get(event_name.rpartition(".")[0])
        return facts.dotted if facts is not None else ""

    def _decide(self, state_class: Any, event: Any, note: Note) -> tuple[Decision, Decision | None]:
        if note.claims is not None and note.claims.tier is not None:
            return Decision(note.claims.tier, "annotation"), None

        def ask(table: RuleTable) -> Decision:
            return table.decide(
                event.name,
                path=note.path,
                upload=note.origin == "upload",
                resolved=note.claims is not None,
                app=lambda: self._ask_app(state_class, event),
            )

        if self._table.shadow:
            return ask(self._plain), ask(self._table)
        return ask(self._table), None

    def _ask_app(self, state_class: Any, event: Any) -> Tier | None:
        if self._app_resolver is None:
            return None
        try:
            answer = self._app_resolver(state_class, event)
        except Exception:
            counters.add("resolver.failed")
            if event.name not in self._said and len(self._said) < 1_000:
                self._said.add(event.name)
                logger.exception("the app's own resolver failed for %s, which gets full", event.name)
            return "full"
        tier = str(answer).strip().lower()
        return cast("Tier", tier) if answer is not None and tier in TIERS else None


def _auth_source() -> Any:
    from bridgehead.django.auth_source import AuthSource

    return AuthSource()


def _after_event() -> Callable[[], None]:
    from bridgehead.django import broken

    broken.watch()
    return broken.after_event


def _watch_django(wanted: bool) -> None:
    from bridgehead.django import watching

    watching.install() if wanted else watching.remove()


def _import_resolver(dotted: str | None) -> AppResolver | None:
    if dotted is None:
        return None
    from django.utils.module_loading import import_string

    return cast("AppResolver", import_string(dotted))


_current: Companion | None = None


def current() -> Companion | None:
    """This process's companion, once its app has started."""
    return _current


def start(app: Any, settings: Settings) -> Companion:
    """Make the companion of this process; called once the app's event processor runs."""
    global _current
    _current = Companion(app, settings)
    return _current
