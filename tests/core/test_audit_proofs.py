"""Proofs and exports hold alone, fail when anything in them is changed, and say nothing secret."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmos.audit.checkpoints import checkpoint, let_go, rotate
from fmos.audit.export import _signed_text, check_export, checked_range, export
from fmos.audit.keys import AuditKeys
from fmos.audit.merkle import Frontier, leaf_hash
from fmos.audit.proofs import (
    _signed_fields,
    check_consistency,
    check_proof,
    prove,
    prove_consistency,
)
from fmos.audit.query import Wanted, rows_of
from fmos.audit.shown import row_hash, shown
from fmos.errors import ArgumentError, FormatError, NotFoundError, StorageError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

WHO = Principal(agent="ada", session="s1")
SECRET = "sk-abcdefghijklmnopqrstuvwx1234"
WORDS = "meet me at the old harbour"

_FILL = """
import resource, sys
from pathlib import Path
from fmos.audit.checkpoints import checkpoint
from fmos.audit.export import export
from fmos.runtime.kernel import Kernel

with Kernel.open(sys.argv[1]) as kernel:
    checkpoint(kernel, "default")
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
    export(kernel, "default", Path(sys.argv[2]))
"""


def _record(kernel: Kernel, count: int) -> None:
    fs = kernel.agent_fs(WHO)
    with fs.transaction():
        for number in range(count):
            fs.record("op.intent", {"id": f"o{number}", "name": "run", "labels": ["web"]})


def _keys(kernel: Kernel) -> set[str]:
    return {kernel.keys_of("default").public_key}


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], set[str]]:
    """A proof of one row, and the key to trust."""
    with Kernel.open(tmp_path_factory.mktemp("proof") / "home") as kernel:
        _record(kernel, 40)
        kernel.record(WHO, "op.outcome", {"id": "o5", "why": WORDS})
        return prove(kernel, "default", operation="o5"), _keys(kernel)


def test_an_operation_is_proved_with_nothing_but_a_key(kernel: Kernel) -> None:
    """Both rows of an operation are shown, across a change of keys, for whoever trusts either."""
    _record(kernel, 300)
    first = kernel.keys_of("default").public_key
    rotate(kernel, "default")
    kernel.record(WHO, "op.outcome", {"id": "o7", "status": "ok"})
    proof = json.loads(json.dumps(prove(kernel, "default", operation="o7")))
    for trusted in ({first}, _keys(kernel)):
        found = check_proof(proof, trusted)
        assert [row["operation"] for row in found.rows] == ["op.intent", "op.outcome"]
        assert (found.tenant, found.masked) == ("default", 0)
    with pytest.raises(
        FormatError, match=r"no key in this file of the tenant .* is one that you trust"
    ):
        check_proof(proof, {kernel.keys_of("other").public_key})


def test_a_proof_is_possible_after_older_rows_went(kernel: Kernel) -> None:
    """The hashes of rows that retention let go stay, and with them every proof."""
    _record(kernel, 700)
    let_go(kernel, "default", 0)
    _record(kernel, 100)
    assert check_proof(prove(kernel, "default", seq=750), _keys(kernel)).rows[0]["seq"] == 750
    with pytest.raises(NotFoundError, match="no row 7"):
        prove(kernel, "default", seq=7)
    with pytest.raises(NotFoundError, match="operation 'nope'"):
        prove(kernel, "default", operation="nope")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [each for key, item in value.items() for each in _leaves(item, (*path, key))]
    if isinstance(value, list):
        return [each for key, item in enumerate(value) for each in _leaves(item, (*path, key))]
    return [path]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_changed_proof_holds(
    proof: tuple[dict[str, Any], set[str]], data: st.DataObject
) -> None:
    """Whatever value of a proof is changed, it is refused with a sentence."""
    good, keys = proof
    changed = copy.deepcopy(good)
    leaves = [each for each in _leaves(good) if each not in _NOT_USED]
    path = data.draw(st.sampled_from(leaves))
    target = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = _other(target[path[-1]], data)
    assert check_proof(good, keys)
    with pytest.raises(FormatError):
        check_proof(changed, keys)


#: A row gives its hash, or has a signature: the other one of both is not looked at.
_NOT_USED = {("rows", 0, "signature"), ("rows", 1, "previous")}


def _other(value: Any, data: st.DataObject) -> Any:
    if isinstance(value, bool) or value is None:
        return "x" if value is None else 7 if value else []
    if isinstance(value, int):
        return value + data.draw(st.sampled_from([-1, 1, 1 << 40]))
    if not value:
        return "x"
    at = data.draw(st.integers(0, len(value) - 1))
    return value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]


def test_one_checkpoint_begins_another(kernel: Kernel) -> None:
    """A proof between two checkpoints holds, and none does for another order or history."""
    _record(kernel, 300)
    first = checkpoint(kernel, "default")
    _record(kernel, 400)
    second = checkpoint(kernel, "default")
    assert first is not None
    assert second is not None
    proof = prove_consistency(kernel, "default", first, second)
    assert check_consistency(proof, _keys(kernel)) == (301, 702)
    with pytest.raises(FormatError, match="written anew"):
        check_consistency({**proof, "path": proof["path"][1:]}, _keys(kernel))
    with pytest.raises(ArgumentError, match="no proof between"):
        prove_consistency(kernel, "default", second, first)


# -- exports ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_an_export_is_checked_without_the_home(kernel: Kernel, tmp_path: Path, name: str) -> None:
    """All rows are in it, plain or packed, and the file is its owner's."""
    _record(kernel, 1200)
    told: list[int] = []
    done = export(kernel, "default", tmp_path / name, progress=told.append)
    assert (done.first, done.last, done.rows) == (1, 1201, 1201)
    assert check_export(tmp_path / name, _keys(kernel)) == done
    assert told == [1000]
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    part = export(kernel, "default", tmp_path / name, since=500, until=600)
    assert check_export(tmp_path / name, _keys(kernel)) == part
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


