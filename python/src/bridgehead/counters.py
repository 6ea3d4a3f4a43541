"""What the companion counted in this process since it started.

`snapshot()` gives every counter that is not zero, for example `{"annotation.valid": 12, "annotation.expired": 1}`.
Names: `annotation.valid` and one per reason of docs/PROTOCOL.md, `annotation.unasked` (one came while no secret is
configured, or on an event born in Python), `resolver.failed`, `rules.received`, `rules.refused`, `link.connected`,
`link.lost`, `link.failed`, `user.handed_over`, `user.refused` (a snapshot that is no user of this app), `auth.user`,
`auth.anonymous`, `auth.unavailable` (answers to the sidecar), `access.login`, `access.forbidden`, `access.unknown`
(refused events), `session.changed`, `invalidation.sent`. Of virtual sessions: `session.attached`, `session.resumed`,
`session.takeover`, `session.expired` (their link did not come back), `session.ended_` and the reason, `session.resync`,
`session.resync_failed`, `session.error`, `attach.` and the error an ATTACH got, `inject.refused` (no such handler),
`tokens.unavailable` (Redis did not answer about a token). Of live changes: `live.published` (a bus has them),
`live.retried`, `live.dropped` and `live.gap_told` (too many to wait, and told as a gap), `live.written` (into the
outbox), `live.unpublished` (no way out of this process), `live.broadcast`, `live.subscribed`, `live.not_live`.
"""

from __future__ import annotations

from collections import Counter

_counts: Counter[str] = Counter()


def add(name: str) -> None:
    """Count one. From the event loop's thread, or where a count that is one short hurts nobody."""
    _counts[name] += 1


def get(name: str) -> int:
    """How often this was counted."""
    return _counts[name]


def snapshot() -> dict[str, int]:
    """A copy of all counters."""
    return dict(_counts)


def reset() -> None:
    """Forget everything; for tests."""
    _counts.clear()
