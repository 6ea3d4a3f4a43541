"""Both sides of a link prove that they know the secret (docs/PROTOCOL.md, "Proof")."""

from __future__ import annotations

import hmac
from typing import Literal

from bridgehead.keys import Key

Label = Literal["worker", "sidecar"]
NONCE_BYTES = 32


def link_mac(key: Key, label: Label, *, name: str, sidecar_nonce: str, worker_nonce: str) -> str:
    """The mac that one side sends. The label says which side, so that no mac can be sent back as one's own."""
    text = "\n".join(("bridgehead-link-v1", label, name, sidecar_nonce, worker_nonce))
    return key.sign(text.encode("utf-8"))


def link_mac_fits(mac: object, key: Key, label: Label, *, name: str, sidecar_nonce: str, worker_nonce: str) -> bool:
    """Compare in constant time; anything that is not text never fits."""
    if not isinstance(mac, str):
        return False
    expected = link_mac(key, label, name=name, sidecar_nonce=sidecar_nonce, worker_nonce=worker_nonce)
    return hmac.compare_digest(expected.encode("ascii"), mac.encode("utf-8", "replace"))