def test_an_export_that_was_cut_short_is_found_wherever_it_was(
    kernel: Kernel, tmp_path: Path
) -> None:
    """Any number of bytes missing at the end is named, in plain and packed files."""
    _record(kernel, 60)
    for name in ("a.jsonl", "a.jsonl.zst"):
        export(kernel, "default", tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(FormatError, match=r"cut short|whole zstd"):
                check_export(tmp_path / name, _keys(kernel))


def test_a_changed_export_is_found(kernel: Kernel, tmp_path: Path) -> None:
    """A row that is changed, missing, moved or added, and a forged end, are refused."""
    _record(kernel, 30)
    kernel.agent_fs(WHO).write("/notes.txt", b"x")
    path = tmp_path / "a.jsonl"
    export(kernel, "default", path)
    lines = path.read_text().splitlines(keepends=True)
    masked = next(n for n, line in enumerate(lines) if '"masked"' in line)
    bad = [
        [*lines[:5], lines[5].replace("run", "ran"), *lines[6:]],
        [*lines[:masked], lines[masked].replace("main", "mane"), *lines[masked + 1 :]],
        [*lines[:5], *lines[6:]],
        [*lines[:5], lines[6], lines[5], *lines[7:]],
        [*lines[:-1], lines[-2], lines[-1]],
        [*lines[:-1], lines[-1].replace('"rows":32', '"rows":31')],
        [*lines, lines[5]],
        [lines[0].replace('"last":32', '"last":31'), *lines[1:]],
        [lines[0].replace('"first":1,', '"first":2,'), *lines[1:]],
    ]
    for each in bad:
        assert each != lines
        path.write_text("".join(each))
        with pytest.raises(FormatError):
            check_export(path, _keys(kernel))
    path.write_text("".join(lines))
    assert check_export(path, _keys(kernel)).rows == 32


def test_nothing_secret_leaves_the_home(kernel: Kernel, tmp_path: Path) -> None:
    """Texts, values and what looks like a secret are in no export, proof or listing."""
    fs = kernel.agent_fs(WHO)
    fs.write(f"/{SECRET}.txt", b"x")
    fs.setxattr("/", "user.note", WORDS.encode())
    fs.setxattr("/", "user.note", b"other")
    fs.kv.set("plan", WORDS)
    kernel.record(WHO, "op.intent", {"id": "o1", "name": SECRET, "labels": [SECRET], "why": WORDS})
    kernel.record(WHO, "op.other", {WORDS: 1, SECRET: {"deep": [WORDS, SECRET, 7]}})
    export(kernel, "default", tmp_path / "a.jsonl")
    proof = json.dumps(prove(kernel, "default", operation="o1"))
    listed = json.dumps(rows_of(kernel, "default", Wanted(), 100))
    for text in ((tmp_path / "a.jsonl").read_text(), proof, listed):
        assert SECRET not in text
        assert WORDS not in text
        assert WORDS.encode().hex() not in text
    assert check_proof(json.loads(proof), _keys(kernel)).masked == 1


def test_equal_texts_have_equal_digests_for_one_tenant_only(kernel: Kernel) -> None:
    """A hidden text can be compared within a tenant, and nowhere else guessed from."""
    kernel.record(WHO, "op.intent", {"why": WORDS, "again": WORDS, "name": "run"})
    row = list(kernel.volume("default").journal())[-1]
    safe = shown(row, kernel.keys_of("default").digest).fields["detail"]
    assert safe["why"] == safe["again"] != WORDS
    assert safe["name"] == "run"
    assert shown(row, kernel.keys_of("other").digest).fields["detail"]["why"] != safe["why"]


def test_a_shown_row_has_the_hash_of_the_journals_row(kernel: Kernel) -> None:
    """Where nothing is hidden, the fields that are shown give the chain's hash."""
    kernel.record(WHO, "op.intent", {"id": "o1", "n": 1.5, "list": [1, None, True], "name": "run"})
    rows = list(kernel.volume("default").journal())
    safe = shown(rows[-1], kernel.keys_of("default").digest)
    assert not safe.is_masked
    assert row_hash(rows[-2].hash, safe.fields) == rows[-1].hash


def test_an_export_that_finds_no_space_leaves_nothing(tmp_path: Path) -> None:
    """A full disk leaves the older file as it was, and no half one under any name."""
    with Kernel.open(tmp_path / "home") as kernel:
        _record(kernel, 300)
        checkpoint(kernel, "default")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.jsonl").write_text("older")
    command = [sys.executable, "-c", _FILL, str(tmp_path / "home"), str(folder / "a.jsonl")]
    failed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "nothing is there" in failed.stderr
    assert [(each.name, each.read_text()) for each in folder.iterdir()] == [("a.jsonl", "older")]


def test_what_cannot_be_exported_is_named(kernel: Kernel, tmp_path: Path) -> None:
    """No rows, no folder and no range are errors with a way out."""
    kernel.volume("default")
    with pytest.raises(NotFoundError, match="has no rows"):
        export(kernel, "default", tmp_path / "a.jsonl")
    _record(kernel, 3)
    with pytest.raises(StorageError, match="cannot write"):
        export(kernel, "default", tmp_path / "missing" / "a.jsonl")
    with pytest.raises(StorageError, match="is there and is no file"):
        export(kernel, "default", Path("/dev/null"))
    with pytest.raises(NotFoundError, match="no rows from 100"):
        export(kernel, "default", tmp_path / "a.jsonl", since=99)
    with pytest.raises(StorageError, match="cannot read"):
        check_export(tmp_path / "a.jsonl", _keys(kernel))
    with pytest.raises(ArgumentError, match="has no rows"):
        checked_range(7, 7)
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(b"{}\n"))
    with pytest.raises(FormatError, match="no export of the format"):
        check_export(tmp_path / "b.jsonl.zst", _keys(kernel))


