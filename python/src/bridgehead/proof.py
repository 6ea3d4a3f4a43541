"""Both sides of a link prove that they know the secret (docs/PROTOCOL.md, "Proof")."""

from __future__ import annotations

import hmac
from typing import Literal

from bridgehead.keys import Key

Label = Literal["worker", "sidecar", "session"]
NONCE_BYTES = 32


def link_mac(
    key: Key, label: Label, *, name: str, sidecar_nonce: str, worker_nonce: str, said: str | None = None
) -> str:
    """The mac that one side sends. The label says which side, so that no mac can be sent back as one's own.

    `said`: what else it is for, such as a session of which the worker tells.
    """
    parts = ("bridgehead-link-v1", label, name, sidecar_nonce, worker_nonce, *(() if said is None else (said,)))
    text = "\n".join(parts)
    return key.sign(text.encode("utf-8"))


def link_mac_fits(
    mac: object,
    key: Key,
    label: Label,
    *,
    name: str,
    sidecar_nonce: str,
    worker_nonce: str,
    said: str | None = None,
) -> bool:
    """Compare in constant time; anything that is not text never fits."""
    if not isinstance(mac, str):
        return False
    expected = link_mac(key, label, name=name, sidecar_nonce=sidecar_nonce, worker_nonce=worker_nonce, said=said)
    return hmac.compare_digest(expected.encode("ascii"), mac.encode("utf-8", "replace"))
