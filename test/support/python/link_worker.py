"""The companion's own link and auth source, for a Django project that has no Reflex app."""

import asyncio
import threading
import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from bridgehead import manifest
from bridgehead.catalog import StateCatalog
from bridgehead.django.auth_source import AuthSource
from bridgehead.keys import Keyring
from bridgehead.link import Worker
from bridgehead.link_address import parse_link_url
from bridgehead.link_pool import LinkPool


class LinkWorker:
    """Dials one sidecar from a thread of its own and answers what it asks, with the permissions that its rules name."""

    def __init__(self, url: str, secret: str, cookie_name: str) -> None:
        self._source = AuthSource()
        self._permissions: tuple[str, ...] = ()
        catalog = StateCatalog(SimpleNamespace(base_states={}, event_handlers={}))
        facts = manifest.AppFacts(cookie=cookie_name, login_url="/login", uses_django=True, answers_auth=True)
        body = manifest.build(catalog, facts, name=None, instance=str(uuid.uuid4()), host="localhost")
        worker = Worker(
            keyring=Keyring("link", secret, ()),
            name=lambda: None,
            learn_name=lambda name: None,
            manifest=lambda: body,
            stamp=lambda: 0,
            use_rules=self._use_rules,
            linked=set(),
            answer=self._answer,
        )
        self._pool = LinkPool([parse_link_url(url)], worker)
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._pool.run())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave in order."""
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(asyncio.wait({self._task}))
        self._loop.close()

    def _use_rules(self, body: Mapping[str, Any]) -> None:
        self._permissions = tuple(body["permissions"])

    async def _answer(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        reply = await self._source.answer(
            str(query["cookie"]), self._permissions, read_primary=query.get("primary") is True
        )
        return {"id": query["id"], **reply}