def test_rows_are_listed_by_agent_session_and_kind(kernel: Kernel) -> None:
    """The newest come last; a limit keeps the newest; an exact agent sees its own events only."""
    other = Principal(agent="bob", session="s9")
    app = Principal(application="crm", agent="ada", session="s1")
    for number in range(5):
        for who in (WHO, other, app):
            kernel.record(who, "op.intent", {"id": f"{who.agent}{number}", "name": "run"})
    kernel.record(WHO, "op.outcome", {"id": "ada3"})
    kernel.agent_fs(WHO).write("/a", b"x")
    ids = [row["detail"].get("id") for row in rows_of(kernel, "default", Wanted(agent="bob"), 3)]
    assert ids == ["bob2", "bob3", "bob4"]
    kinds = rows_of(kernel, "default", Wanted(operation="ada3"), 9)
    assert [row["operation"] for row in kinds] == ["op.intent", "op.intent", "op.outcome"]
    own = rows_of(kernel, "default", Wanted(agent="ada"), 99, exactly=True)
    assert {row["principal"] for row in own} == {"default/-/ada/s1"}
    assert len(own) == 6
    assert len(rows_of(kernel, "default", Wanted(session="s9", kind="op.intent"), 99)) == 5
    assert (
        rows_of(kernel, "default", Wanted(agent="ada", since=own[-1]["seq"]), 9)[-1]["path"] == "/a"
    )


