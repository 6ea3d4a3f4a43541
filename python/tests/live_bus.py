"""The part of a sidecar that brings changes to those who asked for them, over the links of the test's own."""

from __future__ import annotations

from typing import Any

from bridgehead import session_frames as sf
from bridgehead.frames import Frame, FrameType
from bridgehead.live.change import Change, read_change
from sidecar import Connection, Sidecar
from virtual_client import VirtualClient


class LiveBus:
    """`refuses`: so many times it says that the bus has not got it."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.changes: list[Change] = []
        self.batches: list[tuple[Connection, int, list[Change]]] = []
        self.gaps: list[str | None] = []
        self.refuses = 0
        self.is_mute = False
        self._wanted: dict[Connection, list[str] | None] = {}
        sidecar.on_live = self._on_frame

    def _on_frame(self, connection: Connection, frame: Frame) -> None:
        body = frame.json()
        if frame.type == FrameType.WATCH:
            self._wanted[connection] = body["models"]
            return
        read = [read_change(entry) for entry in body.get("changes", [])]
        changes = [change for change in read if change is not None]
        assert len(changes) == len(read)
        if frame.type == FrameType.CHANGES:
            self.batches.append((connection, body["n"], changes))
        if self.is_mute:
            return
        ok = self.refuses == 0
        self.refuses = max(0, self.refuses - 1)
        connection.send(FrameType.CHANGED, {"n": body["n"], "ok": ok})
        if not ok:
            return
        if frame.type == FrameType.GAP:
            self.gaps.append(body.get("model"))
        else:
            self.publish(*changes)

    def forget(self) -> None:
        """What came so far."""
        self.changes, self.batches, self.gaps = [], [], []
        self.refuses, self.is_mute = 0, False

    def watched(self) -> list[list[str] | None]:
        """What each live link asked for."""
        return [models for connection, models in self._wanted.items() if not connection.closed]

    def publish(self, *changes: Change) -> None:
        """Bring changes to every worker that watches, and to every session that subscribed."""
        self.changes += changes
        for connection, models in self._wanted.items():
            wanted = [change for change in changes if models is None or change.model in models]
            if wanted and not connection.closed:
                connection.send(FrameType.CHANGES, {"changes": [change.to_json() for change in wanted]})
        for client, subscription in self.subscriptions():
            fitting = [change for change in changes if _fits(change, subscription)]
            if fitting:
                self._inject(client, subscription, fitting)

    def gap(self) -> None:
        """Tell everybody that changes were missed."""
        for connection in self._wanted:
            connection.send(FrameType.GAP, {})
        for client, subscription in self.subscriptions():
            self._inject(client, subscription, [])

    def subscriptions(self) -> list[tuple[VirtualClient, sf.Subscribe]]:
        clients = {client for connection in self.sidecar.connections for client in connection.clients.values()}
        return [
            (client, subscription)
            for client in clients
            if isinstance(client, VirtualClient)
            for subscription in client.subscriptions.values()
        ]

    def _inject(self, client: VirtualClient, subscription: sf.Subscribe, changes: list[Change]) -> None:
        told = [{"model": change.model, "action": change.action, "pk": change.pk} for change in changes]
        payload: dict[str, Any] = {"subscription": subscription.id, "changes": told, "reload": not changes}
        client.n += 1
        client.put(sf.Inject(client.n, subscription.handler, {"live": payload}))


def _fits(change: Change, subscription: sf.Subscribe) -> bool:
    return (
        change.model == subscription.model
        and (subscription.pks is None or change.pk in subscription.pks)
        and (subscription.tags is None or not change.tags or bool(set(change.tags) & set(subscription.tags)))
    )
