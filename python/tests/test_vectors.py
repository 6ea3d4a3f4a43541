"""Both languages are tested on the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridgehead import annotation, frames, keys, proof, publisher, rules
from bridgehead.globs import glob_matches
from vectors import FOLDER, load

ANNOTATION = load("annotation.json")
KEYRING = keys.Keyring("annotation", *[ANNOTATION["secrets"][0]], previous=ANNOTATION["secrets"][1:])


def title(case: Any) -> str:
    return str(case.get("title") or case.get("pattern") or case.get("name") or case)[:60]


def check(case: dict[str, Any]) -> annotation.Verification:
    return annotation.verify(case["text"], KEYRING, **case["event"], now=case["now"])


def test_the_files_are_what_the_script_writes(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "tools" / "make_vectors.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    written = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()}
    assert written
    assert written == {name: load(name) for name in written}
    assert (FOLDER / "annotation.json").exists()


@pytest.mark.parametrize("case", ANNOTATION["keys"], ids=lambda case: case["kid"])
def test_keys(case: dict[str, str]) -> None:
    assert keys.key_id(case["secret"]) == case["kid"]
    assert keys.derive_key(case["secret"], "annotation").hex() == case["annotation"]
    assert keys.derive_key(case["secret"], "link").hex() == case["link"]
    assert keys.derive_key(case["secret"], "cache").hex() == case["cache"]
    assert keys.derive_key(case["secret"], "dashboard").hex() == case["dashboard"]


def test_hkdf_on_the_cases_of_rfc_5869() -> None:
    okm = keys.hkdf_sha256(bytes([0x0B] * 22), bytes(range(0xF0, 0xFA)), 42, salt=bytes(range(13)))
    assert okm.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    empty = keys.hkdf_sha256(bytes([0x0B] * 22), b"", 42)
    assert empty.hex() == ("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")


@pytest.mark.parametrize("case", ANNOTATION["hashes"], ids=lambda case: f"{case['kind']}-{case['value']!r}")
def test_hashes(case: dict[str, str]) -> None:
    function = annotation.token_hash if case["kind"] == "token" else annotation.session_hash
    assert function(case["value"]) == case["hash"]


@pytest.mark.parametrize("case", ANNOTATION["valid"], ids=title)
def test_valid_annotations(case: dict[str, Any]) -> None:
    result = check(case)
    assert isinstance(result, annotation.Valid)
    body = {key: value for key, value in case["claims"].items() if key != "x"}
    assert result.claims.to_json() == body


@pytest.mark.parametrize("case", ANNOTATION["invalid"], ids=title)
def test_invalid_annotations(case: dict[str, Any]) -> None:
    assert check(case) == annotation.Invalid(case["reason"])


def test_the_vectors_show_every_reason() -> None:
    assert {case["reason"] for case in ANNOTATION["invalid"]} == set(annotation.REASONS)
    assert len(ANNOTATION["invalid"]) >= 25


@pytest.mark.parametrize("case", load("globs.json"), ids=title)
def test_globs(case: dict[str, Any]) -> None:
    assert glob_matches(case["pattern"], case["text"]) is case["match"]


@pytest.mark.parametrize("case", load("rules.json"), ids=title)
def test_rules(case: dict[str, Any]) -> None:
    states = {
        name: rules.StateFacts(state["class"], state["tier"], state["smart"])
        for name, state in case["manifest"]["states"].items()
    }
    table = rules.compile_rules(case["rules"], states=states, app_mode=case["manifest"]["mode"])
    for _ in range(2):  # the second time from the cache
        for event in case["events"]:
            if event["side"] == "sidecar":
                continue
            decision = table.decide(
                event["name"],
                path=event["path"],
                upload=event["upload"],
                resolved=event["resolved"],
                app=lambda answer=event["app"]: answer,
            )
            expected = rules.Decision(event["tier"], event["source"], event["raised"], event["login"])
            assert decision == expected, event


@pytest.mark.parametrize("case", load("link-proof.json"), ids=lambda case: f"{case['label']}-{case['mac'][:6]}")
def test_link_proof(case: dict[str, Any]) -> None:
    ring = keys.Keyring("link", case["secret"])
    assert ring.current.kid == case["kid"]
    about = {"name": case["name"], "sidecar_nonce": case["sidecarNonce"], "worker_nonce": case["workerNonce"]}
    about |= {"said": case["said"]} if "said" in case else {}
    assert proof.link_mac(ring.current, case["label"], **about) == case["mac"]
    assert proof.link_mac_fits(case["mac"], ring.current, case["label"], **about)
    other = "worker" if case["label"] == "sidecar" else "sidecar"
    assert not proof.link_mac_fits(case["mac"], ring.current, other, **about)
    about["said"] = about.get("said", "") + "x"
    assert not proof.link_mac_fits(case["mac"], ring.current, case["label"], **about)


FRAMES = load("link-frames.json")


@pytest.mark.parametrize("case", FRAMES["frames"], ids=title)
def test_control_frames(case: dict[str, Any]) -> None:
    assert frames.FrameType[case["name"]] == case["type"]
    data = frames.encode_control(frames.FrameType(case["type"]), json.loads(case["body"]))
    assert data.hex() == case["hex"]
    [frame] = frames.FrameDecoder().feed(bytes.fromhex(case["hex"]))
    assert (frame.type, frame.channel, frame.json()) == (case["type"], 0, json.loads(case["body"]))


@pytest.mark.parametrize("case", FRAMES["virtual"], ids=lambda case: str(case["type"]))
def test_virtual_frames(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case["bodyHex"])
    assert frames.encode(case["type"], case["channel"], body).hex() == case["hex"]
    assert list(frames.FrameDecoder().feed(bytes.fromhex(case["hex"]))) == [
        frames.Frame(case["type"], case["channel"], body)
    ]


@pytest.mark.parametrize("case", FRAMES["streams"], ids=title)
def test_streams_of_frames(case: dict[str, Any]) -> None:
    decoder = frames.FrameDecoder(FRAMES["limit"])
    got = [frame for chunk in case["chunks"] for frame in decoder.feed(bytes.fromhex(chunk))]
    assert [frame.type for frame in got] == case["types"]
    assert decoder.pending == case["rest"]


@pytest.mark.parametrize("case", FRAMES["invalid"], ids=title)
def test_invalid_frames(case: dict[str, Any]) -> None:
    def read() -> None:
        for frame in frames.FrameDecoder(FRAMES["limit"]).feed(bytes.fromhex(case["hex"])):
            frame.json()

    with pytest.raises(frames.FrameError):
        read()


INVALIDATION = load("invalidation.json")


@pytest.mark.parametrize("case", INVALIDATION["valid"], ids=lambda case: str(case["body"])[:60])
def test_invalidations_are_what_sidecars_read(case: dict[str, Any]) -> None:
    made = [publisher.signed(case["body"], keys.Keyring("cache", secret)) for secret in INVALIDATION["secrets"]]
    assert case["text"] in made
