"""Checkpoints: signed notes over the tree, their copies, and keys that are changed."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentfs import AgentFS
from fmos.audit import note as notes
from fmos.audit.checkpoints import (
    checkpoint,
    checkpoint_due,
    export_path,
    home_log,
    let_go,
    pending,
    rotate,
)
from fmos.audit.copies import append, last_of, read_log
from fmos.audit.keys import AuditKeys, verify_signature
from fmos.audit.merkle import Frontier, leaf_hash, root_of
from fmos.audit.note import Checkpoint, Note, parse, verifier_key
from fmos.audit.tree import TreeStore
from fmos.audit.verify import verify
from fmos.errors import FormatError, HomeError, StorageError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

WHO = Principal(agent="ada", session="s1")
STEPS = ("made", "written", "taken", "replaced", "unlocked")

_ROTATE_AND_DIE = """
import os, signal, sys
from fmos.audit.checkpoints import rotate
from fmos.runtime.kernel import Kernel

def step(name):
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

with Kernel.open(sys.argv[1]) as kernel:
    rotate(kernel, "default", step)
"""


def _record(kernel: Kernel, count: int) -> None:
    fs = kernel.agent_fs(WHO)
    with fs.transaction():
        for number in range(count):
            fs.record("op.intent", {"id": f"o{number}", "kind": "tool.call", "name": "run"})


def _signed(kernel: Kernel) -> Note:
    found = checkpoint(kernel, "default")
    assert found is not None
    return found


def _setting(home: Path, text: str) -> Path:
    home.mkdir(exist_ok=True)
    (home / "fmos.toml").write_text(f"[audit]\n{text}\n", encoding="utf-8")
    return home


def test_a_checkpoint_is_a_signed_note_as_c2sp_has_them(kernel: Kernel) -> None:
    """Origin, size and root are its first lines, and key hash and signature as the format says."""
    _record(kernel, 5)
    note = str(_signed(kernel))
    text, _, signature = note.partition("\n\n")
    lines = text.split("\n")
    assert lines[1] == "6"
    assert len(base64.b64decode(lines[2])) == 32
    dash, name, value = signature.rstrip("\n").split(" ")
    assert (dash, name) == ("\u2014", lines[0])
    public = base64.b64decode(kernel.keys_of("default").public_key)
    raw = base64.b64decode(value)
    assert raw[:4] == sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    assert verify_signature(
        kernel.keys_of("default").public_key,
        (text + "\n").encode(),
        base64.b64encode(raw[4:]).decode(),
    )
    encoded = base64.b64encode(b"\x01" + public).decode()
    wanted = f"{name}+{raw[:4].hex()}+{encoded}"
    assert verifier_key(name, kernel.keys_of("default").public_key) == wanted


def test_no_changed_note_holds(kernel: Kernel) -> None:
    """A note with another size, key or signer is not signed; one that is not whole is no note."""
    _record(kernel, 3)
    good = _signed(kernel)
    key = kernel.keys_of("default").public_key
    assert parse(str(good)) == good
    assert good.signed_by(key)
    other = parse(str(good).replace("\n4\n", "\n3\n", 1))
    assert not other.signed_by(key)
    assert not good.signed_by(kernel.keys_of("other").public_key)
    assert not good.signed_by("no key")
    for text in (str(good)[:-30], str(good).replace("chain ", "chian "), "", "x\n\n"):
        with pytest.raises(FormatError):
            parse(text)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=6))
def test_a_tree_that_grows_in_pieces_is_the_tree_of_all(pieces: list[int]) -> None:
    """Its kept frontier, its tiles and the root over all leaves agree, whatever came at once."""
    with tempfile.TemporaryDirectory() as folder, AgentFS.open(f"{folder}/a.afs") as fs:
        store = TreeStore(fs)
        rows: list[bytes] = []
        with fs.transaction():
            tree = store.begin(0, bytes(32))
            for count in pieces:
                new = [sha256(f"{len(rows)}-{n}".encode()).digest() for n in range(count)]
                rows += new
                tree = store.grow(tree, new)
        kept = store.tree()
        assert kept is not None
        root = root_of(leaf_hash(each) for each in rows)
        assert kept.frontier.root() == tree.frontier.root() == root
        assert store.frontier(0, len(rows)).root() == root
        some = len(rows) * 2 // 3
        partly = Frontier()
        for each in rows[:some]:
            partly.add(leaf_hash(each))
        assert store.frontier(0, some).root() == partly.root()


def test_a_checkpoint_is_a_row_and_is_in_the_homes_log(kernel: Kernel) -> None:
    """The journal has its row, the log its note, and without new rows no other one is made."""
    _record(kernel, 4)
    note = _signed(kernel)
    row = list(kernel.volume("default").journal())[-1]
    assert (row.operation, row.detail["note"]) == ("audit.checkpoint", str(note))
    assert read_log(home_log(kernel, "default")) == [note]
    assert _signed(kernel) == note
    assert pending(kernel, "default").rows == 0
    _record(kernel, 2)
    assert pending(kernel, "default").rows == 2
    assert [each.checkpoint.size for each in [note, _signed(kernel)]] == [5, 8]
    assert len(read_log(home_log(kernel, "default"))) == 2
    assert home_log(kernel, "default").stat().st_mode & 0o777 == 0o600


def test_a_tenant_without_rows_has_no_checkpoint(kernel: Kernel) -> None:
    """There is nothing to sign for, and nothing is due."""
    kernel.volume("default")
    assert checkpoint(kernel, "default") is None
    assert checkpoint_due(kernel) == 0


def test_checkpoints_are_due_by_rows_and_by_time(tmp_path: Path) -> None:
    """Enough rows ask for one at once, fewer once they have waited long enough."""
    home = _setting(tmp_path / "home", "checkpoint_rows = 10\ncheckpoint_seconds = 3600")
    with Kernel.open(home) as kernel:
        _record(kernel, 5)
        assert checkpoint_due(kernel) == 0
        _record(kernel, 5)
        assert checkpoint_due(kernel) == 1
        assert checkpoint_due(kernel) == 0
        _record(kernel, 1)
    _setting(home, "checkpoint_rows = 10\ncheckpoint_seconds = 0.001")
    with Kernel.open(home) as kernel:
        assert checkpoint_due(kernel) == 1


def test_copies_go_outside_and_are_made_up_for(tmp_path: Path) -> None:
    """A copy that could not be written is an error, and is there once it can be written."""
    outside = tmp_path / "witness"
    home = _setting(tmp_path / "home", f'export_to = "{outside}"')
    with Kernel.open(home) as kernel:
        _record(kernel, 3)
        with pytest.raises(StorageError, match="no such folder"):
            checkpoint(kernel, "default")
        assert len(read_log(home_log(kernel, "default"))) == 1
        with pytest.raises(StorageError, match="no such folder"):
            checkpoint_due(kernel)
        outside.mkdir()
        assert checkpoint_due(kernel) == 0
        _record(kernel, 3)
        checkpoint(kernel, "default")
        path = export_path(kernel, "default")
        assert path is not None
        assert read_log(path) == read_log(home_log(kernel, "default"))
        assert len(read_log(path)) == 2


def test_a_copy_inside_the_home_is_refused(tmp_path: Path) -> None:
    """It would fall together with what it is there to be checked against."""
    home = _setting(tmp_path / "home", f'export_to = "{tmp_path}/home/audit"')
    with Kernel.open(home) as kernel:
        _record(kernel, 1)
        with pytest.raises(HomeError, match="inside the home"):
            checkpoint(kernel, "default")


def test_a_note_that_a_crash_cut_short_does_not_count(kernel: Kernel) -> None:
    """The next checkpoint takes the place of what is not whole, wherever the cut was."""
    _record(kernel, 3)
    first = _signed(kernel)
    path = home_log(kernel, "default")
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole + whole[:cut])
        assert last_of(path) == first
        append(path, [str(first)])
        assert read_log(path) == [first, first]
        assert path.read_bytes() == whole + whole


def test_nothing_broken_is_signed_for(kernel: Kernel) -> None:
    """A row that is not as it was written stops the checkpoint, which names it."""
    _record(kernel, 6)
    fs = kernel.volume("default")
    tables = fs.extension("audit", "SELECT 1")
    with fs.transaction():
        tables.execute("UPDATE journal SET operation = 'op.other' WHERE seq = 4")
    with pytest.raises(FormatError, match="row 4 of the journal is not as it was written"):
        checkpoint(kernel, "default")


def test_a_journal_behind_the_homes_log_is_not_signed_for(tmp_path: Path) -> None:
    """An older volume that was put back is not carried on as if nothing had been there."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        _record(kernel, 3)
    shutil.copytree(home / "tenants", tmp_path / "older")
    with Kernel.open(home) as kernel:
        _record(kernel, 30)
        checkpoint(kernel, "default")
    shutil.rmtree(home / "tenants")
    shutil.copytree(tmp_path / "older", home / "tenants")
    with Kernel.open(home) as kernel, pytest.raises(HomeError, match="older volume was put back"):
        checkpoint(kernel, "default")


