"""The sealed manifest: what it holds, how fast it is made, and that a change of it is found."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from fmos.canonical import content_digest
from fmos.contract.layers import merge
from fmos.contract.manifest import (
    Choice,
    Manifest,
    load_manifest,
    parse_manifest,
    policy_digests,
    seal,
)
from fmos.contract.parse import load_document, load_text
from fmos.contract.policy import Policy
from fmos.errors import FormatError

CONTRACT = load_text(
    "apiVersion: agentos/v0.2\nkind: AgentContract\nname: ada\nclass: { latency: SRT }\n"
    "capabilities: [fs.read, fs.write]\nsecurity: { consent_for: [fs.write], deny: [fs.write] }\n"
    "budgets: { tokens: 50k }\n"
)


def test_a_manifest_of_a_contract_alone_grants_what_it_grants() -> None:
    """Without a binding document the capabilities that are not denied are what was chosen."""
    manifest = seal(CONTRACT)
    assert manifest.chosen == {"capabilities": ("fs.read",)}
    assert manifest.limits == {"tokens": 50_000}
    assert manifest.effective.digest == CONTRACT.digest
    assert manifest.sources == (f"contract:{CONTRACT.digest}",)
    assert manifest.created_by.startswith("fmos ")


def test_the_hash_is_that_of_the_canonical_content() -> None:
    """Anybody can reckon it: SHA-256 of the canonical JSON without the hash."""
    manifest = seal(CONTRACT)
    content = manifest.model_dump(mode="json")
    assert content.pop("hash") == manifest.hash == content_digest(content)
    manifest.verify()


def test_a_layers_reasons_are_kept() -> None:
    """What `merge` says of a field stands in the manifest, with the layer that decided."""
    policy = load_document(
        "apiVersion: agentos/v0.2\nkind: Policy\nlayer: tenant\nname: acme\n"
        "must: { budgets: { tokens: 10k } }\n"
    )
    assert isinstance(policy, Policy)
    merged = merge(CONTRACT, [policy])
    manifest = seal(merged.contract, choices=merged.why, policies={policy.label: policy.digest})
    (choice,) = manifest.reasons("budgets.tokens")
    assert choice == Choice(
        field="budgets.tokens",
        value="10000",
        layer="tenant acme",
        why="no more than the layers demand",
    )
    assert manifest.reasons("budgets") == (choice,)
    assert manifest.hash != seal(CONTRACT).hash


def test_every_policy_of_a_layer_is_in_the_hash() -> None:
    """Two of one layer are told apart, whichever comes first."""
    head = "apiVersion: agentos/v0.2\nkind: Policy\nlayer: platform\nmust: "
    one, two = (load_document(head + text) for text in ("{ deny: [a] }", "{ deny: [b] }"))
    assert isinstance(one, Policy)
    assert isinstance(two, Policy)
    digests = policy_digests([one, two])
    assert set(digests) == {"platform", "platform#2"}
    assert set(digests.values()) == {one.digest, two.digest}
    assert policy_digests([two, one]) == digests


def test_sealing_takes_well_under_a_millisecond() -> None:
    """The kernel seals at each change of a contract: the best of many runs shows the cost."""
    why = merge(CONTRACT, []).why
    seal(CONTRACT, choices=why)
    times: list[float] = []
    for _ in range(50):
        start = time.perf_counter()
        seal(CONTRACT, choices=why)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.001


def test_a_manifest_survives_a_file(tmp_path: Path) -> None:
    """What is written is read back as the same manifest, however the JSON is laid out."""
    manifest = seal(CONTRACT, choices=merge(CONTRACT, []).why)
    path = tmp_path / "m.json"
    path.write_text(json.dumps(manifest.model_dump(mode="json"), indent=3))
    again = load_manifest(path)
    assert again == manifest
    assert again.effective.grants("fs.read")


@pytest.mark.parametrize(
    "change",
    [
        {"agent": "eve"},
        {"chosen": {"capabilities": ["fs.read", "fs.write"]}},
        {"limits": {}},
        {"hash": "0" * 64},
        {"hash": ""},
        {"canary": True},
    ],
)
def test_a_changed_manifest_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """The sentence says that it was changed and what to do."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps({**seal(CONTRACT).model_dump(mode="json"), **change}))
    with pytest.raises(FormatError, match=r"was changed after it was sealed.*contract bind"):
        load_manifest(path)


def test_a_change_deep_inside_is_found() -> None:
    """A capability slipped into the effective contract of a live object does not verify."""
    manifest = seal(CONTRACT)
    manifest.contract["capabilities"].append("email.send")
    with pytest.raises(FormatError):
        manifest.verify()
    with pytest.raises(ValidationError):
        manifest.agent = "eve"  # type: ignore[misc]


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"kind": "Policy"}', "\x00"])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    """Any other text is a sentence, never a traceback."""
    with pytest.raises(FormatError, match="is not a manifest"):
        parse_manifest(text, "m.json")


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, a folder and a huge file are sentences."""
    with pytest.raises(FormatError, match="cannot read the manifest"):
        load_manifest(tmp_path / "none.json")
    with pytest.raises(FormatError, match="cannot read the manifest"):
        load_manifest(tmp_path)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(5_000_000)
    with pytest.raises(FormatError, match="larger than any manifest"):
        load_manifest(tmp_path / "huge")


def test_a_newer_manifest_can_be_read_as_an_answer() -> None:
    """A server may say more than an older client knows."""
    answer = {**seal(CONTRACT).model_dump(mode="json"), "added_later": 1}
    assert Manifest.from_answer(answer).agent == "ada"
