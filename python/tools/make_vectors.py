"""Write the vectors that both languages are tested on: python tools/make_vectors.py ../test/vectors

The cryptography is written out here once more, apart from the package, so that the files judge the package instead of
repeating it. Expected answers stand in the tables below; nothing here asks the package for them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

SECRET = "a-secret-for-the-vectors-of-bridgehead-0001"
PREVIOUS = "a-secret-for-the-vectors-of-bridgehead-0000"
STRANGER = "a-secret-that-nobody-here-ever-configured-1"
UNICODE = "ein Geheimnis mit Umlauten: äöü ß und 🌉 dazu"
NOW = 1_760_000_000_000

Json = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def expand(secret: str, info: str) -> bytes:
    # One block of HKDF-Expand is the 32 bytes that every key has; the empty salt is 32 zero bytes.
    extracted = hmac.new(b"\0" * 32, secret.encode(), hashlib.sha256).digest()
    return hmac.new(extracted, info.encode() + b"\x01", hashlib.sha256).digest()


def kid(secret: str) -> str:
    return b64(expand(secret, "bridgehead/kid/v1")[:6])


def hashed(kind: str, value: str) -> str:
    return b64(hashlib.sha256(f"bridgehead/{kind}/v1".encode() + b"\0" + value.encode()).digest()[:16])


def sign(secret: str, purpose: str, text: str) -> str:
    return b64(hmac.new(expand(secret, f"bridgehead/{purpose}/v1"), text.encode(), hashlib.sha256).digest())


def keys() -> list[Json]:
    return [
        {"secret": secret, "kid": kid(secret)}
        | {
            purpose: expand(secret, f"bridgehead/{purpose}/v1").hex()
            for purpose in ("annotation", "link", "cache", "dashboard")
        }
        for secret in (SECRET, PREVIOUS, STRANGER, UNICODE)
    ]


def hashes() -> list[Json]:
    values = ["", "a", "4f1d9c1e-5f0a-4c39-9a0e-0d3c1d5b7e11", "abc123sessionkey", "ключ", "a\0b", "🌉"]
    return [{"kind": "token", "value": value, "hash": hashed("token", value)} for value in values] + [
        {"kind": "session", "value": value, "hash": hashed("session", value) if value else ""} for value in values
    ]


TOKEN = "4f1d9c1e-5f0a-4c39-9a0e-0d3c1d5b7e11"
SESSION = "abc123sessionkey"
HANDLER = "reflex___state____state.shop___cart____cart_state.toggle"
EVENT = {"name": "shop", "token": TOKEN, "session": SESSION, "handler": HANDLER}
CLAIMS = {
    "n": "shop",
    "t": hashed("token", TOKEN),
    "s": hashed("session", SESSION),
    "h": HANDLER,
    "tier": "auth_only",
    "iat": NOW,
    "exp": NOW + 10_000,
}


def token_of(payload: str, secret: str = SECRET, version: str = "v1", purpose: str = "annotation") -> str:
    signed = f"{version}.{kid(secret)}.{payload}"
    return f"{signed}.{sign(secret, purpose, signed)}"


def of_claims(claims: object, secret: str = SECRET) -> str:
    return token_of(b64(json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()), secret)


def of_bytes(data: bytes) -> str:
    return token_of(b64(data))


def without(key: str) -> Json:
    return {name: value for name, value in CLAIMS.items() if name != key}


SNAPSHOT: Json = {
    "m": "auth.user",
    "id": "42",
    "b": "django.contrib.auth.backends.ModelBackend",
    "h": "nNQZTRSyt6MDUIXt1tmvFw",
    "f": {"username": "Žofie", "is_active": True, "is_staff": False, "is_superuser": False, "last_login": None},
}


def signed_text(body: bytes, secret: str = SECRET, purpose: str = "cache") -> str:
    message = f"{kid(secret)}.{b64(body)}"
    return f"{message}.{sign(secret, purpose, message)}"


def invalidations() -> Json:
    identity = {"id": "3q2-7wAAAAAAAAAB"}
    bodies: list[Json] = [
        identity | {"user": "auth.user:42"},
        identity | {"user": "people.person:6f9619ff-8b86-d011-b42d-00c04fc964ff"},
        identity | {"user": "auth.user:größe 🌉"},
        identity | {"session": hashed("session", "s3ss10n")},
        identity | {"all": True},
    ]
    texts = [json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() for body in bodies]
    good = signed_text(texts[0])
    first, payload, mac = good.split(".")
    bad = [
        ("nothing", ""),
        ("two parts", f"{first}.{payload}"),
        ("four parts", f"{good}.x"),
        ("an unknown secret", signed_text(texts[0], "a-secret-that-nobody-here-ever-configured-1")),
        ("another purpose", signed_text(texts[0], purpose="annotation")),
        ("another payload", f"{first}.{b64(texts[4])}.{mac}"),
        ("a mac cut short", good[:-1]),
        ("a mac with padding", f"{good}="),
        ("no JSON", signed_text(b"{all:true}")),
        ("a list", signed_text(b"[1]")),
        ("null", signed_text(b"null")),
    ]
    return {
        "secrets": [SECRET, PREVIOUS],
        "valid": [{"body": body, "text": signed_text(text)} for body, text in zip(bodies, texts, strict=True)]
        + [{"body": bodies[0], "text": signed_text(texts[0], PREVIOUS)}],
        "invalid": [{"title": title, "text": text} for title, text in bad],
    }


def valid_annotations() -> list[Json]:
    def case(title: str, claims: Json, text: str | None = None, *, now: int = NOW, **event: str) -> Json:
        return {
            "title": title,
            "now": now,
            "event": EVENT | event,
            "text": text if text is not None else of_claims(claims),
            "claims": claims,
        }

    user = {"id": 42, "name": "Ada", "staff": False}
    return [
        case("a tier and no user", CLAIMS),
        case("no tier: the worker's own resolver decides", without("tier")),
        case("tier none", CLAIMS | {"tier": "none"}),
        case("tier full", CLAIMS | {"tier": "full"}),
        case("an anonymous user", CLAIMS | {"u": None}),
        case("a user", CLAIMS | {"u": user}),
        case("a user with text beyond ASCII", CLAIMS | {"u": {"id": "7", "name": "Žofie 🌉"}}),
        case("a user as a snapshot", CLAIMS | {"u": SNAPSHOT}),
        case("a rule: logged in", CLAIMS | {"r": ["required"]}),
        case("a rule: staff", CLAIMS | {"r": ["staff"], "tier": "none"}),
        case("a rule: a permission", CLAIMS | {"r": [{"permission": "shop.change_product"}], "u": None}),
        case(
            "several rules",
            CLAIMS | {"r": ["staff", {"permission": "shop.change_product"}, {"permission": "shop.add_order"}]},
        ),
        case("rules of a later version", CLAIMS | {"r": ["owner", {"group": "editors"}]}),
        case("no session cookie", CLAIMS | {"s": ""}, session=""),
        case("made with the previous secret", CLAIMS, of_claims(CLAIMS, PREVIOUS)),
        case("an unknown claim is ignored", CLAIMS | {"x": [1, 2]}),
        case("at the last millisecond of the skew", CLAIMS, now=NOW + 15_000),
        case("at the first millisecond of the skew", CLAIMS, now=NOW - 5_000),
        case("the longest life", CLAIMS | {"exp": NOW + 15_000}),
        case("no life at all", CLAIMS | {"exp": NOW}),
        case("integers written as decimals", CLAIMS, of_bytes(json.dumps(CLAIMS | {"iat": float(NOW)}).encode())),
        case("white space in the payload", CLAIMS, of_bytes(json.dumps(CLAIMS, indent=1).encode())),
        case("a handler with text beyond ASCII", CLAIMS | {"h": "état.größe"}, handler="état.größe"),
        case(
            "a payload of exactly 8,192 characters",
            CLAIMS | {"x": filler(8_192)},
            of_claims(CLAIMS | {"x": filler(8_192)}),
        ),
    ]


def filler(characters: int) -> str:
    empty = len(json.dumps(CLAIMS | {"x": ""}, separators=(",", ":")))
    return "y" * (characters * 3 // 4 - empty)


def invalid_annotations() -> list[Json]:
    good = of_claims(CLAIMS)
    version, name, payload, mac = good.split(".")
    flipped = ("B" if mac[0] == "A" else "A") + mac[1:]
    respelt = (
        mac[:-1]
        + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(mac[-1]) ^ 1
        ]
    )
    other = b64(json.dumps(CLAIMS | {"tier": "none"}, separators=(",", ":")).encode())
    long = b64(json.dumps(CLAIMS | {"x": filler(8_192) + "yyy"}, separators=(",", ":")).encode())

    def case(title: str, reason: str, text: str, *, now: int = NOW, **event: str) -> Json:
        return {"title": title, "reason": reason, "now": now, "event": EVENT | event, "text": text}

    def claims(title: str, **changed: object) -> Json:
        return case(title, "claims", of_claims(CLAIMS | changed))

    return [
        case("empty", "malformed", ""),
        case("one word", "malformed", "garbage"),
        case("three parts", "malformed", f"{version}.{name}.{payload}"),
        case("five parts", "malformed", f"{good}.x"),
        case("an empty part", "malformed", f"{version}.{name}..{mac}"),
        case("a space", "malformed", f"{version}.{name}.{payload} .{mac}"),
        case("a line break at the end", "malformed", good + "\n"),
        case("padding", "malformed", f"{version}.{name}.{payload}.{mac}="),
        case("the alphabet of plain base64", "malformed", f"{version}.{name}.{payload}.+/{mac[2:]}"),
        case("letters beyond ASCII", "malformed", f"{version}.{name}.{payload}.é{mac[1:]}"),
        case("digits beyond ASCII", "malformed", f"{version}.{name}.{payload}.٣{mac[1:]}"),
        case("a payload of 8,196 characters, rightly signed", "malformed", token_of(long)),
        case("another version, rightly signed", "version", token_of(payload, version="v2")),
        case("a version in capitals", "version", f"V1.{name}.{payload}.{mac}"),
        case("a secret that nobody knows", "kid", of_claims(CLAIMS, STRANGER)),
        case("an unknown kid", "kid", f"{version}.AAAAAAAA.{payload}.{mac}"),
        case("the name of another object", "kid", f"{version}.__proto__.{payload}.{mac}"),
        case("the first letter of the mac changed", "mac", f"{version}.{name}.{payload}.{flipped}"),
        case("the mac spelt otherwise with the same bytes", "mac", f"{version}.{name}.{payload}.{respelt}"),
        case("a short mac", "mac", f"{version}.{name}.{payload}.{mac[:-4]}"),
        case("a long mac", "mac", f"{version}.{name}.{payload}.{mac}AAAA"),
        case("another payload under this mac", "mac", f"{version}.{name}.{other}.{mac}"),
        case("the kid of the previous secret", "mac", f"{version}.{kid(PREVIOUS)}.{payload}.{mac}"),
        case("signed with the link key", "mac", token_of(payload, purpose="link")),
        case("a payload that is no base64", "claims", token_of("A")),
        case("a payload that is not UTF-8", "claims", of_bytes(b'{"n":"\xff"}')),
        case("a byte order mark", "claims", of_bytes(b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode())),
        case("a payload that is not JSON", "claims", of_bytes(b"{n:1}")),
        case("something behind the JSON", "claims", of_bytes(json.dumps(CLAIMS).encode() + b"{}")),
        case("a bare NaN", "claims", of_bytes(json.dumps(CLAIMS | {"x": float("nan")}).encode())),
        case("a list", "claims", of_claims([CLAIMS])),
        case("null", "claims", of_claims(None)),
        *[case(f"no {key}", "claims", of_claims(without(key))) for key in ("n", "t", "s", "h", "iat", "exp")],
        claims("a number as name", n=1),
        claims("null as session", s=None),
        claims("an unknown tier", tier="half"),
        claims("null as tier", tier=None),
        claims("a tier in capitals", tier="FULL"),
        claims("a list as user", u=[1]),
        claims("a number as user", u=42),
        claims("one rule that is no list", r="staff"),
        claims("no rules at all", r=[]),
        claims("null as rules", r=None),
        claims("null as a rule", r=["staff", None]),
        claims("a list as a rule", r=[["staff"]]),
        claims("text as time", iat=str(NOW)),
        claims("true as time", iat=True, exp=True),
        claims("a fraction of a millisecond", iat=NOW + 0.5),
        claims("a time beyond 2^53", iat=2**53, exp=2**53),
        claims("a life of 15,001 ms", exp=NOW + 15_001),
        claims("an end before the beginning", exp=NOW - 1),
        case("another deployment", "name", good, name="other"),
        case("another deployment's case", "name", good, name="Shop"),
        case("another token", "token", good, token="5f1d9c1e-5f0a-4c39-9a0e-0d3c1d5b7e11"),
        case("another session", "session", good, session="abc123sessionkez"),
        case("the worker sees no cookie", "session", good, session=""),
        case("the sidecar saw no cookie", "session", of_claims(CLAIMS | {"s": ""})),
        case("another handler", "handler", good, handler=HANDLER + "s"),
        case("everything wrong: the name is told", "name", good, name="x", token="x", session="x", handler="x", now=0),
        case("wrong token and too late: the token is told", "token", good, token="x", now=NOW + 60_000),
        case("one millisecond too late", "expired", good, now=NOW + 15_001),
        case("an hour too late", "expired", good, now=NOW + 3_600_000),
        case("one millisecond too early", "future", good, now=NOW - 5_001),
        case("an hour too early", "future", good, now=NOW - 3_600_000),
    ]


GLOBS = [
    ("", "", True),
    ("", "a", False),
    ("*", "", True),
    ("*", "anything.at/all\nhere", True),
    ("**", "", True),
    ("?", "", False),
    ("?", "a", True),
    ("?", "ab", False),
    ("?", "\n", True),
    ("?", "🌉", True),
    ("??", "🌉", False),
    ("a?c", "a🌉c", True),
    ("shop.cart.CartState", "shop.cart.CartState", True),
    ("shop.cart.CartState", "shop.cart.CartStates", False),
    ("shop.cart.CartState", "shopXcartXCartState", False),
    ("shop.cart.Cart*", "shop.cart.CartState", True),
    ("shop.cart.Cart*", "shop.cart.Cart", True),
    ("shop.cart.Cart*", "x.shop.cart.Cart", False),
    ("shop.*", "shop.views.deep.State", True),
    ("shop.*", "shopping.State", False),
    ("*.CartState", "shop.cart.CartState", True),
    ("*.CartState", "CartState", False),
    ("*Cart*", "shop.CartState", True),
    ("*Cart*", "shop.cartState", False),
    ("inc_*", "inc_", True),
    ("inc_*", "Inc_x", False),
    ("*a*b*c*", "xxaxxbxxcxx", True),
    ("*a*b*c*", "xxaxxcxxbxx", False),
    ("a*a", "a", False),
    ("a*a", "aa", True),
    ("a*?", "a", False),
    ("a*?", "ab", True),
    ("*?*?*", "a", False),
    ("*?*?*", "ab", True),
    ("a*b?c", "abbxc", True),
    ("*ab", "aab", True),
    ("*ab*ab", "ab", False),
    ("*ab*ab", "abab", True),
    ("*.b*.b?", "x.b.bb", True),
    ("/admin/*", "/admin/", True),
    ("/admin/*", "/admin", False),
    ("/admin*", "/administrator/x", True),
    ("[ab]", "a", False),
    ("[ab]", "[ab]", True),
    ("{a,b}", "a", False),
    ("{a,b}", "{a,b}", True),
    ("a|b", "a", False),
    ("a|b", "a|b", True),
    ("(a)+", "(a)+", True),
    ("^a$", "^a$", True),
    ("a\\*", "a\\b", True),
    ("a\\*", "a*", False),
    ("!a", "b", False),
    ("a", "a\n", False),
    ("a*", "a\n", True),
    ("é", "e\u0301", False),
    ("*" + "a*" * 40 + "b", "a" * 2_000, False),
    ("*" + "a?" * 20 + "*b", "a" * 2_000 + "b", True),
]

CART = "reflex___state____state.shop___cart____cart_state"
ORDER = "reflex___state____state.shop___views____order_state"
NOTES = "reflex___state____state.shop___notes____note_state"
PICTURES = "reflex___state____state.shop___pictures____upload_state"
ROOT = "reflex___state____state"
STATES: Json = {
    ROOT: {"class": "reflex.state.State", "tier": None, "smart": "none", "handlers": ["set_is_hydrated"]},
    CART: {"class": "shop.cart.CartState", "tier": "none", "smart": "none", "handlers": ["toggle", "inc_one"]},
    ORDER: {"class": "shop.views.OrderState", "tier": "auth_only", "smart": "full", "handlers": ["place", "load"]},
    NOTES: {"class": "shop.notes.NoteState", "tier": None, "smart": "full", "handlers": ["save"]},
    PICTURES: {"class": "shop.pictures.UploadState", "tier": "none", "smart": "none", "handlers": ["take"]},
}


def manifest(mode: str = "full", resolver: bool = False) -> Json:
    return {"mode": mode, "resolver": resolver, "states": STATES}


def rules(*entries: Json, mode: str = "inherit", resolve: bool = False) -> Json:
    empty = {"state": None, "handler": None, "path": None, "tier": None, "login": None}
    table = [empty | entry for entry in entries]
    return {"version": 1, "mode": mode, "resolve": resolve, "shadow": False, "rules": table}


def event(name: str, tier: str | None, source: str, **more: Any) -> Json:
    """One event and the expected answer: the tier, what decided it, and what raised it afterwards.

    `side`: `sidecar`, `worker` or `both`; `path`: the client's pathname, null where born in Python; `upload`: over the
    upload route; `resolved`: the sidecar's function had its turn (worker only); `app`: what the app's own resolver
    answers (worker only, null: nothing). Tier null: the sidecar leaves it to the worker; only a path that asks for full
    is certain not to lower what the app's own resolver will say.
    """
    defaults = {"side": "both", "path": None, "upload": False, "resolved": False, "app": None}
    answer = {"raised": None, "login": None, "tier": tier, "source": source}
    return {"name": name} | defaults | answer | more


def rule_cases() -> list[Json]:
    def case(title: str, table: Json, facts: Json, *events: Json) -> Json:
        return {"title": title, "rules": table, "manifest": facts, "events": list(events)}

    cart = {"state": "shop.cart.*", "tier": "auth_only"}
    return [
        case(
            "without rules: the class's tier, then the mode",
            rules(),
            manifest(),
            event(f"{CART}.toggle", "none", "class"),
            event(f"{ORDER}.place", "auth_only", "class"),
            event(f"{NOTES}.save", "full", "mode"),
            event(f"{ROOT}.set_is_hydrated", "full", "mode"),
            event("unknown.state.handler", "full", "mode"),
            event("no_dot", "full", "mode"),
            event("", "full", "mode"),
        ),
        case(
            "mode smart asks what the class is",
            rules(),
            manifest("smart"),
            event(f"{CART}.toggle", "none", "class"),
            event(f"{NOTES}.save", "full", "mode"),
            event(f"{ROOT}.set_is_hydrated", "none", "mode"),
            event("unknown.state.handler", "full", "mode"),
        ),
        case("mode none", rules(), manifest("none"), event(f"{NOTES}.save", "none", "mode")),
        case(
            "the sidecar's mode wins over the app's, a class over both",
            rules(mode="none"),
            manifest("full"),
            event(f"{NOTES}.save", "none", "mode"),
            event(f"{ORDER}.place", "auth_only", "class"),
        ),
        case("the sidecar's mode smart", rules(mode="smart"), manifest("none"), event(f"{NOTES}.save", "full", "mode")),
        case(
            "a rule wins over the class",
            rules(cart),
            manifest(),
            event(f"{CART}.toggle", "auth_only", "rule"),
            event(f"{ORDER}.place", "auth_only", "class"),
        ),
        case(
            "the first matching rule wins, also where it says less",
            rules({"handler": "inc_*", "tier": "none"}, cart, {"state": "*", "tier": "full", "login": "staff"}),
            manifest(),
            event(f"{CART}.inc_one", "none", "rule"),
            event(f"{CART}.toggle", "auth_only", "rule"),
            event(f"{ORDER}.place", "full", "rule", login="staff"),
            event("unknown.state.handler", "full", "rule", login="staff"),
        ),
        case(
            "a rule without a tier leaves the tier to the rest and still ends the search",
            rules({"state": "shop.cart.*", "login": "required"}, {"state": "shop.*", "tier": "full"}),
            manifest(),
            event(f"{CART}.toggle", "none", "class", login="required"),
            event(f"{ORDER}.place", "full", "rule"),
        ),
        case(
            "a permission",
            rules({"handler": "place", "tier": "full", "login": {"permission": "shop.add_order"}}),
            manifest(),
            event(f"{ORDER}.place", "full", "rule", login={"permission": "shop.add_order"}),
            event(f"{ORDER}.load", "auth_only", "class"),
        ),
        case(
            "state and handler must both match, case-sensitively",
            rules({"state": "shop.cart.*", "handler": "place", "tier": "full"}, {"state": "SHOP.*", "tier": "full"}),
            manifest(),
            event(f"{CART}.toggle", "none", "class"),
            event(f"{ORDER}.place", "auth_only", "class"),
        ),
        case(
            "a state pattern means the dotted class, not the name on the wire",
            rules({"state": "*shop___cart*", "tier": "full"}, {"state": "reflex.state.State", "tier": "auth_only"}),
            manifest(),
            event(f"{CART}.toggle", "none", "class"),
            event(f"{ROOT}.set_is_hydrated", "auth_only", "rule"),
        ),
        case(
            "an unknown state has an empty class in the worker; the sidecar may guess one from the name",
            rules({"state": "?*", "tier": "none"}, {"state": "", "tier": "auth_only"}),
            manifest(),
            event("unknown.state.handler", "auth_only", "rule", side="worker"),
            event(f"{NOTES}.save", "none", "rule"),
        ),
        case(
            "a rule with a path only raises",
            rules({"path": "/admin*", "tier": "auth_only"}, {"path": "/admin/secret", "tier": "full"}),
            manifest(),
            event(f"{CART}.toggle", "auth_only", "class", path="/admin", raised="path"),
            event(f"{CART}.toggle", "full", "class", path="/admin/secret", raised="path"),
            event(f"{CART}.toggle", "none", "class", path="/shop"),
            event(f"{CART}.toggle", "none", "class", path=""),
            event(f"{ORDER}.place", "auth_only", "class", path="/admin"),
            event(f"{NOTES}.save", "full", "mode", path="/admin"),
        ),
        case(
            "a rule with a path never lowers and never carries a login",
            rules({"path": "/x", "tier": "none", "login": "required"}, {"path": "/y", "tier": None, "login": "staff"}),
            manifest(),
            event(f"{NOTES}.save", "full", "mode", path="/x"),
            event(f"{CART}.toggle", "none", "class", path="/y"),
        ),
        case(
            "a rule with a path raises what another rule said, wherever it stands",
            rules({"path": "/p", "state": "shop.cart.*", "tier": "full"}, cart),
            manifest(),
            event(f"{CART}.toggle", "full", "rule", path="/p", raised="path"),
            event(f"{CART}.toggle", "auth_only", "rule", path="/q"),
            event(f"{ORDER}.place", "auth_only", "class", path="/p"),
        ),
        case(
            "events born in Python have no path",
            rules({"path": "*", "tier": "full"}, {"handler": "load", "tier": "none"}),
            manifest(),
            event(f"{CART}.toggle", "none", "class", side="worker"),
            event(f"{ORDER}.load", "none", "rule", side="worker"),
            event(f"{ORDER}.load", "full", "rule", path="/", raised="path"),
        ),
        case(
            "uploads are raised to auth_only",
            rules({"state": "shop.notes.*", "tier": "none"}),
            manifest("none"),
            event(f"{CART}.toggle", "auth_only", "class", upload=True, raised="upload"),
            event(f"{NOTES}.save", "auth_only", "rule", upload=True, raised="upload"),
            event(f"{NOTES}.save", "none", "rule"),
            event(f"{ORDER}.place", "auth_only", "class", upload=True),
            event(f"{PICTURES}.take", "auth_only", "class", raised="upload"),
            event(f"{CART}.Upload_picture", "auth_only", "class", raised="upload"),
            event(f"{ROOT}.UPLOAD", "auth_only", "mode", raised="upload"),
        ),
        case(
            "an upload is not lowered, and a path may raise it further",
            rules({"handler": "take", "tier": "full"}, {"path": "/up", "tier": "full"}),
            manifest("none"),
            event(f"{PICTURES}.take", "full", "rule", upload=True),
            event(f"{PICTURES}.clear", "full", "class", path="/up", upload=True, raised="path"),
            event(f"{PICTURES}.clear", "auth_only", "class", path="/down", upload=True, raised="upload"),
        ),
        case(
            "the app's own resolver comes after the rules and before the class",
            rules(cart, {"path": "/admin", "tier": "full"}),
            manifest(resolver=True),
            event(f"{CART}.toggle", "auth_only", "rule"),
            event(f"{CART}.toggle", "auth_only", "rule", side="worker", app="none"),
            event(f"{NOTES}.save", None, "app", side="sidecar"),
            event(f"{NOTES}.save", "full", "app", side="sidecar", path="/admin", raised="path"),
            event(f"{PICTURES}.take", None, "app", side="sidecar", upload=True),
            event(f"{NOTES}.save", "none", "app", side="worker", app="none"),
            event(f"{ORDER}.place", "full", "app", side="worker", app="full"),
            event(f"{ORDER}.place", "auth_only", "class", side="worker"),
            event(f"{NOTES}.save", "full", "mode", side="worker"),
            event(f"{NOTES}.save", "full", "app", side="worker", app="none", path="/admin", raised="path"),
            event(f"{PICTURES}.take", "auth_only", "app", side="worker", app="none", upload=True, raised="upload"),
        ),
        case(
            "a login without a tier stands while the app's own resolver decides",
            rules({"state": "shop.notes.*", "login": "required"}),
            manifest(resolver=True),
            event(f"{NOTES}.save", None, "app", side="sidecar", login="required"),
            event(f"{NOTES}.save", "auth_only", "app", side="worker", app="auth_only", login="required"),
        ),
        case(
            "with a function in the sidecar, events that it did not see are full",
            rules(cart, resolve=True),
            manifest(),
            event(f"{CART}.toggle", "full", "resolve", side="worker"),
            event(f"{CART}.toggle", "full", "resolve", side="worker", app="none"),
            event(f"{NOTES}.save", "full", "resolve", side="worker"),
            event(f"{CART}.toggle", "auth_only", "rule", side="worker", resolved=True),
            event(f"{NOTES}.save", "none", "app", side="worker", resolved=True, app="none"),
        ),
    ]


def proofs() -> list[Json]:
    sidecar, worker = b64(bytes(range(32))), b64(bytes(range(255, 223, -1)))
    other = b64(hashlib.sha256(b"another nonce").digest())
    said = json.dumps({"n": 1, "t": "a hash", "session": None, "cookie": "ključ"}, separators=(",", ":"))
    cases = []
    for secret, name in ((SECRET, "shop"), (PREVIOUS, "shop"), (SECRET, "default"), (UNICODE, "Blumenladen 🌷")):
        for first, second in ((sidecar, worker), (worker, sidecar), (other, worker)):
            for label, more in (("worker", {}), ("sidecar", {}), ("session", {"said": said})):
                text = "\n".join(("bridgehead-link-v1", label, name, first, second, *more.values()))
                cases.append(
                    {
                        "secret": secret,
                        "kid": kid(secret),
                        "name": name,
                        "label": label,
                        "sidecarNonce": first,
                        "workerNonce": second,
                        **more,
                        "mac": sign(secret, "link", text),
                    }
                )
    return cases


TYPES = {
    "HELLO": 1,
    "AUTH": 2,
    "WELCOME": 3,
    "MANIFEST": 4,
    "RULES": 5,
    "PING": 6,
    "PONG": 7,
    "ERROR": 8,
    "GOAWAY": 9,
}


def encode(kind: int, channel: int, body: bytes) -> bytes:
    return (5 + len(body)).to_bytes(4) + kind.to_bytes(1) + channel.to_bytes(4) + body


def frames() -> Json:
    bodies: list[tuple[str, Json]] = [
        ("HELLO", {"v": [1], "name": "shop", "instance": "i-1", "nonce": b64(bytes(range(32)))}),
        ("AUTH", {"v": 1, "kid": kid(SECRET), "nonce": b64(bytes(32)), "mac": sign(SECRET, "link", "x")}),
        ("WELCOME", {"mac": sign(SECRET, "link", "y"), "heartbeat": 5000}),
        ("MANIFEST", {"instance": "u", "pid": 4711, "mode": "full", "resolver": False, "states": STATES}),
        ("RULES", rules({"state": "shop.*", "tier": "none"})),
        ("PING", {"t": NOW}),
        ("PONG", {"t": NOW}),
        ("ERROR", {"code": "AUTH", "message": "the proof does not fit"}),
        ("GOAWAY", {"reason": "drain: größer als 🌉"}),
        ("PING", {}),
    ]
    good = []
    for name, body in bodies:
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
        data = encode(TYPES[name], 0, text.encode())
        good.append({"type": TYPES[name], "name": name, "channel": 0, "body": text, "hex": data.hex()})
    virtual = [
        {"type": kind, "channel": channel, "bodyHex": body.hex(), "hex": encode(kind, channel, body).hex()}
        for kind, channel, body in ((32, 1, b""), (33, 2**32 - 1, b"\x00\xff\x80"), (255, 70_000, "2é".encode()))
    ]
    ping = encode(6, 0, b'{"t":1}')
    limit = 4_096
    largest = encode(6, 0, b'{"t":1' + b" " * (limit - 5 - 7) + b"}")
    bad = [
        ("a length below type and channel", (4).to_bytes(4) + b"\x06\0\0\0"),
        ("a length of nothing", bytes(4)),
        ("one byte beyond the limit", (limit + 1).to_bytes(4) + b"\x06\0\0\0\0"),
        ("the largest length there is", b"\xff\xff\xff\xff"),
        ("a length that would be negative if signed", b"\x80\0\0\0\x06"),
        ("a control frame whose body is not JSON", encode(6, 0, b"{t:1}")),
        ("a control frame whose body is not UTF-8", encode(6, 0, b'{"t":"\xff"}')),
        ("a control frame whose body is a list", encode(6, 0, b"[1]")),
        ("a control frame whose body is empty", encode(6, 0, b"")),
        ("a control frame whose body has a bare NaN", encode(6, 0, b'{"t":NaN}')),
        ("a control frame on a channel", encode(6, 1, b'{"t":1}')),
        ("a good frame and then a bad one", ping + bytes(4)),
    ]
    return {
        "limit": limit,
        "frames": good,
        "virtual": virtual,
        "streams": [
            {"title": "two frames in one chunk", "chunks": [(ping + ping).hex()], "types": [6, 6], "rest": 0},
            {"title": "one byte at a time", "chunks": [f"{byte:02x}" for byte in ping], "types": [6], "rest": 0},
            {
                "title": "cut inside the length and inside the body",
                "chunks": [ping[:2].hex(), ping[2:12].hex(), (ping[12:] + ping[:5]).hex()],
                "types": [6],
                "rest": 5,
            },
            {"title": "exactly the limit", "chunks": [largest.hex()], "types": [6], "rest": 0},
            {"title": "an empty chunk", "chunks": ["", ping.hex()], "types": [6], "rest": 0},
        ],
        "invalid": [{"title": title, "hex": data.hex(), "error": "FRAME"} for title, data in bad],
    }


SESSION_TYPES = {
    "ATTACH": 32,
    "ATTACHED": 33,
    "CLIENT": 34,
    "SERVER": 35,
    "RECEIVED": 36,
    "DONE": 37,
    "CREDIT": 38,
    "DETACH": 39,
    "DETACHED": 40,
    "RESYNC": 41,
    "BACKGROUND": 42,
    "INJECT": 43,
    "PROBE": 44,
    "PROBED": 45,
}


def session_frames() -> Json:
    good: list[Json] = []

    def add(name: str, message: Json, body: bytes, channel: int = 7) -> None:
        data = encode(SESSION_TYPES[name], channel, body)
        good.append(
            {"name": name, "type": SESSION_TYPES[name], "channel": channel, "message": message, "hex": data.hex()}
        )

    def text(message: object) -> bytes:
        return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()

    def add_json(name: str, message: Json, channel: int = 7) -> None:
        add(name, message, text(message), channel)

    def add_client(payload: bytes, n: int, *, binary: bool = False, done: bool = False, channel: int = 7) -> None:
        message = {"n": n, "binary": binary, "done": done, "payload": payload.hex()}
        add("CLIENT", message, bytes([binary + 2 * done]) + n.to_bytes(4) + payload, channel)

    def add_server(payload: bytes, *, binary: bool = False) -> None:
        add("SERVER", {"binary": binary, "payload": payload.hex()}, bytes([binary]) + payload)

    attach: Json = {
        "session": "5b0c2c1e-8d0e-4a53-9c5e-0f6f3f0b9a11",
        "target": "/_event/?token=4f1d9c1e-5f0a-4c39-9a0e-0d3c1d5b7e11&EIO=4&transport=websocket",
        "headers": [["host", "shop.example"], ["cookie", "sessionid=abc; theme=dark"], ["x-a", "1"], ["x-a", "2"]],
        "client": "203.0.113.9",
        "protocol": "0.10.1",
        "takeover": False,
        "resume": False,
        "force": False,
        "seen": 0,
    }
    add_json("ATTACH", attach)
    add_json("ATTACH", attach | {"takeover": True, "headers": [], "protocol": None, "client": "2001:db8::9"}, 2**32 - 1)
    add_json("ATTACH", attach | {"takeover": True, "from": "8a6b"})
    add_json("ATTACH", attach | {"resume": True, "seen": 2**32 - 1})
    add_json("ATTACH", attach | {"force": True, "target": "/_event/?token=%C3%A9&x=🌉"}, 1)
    add_json("ATTACHED", {"received": 0, "sent": 0})
    add_json("ATTACHED", {"received": 17, "sent": 4_000_000_000})
    for error in ("draining", "failed", "unknown", "taken"):
        add_json("ATTACHED", {"error": error, "message": f"it is {error}: größer"})
    add_json("ATTACHED", {"error": "elsewhere", "message": "another worker has it", "instance": "8a6b"})
    event = '42/_event,["event",{"name":"reflex___state____state.set_name","payload":{"name":"Zoë 🌷"}}]'
    add_client(b'40/_event,{"event":{"name":"a.b"}}', 1, done=True)
    add_client(event.encode(), 2, done=True, channel=70_000)
    add_client(b"451-/_event,[{}]", 3)
    add_client(b"4", 4)
    add_client(bytes(range(256)), 5, binary=True)
    add_client(b"", 2**32 - 1, binary=True, done=True)
    add_server(b'42/_event,["event",{"delta":{"x":NaN}}]')
    add_server('43/_event,7["ключ"]'.encode())
    add_server(b"\x00\xff4", binary=True)
    add_server(b"", binary=True)
    for n in (1, 70_000, 2**32 - 1):
        add("RECEIVED", {"n": n}, n.to_bytes(4))
        add("CREDIT", {"bytes": n}, n.to_bytes(4))
        add("RESYNC", {"n": n}, n.to_bytes(4))
    for value, outcome in enumerate(("ended", "raised", "cancelled")):
        add("DONE", {"n": 3 + value, "outcome": outcome}, (3 + value).to_bytes(4) + bytes([value]))
    for reason in ("closed", "lost", "takeover", "move"):
        add_json("DETACH", {"reason": reason})
    for reason in ("closed", "lost", "takeover", "move", "slow", "failed"):
        add_json("DETACHED", {"reason": reason, "background": []})
    running: Json = {"name": "reflex___state____state.tick", "payload": {"every": 1.5, "über": [None, "é"]}}
    large: Json = {"name": "reflex___state____state.import_all", "payload": None}
    add_json("DETACHED", {"reason": "move", "background": [running, large, running]})
    add_json("BACKGROUND", {"id": "b1", "state": "started", **running})
    add_json("BACKGROUND", {"id": "b2", "state": "started", **large})
    add_json("BACKGROUND", {"id": "b1", "state": "ended"})
    for n, background in ((6, True), (7, False)):
        message = running | {"background": background}
        add("INJECT", {"n": n} | message, n.to_bytes(4) + text(message))
    add_json("PROBE", {})
    add_json("PROBED", {"alive": True, "kept": []})
    add_json("PROBED", {"alive": False, "kept": ['42/_event,["event",{"delta":{}}]', "43/_event,1[]"]})
    add_json("PROBED", {"alive": False, "kept": ['451-/_event,["a"]', "bAQ=="], "seen": 2})

    def lenient(title: str, name: str, body: bytes, message: Json) -> Json:
        kind = SESSION_TYPES[name]
        return {"title": title, "name": name, "message": message, "hex": encode(kind, 7, body).hex()}

    few = {key: attach[key] for key in ("session", "target", "headers", "client")}
    bad: list[tuple[str, int, int, bytes]] = [
        *((f"{name} on channel 0", kind, 0, text(attach)) for name, kind in SESSION_TYPES.items()),
        *(
            (f"{name} that is not JSON", SESSION_TYPES[name], 7, b"{")
            for name in ("ATTACH", "ATTACHED", "DETACH", "DETACHED", "BACKGROUND", "PROBE", "PROBED")
        ),
        ("ATTACH without a session", 32, 7, text({key: few[key] for key in few if key != "session"})),
        ("ATTACH without a target", 32, 7, text({key: few[key] for key in few if key != "target"})),
        ("ATTACH with a header of one part", 32, 7, text(few | {"headers": [["host"]]})),
        ("ATTACH with a header that is a number", 32, 7, text(few | {"headers": [["host", 1]]})),
        ("ATTACH with takeover as a word", 32, 7, text(few | {"takeover": "yes"})),
        ("ATTACH that comes from a number", 32, 7, text(few | {"takeover": True, "from": 1})),
        ("ATTACH that has seen less than nothing", 32, 7, text(few | {"seen": -1})),
        ("ATTACHED with an unknown error", 33, 7, text({"error": "tired", "message": ""})),
        ("ATTACHED with a fraction", 33, 7, text({"received": 1.5, "sent": 0})),
        ("CLIENT without a number", 34, 7, b"\0\0\0\0"),
        ("CLIENT whose text is no message", 34, 7, b"\0\0\0\0\x012probe"),
        ("CLIENT whose text is empty", 34, 7, b"\0\0\0\0\x01"),
        ("SERVER of nothing", 35, 7, b""),
        ("SERVER whose text is no message", 35, 7, b"\x003"),
        ("RECEIVED of three bytes", 36, 7, bytes(3)),
        ("RECEIVED of five bytes", 36, 7, bytes(5)),
        ("DONE of four bytes", 37, 7, bytes(4)),
        ("DONE with an unknown outcome", 37, 7, bytes(4) + b"\x03"),
        ("CREDIT of two bytes", 38, 7, bytes(2)),
        ("DETACH with an unknown reason", 39, 7, text({"reason": "bored"})),
        ("DETACHED with a reason of nobody", 40, 7, text({"reason": None, "background": []})),
        ("DETACHED whose background is an object", 40, 7, text({"reason": "move", "background": {}})),
        ("DETACHED whose handler has no name", 40, 7, text({"reason": "move", "background": [{"payload": {}}]})),
        ("RESYNC of nothing", 41, 7, b""),
        ("BACKGROUND that neither started nor ended", 42, 7, text({"id": "b", "state": "paused"})),
        ("BACKGROUND that started without a name", 42, 7, text({"id": "b", "state": "started"})),
        ("INJECT without a body", 43, 7, bytes(4)),
        ("INJECT without a name", 43, 7, bytes(4) + b"{}"),
        ("INJECT whose payload is a list", 43, 7, bytes(4) + b'{"name":"a.b","payload":[]}'),
        ("PROBED that keeps numbers", 45, 7, text({"alive": False, "kept": [1]})),
        ("PROBED that has seen less than nothing", 45, 7, text({"alive": False, "kept": [], "seen": -1})),
    ]
    return {
        "types": SESSION_TYPES,
        "frames": good,
        "lenient": [
            lenient("ATTACH with the least there is", "ATTACH", text(few), attach | {"protocol": None}),
            lenient("ATTACH with a key of later", "ATTACH", text(attach | {"later": [1]}), attach),
            lenient(
                "CLIENT with flags of later",
                "CLIENT",
                b"\xfc\0\0\0\x014",
                {"n": 1, "binary": False, "done": False, "payload": "34"},
            ),
            lenient("SERVER with flags of later", "SERVER", b"\xff\x01", {"binary": True, "payload": "01"}),
            lenient(
                "DETACHED with a reason alone",
                "DETACHED",
                text({"reason": "slow"}),
                {"reason": "slow", "background": []},
            ),
            lenient(
                "INJECT with a name alone",
                "INJECT",
                bytes(3) + b'\x01{"name":"a.b"}',
                {"n": 1, "name": "a.b", "payload": {}, "background": False},
            ),
        ],
        # Keys that are there only where there is something to say.
        "unfinished": [
            {
                "name": name,
                "type": SESSION_TYPES[name],
                "channel": 7,
                "message": message,
                "hex": encode(SESSION_TYPES[name], 7, text(message)).hex(),
            }
            for name, message in (
                ("ATTACHED", {"received": 9, "sent": 4, "open": [3, 7, 9]}),
                ("ATTACHED", {"received": 9, "sent": 4, "open": []}),
                ("DETACHED", {"reason": "move", "background": [running], "unrun": [8, 9]}),
            )
        ],
        "ignored": [encode(kind, 7, b"later").hex() for kind in (48, 200, 255)],
        "invalid": [
            {"title": title, "hex": encode(kind, channel, body).hex(), "error": "FRAME"}
            for title, kind, channel, body in bad
        ],
        "control": [
            {"name": name, "type": kind, "body": text(body).decode(), "hex": encode(kind, 0, text(body)).hex()}
            for name, kind, body in (
                ("DRAIN", 14, {"seconds": 10}),
                ("STATS", 15, {"sessions": 4_711, "inFlight": 3, "lagMs": 0.4, "rss": 190_840_832}),
            )
        ],
    }


LIVE_TYPES = {"CHANGES": 17, "CHANGED": 18, "GAP": 19, "WATCH": 20, "SUBSCRIBE": 46, "UNSUBSCRIBE": 47}


def live_frames() -> Json:
    def text(message: object) -> bytes:
        return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()

    def frame(name: str, sender: str, body: bytes, channel: int | None = None) -> Json:
        kind = LIVE_TYPES[name]
        channel = (0 if kind < 32 else 7) if channel is None else channel
        data = encode(kind, channel, body)
        return {"name": name, "type": kind, "from": sender, "channel": channel, "hex": data.hex()}

    change: Json = {"id": "c-1", "model": "shop.product", "action": "updated", "pk": 42, "at": NOW}
    others: list[Json] = [
        {"id": "~" * 64, "model": "shop.product", "action": "created", "pk": "9007199254740993", "at": NOW + 1},
        {
            "id": "c-3",
            "model": "läden.ware_2",
            "action": "deleted",
            "pk": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
            "at": 0,
        },
        {
            "id": "c-4",
            "model": "a.b",
            "action": "updated",
            "pk": "größe 🌉",
            "at": NOW,
            "tags": ["tenant:acme", "user:42"],
        },
        {"id": "c-5", "model": "a.b", "action": "updated", "pk": -(2**53 - 1), "at": NOW, "tags": ["t" * 100] * 8},
        {"id": "c-6", "model": "a.b", "action": "created", "pk": "x" * 255, "at": NOW},
    ]
    subscribe: Json = {
        "id": "shop___products____product_list",
        "model": "shop.product",
        "pks": None,
        "tags": None,
        "handler": "reflex___state____state.shop___products____product_list.apply_live_change",
    }
    messages: list[tuple[str, str, Json]] = [
        ("CHANGES", "worker", {"n": 1, "changes": [change]}),
        ("CHANGES", "worker", {"n": 2**32 - 1, "changes": [change, *others]}),
        ("CHANGES", "sidecar", {"changes": [change]}),
        ("CHANGES", "sidecar", {"changes": others}),
        ("CHANGED", "sidecar", {"n": 1, "ok": True}),
        ("CHANGED", "sidecar", {"n": 2**32 - 1, "ok": False}),
        ("GAP", "sidecar", {"model": "shop.product"}),
        ("GAP", "sidecar", {}),
        ("GAP", "worker", {"n": 3, "model": "shop.product"}),
        ("GAP", "worker", {"n": 4}),
        ("WATCH", "worker", {"models": ["läden.ware_2", "shop.product"]}),
        ("WATCH", "worker", {"models": []}),
        ("WATCH", "worker", {"models": None}),
        ("SUBSCRIBE", "worker", subscribe),
        ("SUBSCRIBE", "worker", subscribe | {"pks": [1, "9007199254740993", "a b"], "tags": ["tenant:acme"]}),
        ("SUBSCRIBE", "worker", subscribe | {"id": "1", "pks": [], "tags": [f"group:{n}" for n in range(8)]}),
        ("SUBSCRIBE", "worker", subscribe | {"pks": list(range(1_000))}),
        ("UNSUBSCRIBE", "worker", {"id": "shop___products____product_list"}),
    ]
    # What another writer, or a later version, may say.
    lenient: list[tuple[str, str, str, Json, Json]] = [
        (
            "keys of later",
            "CHANGES",
            "worker",
            {"n": 1, "changes": [change | {"later": 1}], "x": 1},
            {"n": 1, "changes": [change]},
        ),
        (
            "what is no change is passed over",
            "CHANGES",
            "worker",
            {"n": 1, "changes": [1, {}, change | {"pk": 1.5}, change]},
            {"n": 1, "changes": [change]},
        ),
        (
            "tags that are none are as if they were not there",
            "CHANGES",
            "worker",
            {"n": 1, "changes": [change | {"tags": [7]}]},
            {"n": 1, "changes": [change]},
        ),
        (
            "more than 8 tags are as if they were not there",
            "CHANGES",
            "worker",
            {"n": 1, "changes": [change | {"tags": ["a"] * 9}]},
            {"n": 1, "changes": [change]},
        ),
        (
            "a model in capitals",
            "CHANGES",
            "sidecar",
            {"changes": [change | {"model": "shop.Product"}]},
            {"changes": [change]},
        ),
        ("a model in capitals", "SUBSCRIBE", "worker", subscribe | {"model": "shop.Product", "later": 1}, subscribe),
        (
            "pks and tags left out",
            "SUBSCRIBE",
            "worker",
            {key: subscribe[key] for key in ("id", "model", "handler")},
            subscribe,
        ),
    ]
    bad: list[tuple[str, str, str, object]] = [
        ("without a number", "CHANGES", "worker", {"changes": [change]}),
        ("with number 0", "CHANGES", "worker", {"n": 0, "changes": [change]}),
        ("with a number too large", "CHANGES", "worker", {"n": 2**32, "changes": [change]}),
        ("without changes", "CHANGES", "worker", {"n": 1}),
        ("with changes that are no list", "CHANGES", "sidecar", {"changes": {}}),
        ("with too many changes", "CHANGES", "worker", {"n": 1, "changes": [0] * 1_001}),
        ("without a number", "CHANGED", "sidecar", {"ok": True}),
        ("without ok", "CHANGED", "sidecar", {"n": 1}),
        ("with a word for ok", "CHANGED", "sidecar", {"n": 1, "ok": "yes"}),
        ("of what is no model", "GAP", "sidecar", {"model": 7}),
        ("without a number", "GAP", "worker", {"model": "shop.product"}),
        ("of one model", "WATCH", "worker", {"models": "shop.product"}),
        ("of what is no model", "WATCH", "worker", {"models": ["product"]}),
        ("without an id", "SUBSCRIBE", "worker", {key: value for key, value in subscribe.items() if key != "id"}),
        ("with an empty id", "SUBSCRIBE", "worker", subscribe | {"id": ""}),
        ("with an id of 201 characters", "SUBSCRIBE", "worker", subscribe | {"id": "x" * 201}),
        ("of what is no model", "SUBSCRIBE", "worker", subscribe | {"model": "product"}),
        ("without a handler", "SUBSCRIBE", "worker", subscribe | {"handler": None}),
        ("with too many pks", "SUBSCRIBE", "worker", subscribe | {"pks": list(range(1_001))}),
        ("with a pk that is none", "SUBSCRIBE", "worker", subscribe | {"pks": [None]}),
        ("with tags that are no list", "SUBSCRIBE", "worker", subscribe | {"tags": "tenant:acme"}),
        ("with a tag that is too long", "SUBSCRIBE", "worker", subscribe | {"tags": ["t" * 101]}),
        ("with an empty tag", "SUBSCRIBE", "worker", subscribe | {"tags": [""]}),
        ("without an id", "UNSUBSCRIBE", "worker", {}),
    ]
    return {
        "types": LIVE_TYPES,
        "frames": [frame(name, sender, text(message)) | {"message": message} for name, sender, message in messages],
        "lenient": [
            {"title": title, **frame(name, sender, text(body)), "message": message}
            for title, name, sender, body, message in lenient
        ],
        "invalid": [
            {"title": f"{name} {title}", **frame(name, sender, text(body)), "error": "FRAME"}
            for title, name, sender, body in bad
        ]
        + [
            {"title": "SUBSCRIBE on channel 0", **frame("SUBSCRIBE", "worker", text(subscribe), 0), "error": "FRAME"},
            {"title": "CHANGES on a channel", **frame("CHANGES", "worker", text(messages[0][2]), 7), "error": "FRAME"},
            {"title": "WATCH that is not JSON", **frame("WATCH", "worker", b"{"), "error": "FRAME"},
            {"title": "SUBSCRIBE that is not JSON", **frame("SUBSCRIBE", "worker", b"{"), "error": "FRAME"},
        ],
        # The payloads that a subscription's handler is run with.
        "payloads": [
            {
                "live": {
                    "subscription": subscribe["id"],
                    "changes": [
                        {"model": "shop.product", "action": "updated", "pk": 42},
                        {"model": "shop.product", "action": "deleted", "pk": "9007199254740993"},
                    ],
                    "reload": False,
                }
            },
            {"live": {"subscription": subscribe["id"], "changes": [], "reload": True}},
        ],
    }


def main(folder: Path) -> None:
    files: dict[str, object] = {
        "annotation.json": {
            "secrets": [SECRET, PREVIOUS],
            "keys": keys(),
            "hashes": hashes(),
            "valid": valid_annotations(),
            "invalid": invalid_annotations(),
        },
        "globs.json": [{"pattern": pattern, "text": text, "match": match} for pattern, text, match in GLOBS],
        "rules.json": rule_cases(),
        "invalidation.json": invalidations(),
        "link-proof.json": proofs(),
        "link-frames.json": frames(),
        "link-session-frames.json": session_frames(),
        "live-frames.json": live_frames(),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
