"""What must hold for any input: codecs never raise, never accept what was changed, and agree with the plain meaning."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridgehead import annotation, rules
from bridgehead.annotation import Anonymous, Claims, Invalid, KnownUser, Unknown, Valid, make, verify
from bridgehead.frames import Frame, FrameDecoder, FrameError, encode
from bridgehead.globs import glob_matches
from bridgehead.keys import Keyring

KEYRING = Keyring("annotation", "a secret for the properties, long enough")
NOW = 1_760_000_000_000

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
snapshots = st.dictionaries(st.text(max_size=8), json_values, max_size=8)
users = st.just(Unknown()) | st.just(Anonymous()) | snapshots.map(KnownUser)
texts = st.text(max_size=60)
access_rules = st.sampled_from(["required", "staff"]) | texts.map(lambda name: {"permission": name})


@st.composite
def all_claims(draw: st.DrawFn) -> tuple[Claims, str, str]:
    token, session = draw(texts), draw(texts)
    claims = Claims(
        name=draw(texts),
        token_hash=annotation.token_hash(token),
        session_hash=annotation.session_hash(session),
        handler=draw(texts),
        issued_at=NOW,
        expires_at=NOW + draw(st.integers(0, annotation.MAX_LIFE_MS)),
        tier=draw(st.sampled_from([None, "none", "auth_only", "full"])),
        user=draw(users),
        rules=tuple(draw(st.lists(access_rules, max_size=3))),
    )
    # `make` refuses what is longer.
    text = json.dumps(claims.to_json(), separators=(",", ":"))
    assume(4 * len(text) <= 3 * annotation.MAX_PAYLOAD_CHARACTERS)
    return claims, token, session


def checked(text: object, claims: Claims, token: str, session: str, now: int = NOW) -> annotation.Verification:
    return verify(text, KEYRING, name=claims.name, token=token, session=session, handler=claims.handler, now=now)


@given(all_claims())
def test_what_is_made_is_valid_for_its_whole_life(made: tuple[Claims, str, str]) -> None:
    claims, token, session = made
    text = make(claims, KEYRING)
    for now in (NOW - annotation.SKEW_MS, NOW, claims.expires_at + annotation.SKEW_MS):
        assert checked(text, claims, token, session, now) == Valid(claims)
    assert checked(text, claims, token, session, claims.expires_at + annotation.SKEW_MS + 1) == Invalid("expired")
    assert checked(text, claims, token, session, NOW - annotation.SKEW_MS - 1) == Invalid("future")


@given(all_claims(), st.data())
def test_any_other_letter_makes_it_invalid(made: tuple[Claims, str, str], data: st.DataObject) -> None:
    claims, token, session = made
    text = make(claims, KEYRING)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters().filter(lambda letter: letter != text[at]))
    assert isinstance(checked(text[:at] + letter + text[at + 1 :], claims, token, session), Invalid)


@given(st.one_of(st.text(), json_values, st.binary(), st.from_regex(r"v[12]\.[\w-]{0,9}\.[\w-]*\.[\w-]*")))
def test_garbage_is_invalid_and_never_raises(text: Any) -> None:
    result = verify(text, KEYRING, name="", token="", session=None, handler="", now=NOW)
    assert isinstance(result, Invalid)
    assert result.reason in annotation.REASONS


@given(json_values | st.binary())
def test_a_rightly_signed_payload_of_anything_is_invalid_and_never_raises(body: Any) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    payload = annotation.base64url(data)
    signed = f"v1.{KEYRING.current.kid}.{payload}"
    text = f"{signed}.{KEYRING.current.sign(signed.encode())}"
    assert isinstance(verify(text, KEYRING, name="", token="", session=None, handler="", now=NOW), Invalid)


def plain_match(pattern: str, text: str) -> bool:
    """The meaning of a glob, letter by letter."""
    reached = {0}
    for letter in pattern:
        if letter == "*":
            reached = set(range(min(reached), len(text) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(text) and letter in ("?", text[at])}
    return len(text) in reached


small = st.text("ab.*?\n[", max_size=9)


@given(small, small)
@settings(max_examples=500)
def test_globs_mean_what_they_say(pattern: str, text: str) -> None:
    assert glob_matches(pattern, text) is plain_match(pattern, text)


@given(st.lists(st.tuples(st.integers(32, 255), st.integers(0, 2**32 - 1), st.binary(max_size=50))), st.data())
def test_frames_survive_any_cutting(parts: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode(*part) for part in parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = FrameDecoder()
    got = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for frame in decoder.feed(stream[start:end])
    ]
    assert got == [Frame(*part) for part in parts]
    assert decoder.pending == 0


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_a_decoder_raises_nothing_but_its_own_error_and_stays_small(chunks: list[bytes]) -> None:
    decoder = FrameDecoder(64)
    with contextlib.suppress(FrameError):
        for chunk in chunks:
            for frame in decoder.feed(chunk):
                if frame.is_control:
                    frame.json()
            assert decoder.pending <= 68


@given(json_values | st.dictionaries(st.sampled_from(["mode", "version", "resolve", "shadow", "rules"]), json_values))
def test_rules_of_any_shape_compile_or_say_where_they_are_wrong(body: Any) -> None:
    if not isinstance(body, dict):
        body = {"rules": [body]}
    with contextlib.suppress(rules.RulesError):
        table = rules.compile_rules(body, states={}, app_mode="full")
        assert table.decide("a.b", path="/").tier in annotation.TIERS


@given(st.lists(st.sampled_from(["none", "auth_only", "full"])), st.sampled_from(["none", "auth_only", "full"]))
def test_a_path_never_lowers_a_tier(raises: list[str], least: str) -> None:
    body = {"rules": [{"path": "*", "tier": tier} for tier in raises] + [{"tier": least}]}
    table = rules.compile_rules(body, states={}, app_mode="full")
    order = ["none", "auth_only", "full"]
    assert table.decide("a.b", path="/").tier == max([least, *raises], key=order.index)
    assert table.decide("a.b").tier == least