def test_a_key_that_was_given_up_signs_no_later_rows(kernel: Kernel, tmp_path: Path) -> None:
    """Who stole an old key can forge neither an export nor a masked row beyond its last one."""
    _record(kernel, 1)
    kernel.keys_of("default")
    shutil.copytree(kernel.home.keys / "default", tmp_path / "stolen")
    rotate(kernel, "default")
    seq = kernel.record(WHO, "op.outcome", {"id": "o0", "status": "ok"})
    stolen = AuditKeys(tmp_path / "stolen")
    path = tmp_path / "a.jsonl"
    export(kernel, "default", path)
    path.write_bytes(_forged(path.read_bytes(), stolen))
    with pytest.raises(FormatError, match="its end was not signed"):
        check_export(path, _keys(kernel))
    proof = prove(kernel, "default", seq=seq)
    row = proof["rows"][0]
    row["row"]["detail"] = {"id": "o0", "status": "denied"}
    said = _signed_fields(bytes.fromhex(row["hash"]), row["row"])
    row.update(masked=True, signature=stolen.sign(said))
    with pytest.raises(FormatError, match="they were changed"):
        check_proof(proof, _keys(kernel))


def _forged(data: bytes, keys: AuditKeys) -> bytes:
    """Return an export without its last row, signed with other keys."""
    head, *rows = [json.loads(line) for line in data.splitlines()][:-2]
    head["last"] = rows[-1]["seq"]
    frontier = Frontier()
    for each in rows:
        frontier.add(leaf_hash(bytes.fromhex(each["hash"])))
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in (head, *rows))
    root, digest = frontier.root().hex(), sha256(lines).hexdigest()
    said = _signed_text("default", head["first"], head["last"], root, digest)
    end = {"rows": len(rows), "root": root, "sha256": digest, "signature": keys.sign(said)}
    return lines + json.dumps({"end": end}).encode() + b"\n"


def test_an_export_ends_where_its_checkpoint_does(kernel: Kernel, tmp_path: Path) -> None:
    """Rows after the checkpoint in the header are not taken on the end's signature alone."""
    _record(kernel, 2)
    older = checkpoint(kernel, "default")
    _record(kernel, 2)
    path = tmp_path / "a.jsonl"
    export(kernel, "default", path)
    lines = path.read_bytes().splitlines()
    head = {**json.loads(lines[0]), "checkpoint": str(older)}
    whole = b"\n".join([json.dumps(head).encode(), *lines[1:], b""])
    path.write_bytes(_forged(whole, kernel.keys_of("default")))
    with pytest.raises(FormatError, match="the export goes beyond row 3"):
        check_export(path, _keys(kernel))
