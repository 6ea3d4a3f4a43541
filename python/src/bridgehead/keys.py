"""Keys made from the shared secret (docs/PROTOCOL.md, "Keys").

One secret makes every key: HKDF-SHA-256 with an info string per purpose, so that a value signed for one purpose
means nothing for another. A rotation keeps the previous secrets for reading; new values are made with the current one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Purpose = Literal["annotation", "link", "cache", "dashboard"]

MIN_SECRET_BYTES = 32
KEY_BYTES = 32
KID_BYTES = 6


class SecretError(ValueError):
    """The secret is missing or too short. The message never holds the secret."""


def base64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def hkdf_sha256(ikm: bytes, info: bytes, length: int = KEY_BYTES, salt: bytes = b"") -> bytes:
    """HKDF with SHA-256 (RFC 5869); at most 255 blocks of 32 bytes."""
    pseudo_random_key = hmac.digest(salt or bytes(hashlib.sha256().digest_size), ikm, "sha256")
    output = block = b""
    counter = 1
    while len(output) < length:
        block = hmac.digest(pseudo_random_key, block + info + bytes([counter]), "sha256")
        output += block
        counter += 1
    return output[:length]


def derive_key(secret: str, purpose: Purpose) -> bytes:
    """The key of 32 bytes that this secret gives for a purpose."""
    return hkdf_sha256(secret.encode("utf-8"), f"bridgehead/{purpose}/v1".encode("ascii"))


def key_id(secret: str) -> str:
    """The name of a secret: 8 characters that do not tell it."""
    return base64url(hkdf_sha256(secret.encode("utf-8"), b"bridgehead/kid/v1")[:KID_BYTES])


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """A derived key and the name of the secret that it came from. Its repr shows the name only."""

    kid: str
    value: bytes

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r})"

    def sign(self, message: bytes) -> str:
        """HMAC-SHA-256 of the message, in base64url."""
        return base64url(hmac.digest(self.value, message, "sha256"))


class Keyring:
    """The keys of one purpose: the current one for making, all of them for checking."""

    def __init__(self, purpose: Purpose, secret: str, previous: Iterable[str] = ()) -> None:
        secrets = [secret, *previous]
        for text in secrets:
            if len(text.encode("utf-8")) < MIN_SECRET_BYTES:
                raise SecretError(f"a secret must have at least {MIN_SECRET_BYTES} bytes")
        self.purpose = purpose
        self._keys: dict[str, Key] = {}
        for text in secrets:
            kid = key_id(text)
            self._keys.setdefault(kid, Key(kid, derive_key(text, purpose)))
        self.current = self._keys[key_id(secret)]

    def get(self, kid: str) -> Key | None:
        """The key of that name, or None when this side does not know it."""
        return self._keys.get(kid)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every key, the current one first."""
        return tuple(self._keys.values())

    def __repr__(self) -> str:
        return f"Keyring(purpose={self.purpose!r}, kids={list(self._keys)!r})"