def test_rows_go_only_after_a_checkpoint(kernel: Kernel) -> None:
    """Retention lets covered rows go, and the tree goes on over them."""
    _record(kernel, 300)
    assert let_go(kernel, "default", 0) == 301
    _record(kernel, 20)
    note = _signed(kernel)
    assert (note.checkpoint.base, note.checkpoint.size) == (0, 323)
    report = verify(kernel, "default")
    assert report.ok, report.problems
    assert (report.first, report.checkpoints) == (302, 2)
    assert any("let go by retention; their signed hashes" in each for each in report.unseen)


def test_gc_drops_no_row_that_no_checkpoint_covers(tmp_path: Path) -> None:
    """Neither the kernel's, nor `agentfs gc` on a tenant's volume, nor a retention of 0 does."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        _record(kernel, 30)
        kernel.volume("default").set_retention(0)
        rows = kernel.volume("default").watch().seq
        assert kernel.volume("default").gc(0).journal_rows == 0
        assert kernel.volume("default").gc().journal_rows == 0
    command = ["agentfs.cli", "-f", str(home / "tenants/default.afs"), "gc", "--retention", "0"]
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=True
    )
    assert "and 0 journal rows" in done.stdout
    assert "The journal is kept by fmos" in done.stdout
    with Kernel.open(home) as kernel:
        assert kernel.volume("default").watch().seq == rows
        assert verify(kernel, "default").first == 1


def test_rows_stay_for_the_audits_own_time(tmp_path: Path) -> None:
    """A volume that keeps no history keeps its rows; `keep_days = 0` leaves it to the volume."""
    with Kernel.open(_setting(tmp_path / "kept", "keep_days = 1")) as kernel:
        _record(kernel, 30)
        kernel.volume("default").set_retention(0)
        assert let_go(kernel, "default") == 0
    with Kernel.open(_setting(tmp_path / "short", "keep_days = 0")) as kernel:
        _record(kernel, 30)
        kernel.volume("default").set_retention(0)
        covered = kernel.volume("default").watch().seq
        assert let_go(kernel, "default") == covered
        assert verify(kernel, "default").ok


def test_rows_that_went_before_a_checkpoint_begin_a_new_tree(kernel: Kernel) -> None:
    """What nobody signed for cannot be shown any more: the next tree says after which row."""
    _record(kernel, 30)
    volume = kernel.volume("default")
    volume.keep_journal("")  # as in the volumes of older homes, and in those of other programs
    volume.gc(0)
    _record(kernel, 5)
    note = _signed(kernel)
    assert (note.checkpoint.base, note.checkpoint.seq) == (31, 37)
    assert verify(kernel, "default").ok


# -- keys -------------------------------------------------------------------------------------


def test_a_new_key_is_signed_for_by_the_old_one(kernel: Kernel) -> None:
    """The history leads from the first key to the new one; old checkpoints still hold."""
    _record(kernel, 5)
    old = kernel.keys_of("default").public_key
    change = rotate(kernel, "default")
    history = kernel.key_history("default")
    assert history.keys == (old, change.public)
    assert kernel.keys_of("default").public_key == change.public
    assert (kernel.home.keys / "default" / "audit.pub").read_text().strip() == change.public
    rows = [row for row in kernel.volume("default").journal() if row.operation == "audit.rotate"]
    assert [row.detail for row in rows] == [change.to_json()]
    _record(kernel, 5)
    assert _signed(kernel).signed_by(change.public)
    report = verify(kernel, "default")
    assert report.ok, report.problems
    assert report.checkpoints == 3


def test_the_old_private_key_is_destroyed(kernel: Kernel) -> None:
    """Its bytes are wiped where they lay, and no file of the home has them."""
    kernel.keys_of("default")
    path = kernel.home.keys / "default" / "audit.pem"
    secret = path.read_bytes()
    second_name = kernel.home.path / "held"
    os.link(path, second_name)
    rotate(kernel, "default")
    assert set(second_name.read_bytes()) == {0}
    for found in kernel.home.path.rglob("*"):
        assert not found.is_file() or secret not in found.read_bytes()


@pytest.mark.parametrize("step", STEPS)
def test_a_change_of_keys_survives_being_killed_anywhere(tmp_path: Path, step: str) -> None:
    """After kill -9 at any step there is one key that counts, and the journal verifies."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        _record(kernel, 5)
        old = kernel.keys_of("default").public_key
    killed = subprocess.run(
        [sys.executable, "-c", _ROTATE_AND_DIE, str(home), step], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    with Kernel.open(home) as kernel:
        keys = kernel.keys_of("default")
        history = kernel.key_history("default")
        assert keys.public_key == history.keys[-1]
        assert (keys.public_key != old) == (step in STEPS[2:])
        _record(kernel, 3)
        assert _signed(kernel).signed_by(keys.public_key)
        assert verify(kernel, "default").ok
        change = rotate(kernel, "default")
        assert len(kernel.key_history("default").keys) == change.number + 1
        assert verify(kernel, "default").ok
        assert not (home / "keys/default/audit.next.pem").exists()


def test_a_change_that_kernel_db_lost_is_taken_from_the_folder(tmp_path: Path) -> None:
    """A power cut that takes back kernel.db's commit loses no key: both keys signed the change."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        kernel.keys_of("default")
    shutil.copy(home / "kernel.db", tmp_path / "kernel.db")
    with Kernel.open(home) as kernel:
        change = rotate(kernel, "default")
    for left in home.glob("kernel.db*"):
        left.unlink()
    shutil.copy(tmp_path / "kernel.db", home / "kernel.db")
    with Kernel.open(home) as kernel:
        assert kernel.keys_of("default").public_key == change.public
        assert kernel.key_history("default").changes == (change,)


def test_a_change_that_the_old_key_did_not_sign_is_not_taken(tmp_path: Path) -> None:
    """A key put into the folder together with a history of its own is refused."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        kernel.keys_of("default")
        kernel.keys_of("other")
        rotate(kernel, "other")
    text = (home / "keys/other/history.json").read_text().replace('"other"', '"default"')
    (home / "keys/default/history.json").write_text(text)
    shutil.copy(home / "keys/other/audit.pem", home / "keys/default/audit.pem")
    with Kernel.open(home) as kernel, pytest.raises(HomeError, match="not the one that tenant"):
        kernel.keys_of("default")


def test_other_processes_sign_with_the_new_key(tmp_path: Path) -> None:
    """One that had the old key in memory takes the new one, and none that no rotation made."""
    with Kernel.open(tmp_path / "home") as one, Kernel.open(tmp_path / "home") as other:
        keys = other.keys_of("default")
        change = rotate(one, "default")
        assert keys.public_key == change.public
        assert verify_signature(change.public, b"x", keys.sign(b"x"))
        (tmp_path / "foreign").mkdir()
        AuditKeys(tmp_path / "foreign").require()
        os.replace(tmp_path / "foreign/audit.pem", one.home.keys / "default/audit.pem")
        with pytest.raises(HomeError, match="exchanged for one that no rotation made"):
            keys.sign(b"x")


def test_an_old_key_signs_nothing_beyond_its_last_row(tmp_path: Path, kernel: Kernel) -> None:
    """A checkpoint made with a stolen old key, after it was given up, is found."""
    _record(kernel, 5)
    folder = kernel.home.keys / "default"
    kernel.keys_of("default")
    shutil.copytree(folder, tmp_path / "stolen")
    rotate(kernel, "default")
    _record(kernel, 20)
    honest = _signed(kernel)
    forged = replace(honest.checkpoint, key=0)
    stolen = AuditKeys(tmp_path / "stolen")
    note = notes.sign(forged, stolen.public_key, stolen.sign)
    report = verify(kernel, "default", [note])
    assert [each.what for each in report.problems] == ["signature"]
    assert "was given up after row 6" in report.problems[0].sentence
    assert isinstance(forged, Checkpoint)


def test_a_start_signed_with_a_key_that_was_given_up_is_found(
    tmp_path: Path, kernel: Kernel
) -> None:
    """A stolen old key signs for no rows that went after it was given up; the present one does."""
    _record(kernel, 5)
    folder = kernel.home.keys / "default"
    kernel.keys_of("default")
    shutil.copytree(folder, tmp_path / "stolen")
    rotate(kernel, "default")
    _record(kernel, 20)
    let_go(kernel, "default", 0)
    assert verify(kernel, "default").ok
    fs = kernel.volume("default")
    start = fs.journal_start()
    assert start.seq > (kernel.key_history("default").final_row(0) or 0)
    stolen = AuditKeys(tmp_path / "stolen").sign(start.hash).encode("ascii")
    tables = fs.extension("audit", "SELECT 1")
    with fs.transaction():
        tables.execute("UPDATE checkpoint SET signature = ?", (stolen,))
    problems = verify(kernel, "default").problems
    assert [(each.what, each.seq) for each in problems] == [("signature", start.seq)]
    assert "given up before that row" in problems[0].sentence


def test_a_start_signed_before_the_key_was_given_up_holds(kernel: Kernel) -> None:
    """Rows that retention let go under the former key stay signed for after a rotation."""
    _record(kernel, 5)
    let_go(kernel, "default", 0)
    rotate(kernel, "default")
    report = verify(kernel, "default")
    assert report.ok, report.problems


def test_a_look_in_the_middle_of_a_change_waits_and_refuses_nothing(tmp_path: Path) -> None:
    """One change done, the next taken by kernel.db and not by the file: a signer looks again."""
    home = tmp_path / "home"
    with Kernel.open(home) as one, Kernel.open(home) as other:
        keys = other.keys_of("default")
        rotate(one, "default")
        signed: list[str] = []
        signer = threading.Thread(target=lambda: signed.append(keys.sign(b"x")))

        def step(name: str) -> None:
            if name == "taken":
                signer.start()
                signer.join(0.2)
                assert not signed  # kernel.db is ahead of the file now

        change = rotate(one, "default", step)
        signer.join(30)
        assert [verify_signature(change.public, b"x", each) for each in signed] == [True]


def test_a_signer_that_asks_kernel_db_holds_up_no_other(tmp_path: Path) -> None:
    """It asks without holding the lock: who changes the keys, and signs, never waits for it."""
    AuditKeys(tmp_path).require()
    both = threading.Barrier(2, timeout=5)

    def current() -> str:
        both.wait()
        return AuditKeys(tmp_path).public_key

    keys = AuditKeys(tmp_path, make=False, current=current)
    keys.require()
    os.utime(tmp_path / "audit.pem", (1, 1))
    signed: list[str] = []
    signers = [threading.Thread(target=lambda: signed.append(keys.sign(b"x"))) for _ in "ab"]
    for each in signers:
        each.start()
    for each in signers:
        each.join(10)
    assert len(signed) == 2


def test_a_change_of_keys_does_not_wait_for_another_tenants_first_use(kernel: Kernel) -> None:
    """One thread changes a key while another makes a tenant's: neither holds what both need."""
    _record(kernel, 1)
    made: list[str] = []
    other = threading.Thread(target=lambda: made.append(kernel.keys_of("other").public_key))

    def step(name: str) -> None:
        if name == "made":
            other.start()
            other.join(0.3)  # it waits for kernel.db now

    began = time.monotonic()
    rotate(kernel, "default", step)
    other.join(30)
    assert time.monotonic() - began < 10
    assert len(made) == 1
