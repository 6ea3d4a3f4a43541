"""The signed note on one event (docs/PROTOCOL.md, "Annotation").

`verify` never raises: whatever a client or a broken sidecar sends gives a `Valid` or an `Invalid` with the reason.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from bridgehead.keys import Keyring, base64url

VERSION = "v1"
MAX_PAYLOAD_CHARACTERS = 8_192
MAX_LIFE_MS = 15_000
SKEW_MS = 5_000

Tier = Literal["none", "auth_only", "full"]
TIERS: frozenset[str] = frozenset(get_args(Tier))

Reason = Literal[
    "malformed",
    "version",
    "kid",
    "mac",
    "claims",
    "name",
    "token",
    "session",
    "handler",
    "expired",
    "future",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_MAX_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Unknown:
    """The sidecar did not say who the user is: the worker finds out by itself."""


@dataclass(frozen=True, slots=True)
class Anonymous:
    """The sidecar knows that nobody is logged in."""


@dataclass(frozen=True, slots=True, repr=False)
class KnownUser:
    """The sidecar knows the user. The snapshot stays out of the repr, so it stays out of logs."""

    snapshot: Mapping[str, Any]

    def __repr__(self) -> str:
        return "KnownUser(...)"


User = Unknown | Anonymous | KnownUser


@dataclass(frozen=True, slots=True)
class Claims:
    """What an annotation says. Times are Unix times in milliseconds. `rules`: what the worker must ask of the user."""

    name: str
    token_hash: str
    session_hash: str
    handler: str
    issued_at: int
    expires_at: int
    tier: Tier | None = None
    user: User = Unknown()
    rules: tuple[str | Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "n": self.name,
            "t": self.token_hash,
            "s": self.session_hash,
            "h": self.handler,
            "iat": self.issued_at,
            "exp": self.expires_at,
        }
        if self.tier is not None:
            body["tier"] = self.tier
        if self.rules:
            body["r"] = [rule if isinstance(rule, str) else dict(rule) for rule in self.rules]
        match self.user:
            case Anonymous():
                body["u"] = None
            case KnownUser(snapshot):
                body["u"] = dict(snapshot)
            case Unknown():
                pass
        return body


@dataclass(frozen=True, slots=True)
class Valid:
    claims: Claims


@dataclass(frozen=True, slots=True)
class Invalid:
    reason: Reason


Verification = Valid | Invalid


# A tab's token and session come with each of its events.
@lru_cache(maxsize=4_096)
def _hash(label: str, value: str) -> str:
    digest = hashlib.sha256(label.encode("ascii") + b"\0" + value.encode("utf-8", "surrogatepass"))
    return base64url(digest.digest()[:16])


def token_hash(token: str) -> str:
    """The hash that stands for a Reflex client token."""
    return _hash("bridgehead/token/v1", token)


def session_hash(session: str | None) -> str:
    """The hash that stands for the session cookie's value; empty without a cookie."""
    return _hash("bridgehead/session/v1", session) if session else ""


def make(claims: Claims, keyring: Keyring) -> str:
    """Sign the claims with the keyring's current key. `ValueError` for what JSON or the protocol has no room for."""
    payload = base64url(json.dumps(claims.to_json(), separators=(",", ":"), allow_nan=False).encode("utf-8"))
    if len(payload) > MAX_PAYLOAD_CHARACTERS:
        raise ValueError(f"an annotation's payload may have {MAX_PAYLOAD_CHARACTERS} characters, not {len(payload)}")
    signed = f"{VERSION}.{keyring.current.kid}.{payload}"
    return f"{signed}.{keyring.current.sign(signed.encode('ascii'))}"


def verify(
    text: object,
    keyring: Keyring,
    *,
    name: str,
    token: str,
    session: str | None,
    handler: str,
    now: int,
) -> Verification:
    """Check an annotation against the event at hand; `now` is the Unix time in milliseconds."""
    if not isinstance(text, str):
        return Invalid("malformed")
    form = _FORM.fullmatch(text)
    if form is None:
        return Invalid("malformed")
    version, kid, payload, mac = form.groups()
    if len(payload) > MAX_PAYLOAD_CHARACTERS:
        return Invalid("malformed")
    if version != VERSION:
        return Invalid("version")
    key = keyring.get(kid)
    if key is None:
        return Invalid("kid")
    # The texts are compared, not the decoded bytes: base64 has several spellings of the same bytes.
    if not hmac.compare_digest(key.sign(f"{version}.{kid}.{payload}".encode("ascii")), mac):
        return Invalid("mac")
    claims = _read_claims(payload)
    if claims is None:
        return Invalid("claims")
    if claims.name != name:
        return Invalid("name")
    if not _same(claims.token_hash, token_hash(token)):
        return Invalid("token")
    if not _same(claims.session_hash, session_hash(session)):
        return Invalid("session")
    if claims.handler != handler:
        return Invalid("handler")
    if now > claims.expires_at + SKEW_MS:
        return Invalid("expired")
    if now < claims.issued_at - SKEW_MS:
        return Invalid("future")
    return Valid(claims)


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


# Python reads NaN and Infinity, JSON has neither.
_JSON = json.JSONDecoder(parse_constant=_refuse_constant)


def _read_claims(payload: str) -> Claims | None:
    try:
        padded = payload + "=" * (-len(payload) % 4)
        body = _JSON.decode(base64.b64decode(padded, altchars=b"-_", validate=True).decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    name, token, session, handler = (body.get(key) for key in ("n", "t", "s", "h"))
    if not (isinstance(name, str) and isinstance(token, str) and isinstance(session, str) and isinstance(handler, str)):
        return None
    issued_at, expires_at = _integer(body.get("iat")), _integer(body.get("exp"))
    if issued_at is None or expires_at is None or not 0 <= expires_at - issued_at <= MAX_LIFE_MS:
        return None
    tier = body.get("tier")
    if "tier" in body and not (isinstance(tier, str) and tier in TIERS):
        return None
    rules = body.get("r", [])
    # A rule of a later version is one too: who enforces it without knowing it refuses.
    if not isinstance(rules, list) or ("r" in body and not rules):
        return None
    if not all(isinstance(rule, str | dict) for rule in rules):
        return None
    user: User = Unknown()
    if "u" in body:
        snapshot = body["u"]
        if snapshot is not None and not isinstance(snapshot, dict):
            return None
        user = Anonymous() if snapshot is None else KnownUser(snapshot)
    return Claims(
        name=name,
        token_hash=token,
        session_hash=session,
        handler=handler,
        issued_at=issued_at,
        expires_at=expires_at,
        tier=tier,
        user=user,
        rules=tuple(rules),
    )


def _integer(value: object) -> int | None:
    # JSON has one kind of number: 1.0 is an integer, true is not.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if abs(value) <= _MAX_SAFE_INTEGER else None
