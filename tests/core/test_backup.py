"""Backups: of one instant while others write, whole or not there, and every byte is checked."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.home_writer import faults_of, writing
from tests.core.waiting import until

from fmos.care import archive, encryption
from fmos.care.backup import backup, read_passphrase, verify
from fmos.care.restore import restore
from fmos.errors import ArgumentError, FormatError, HomeError, StorageError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

_WHO = Principal(agent="writer", session="monday")
_WRITE = "from pathlib import Path; from fmos.care.backup import backup;"
_CONTRACT = """apiVersion: agentos/v0.2
kind: AgentContract
name: writer
class: { latency: DT }
capabilities: ["read_file"]
budgets: { tokens: 50k }
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a contract, settings, keys, files and spending."""
    path = tmp_path / "home"
    with Kernel.open(path) as kernel:
        (path / "contracts" / "writer.yaml").write_text(_CONTRACT, encoding="utf-8")
        (path / "fmos.toml").write_text("", encoding="utf-8")
        kernel.keys_of("default")
        kernel.agent_files(_WHO).write("/note.txt", "kept\n")
        kernel.agent_files(_WHO).write("/big.bin", random.Random(1).randbytes(700_000))
        held = kernel.reserve(_WHO, {"tokens": 40}, operation="one")
        kernel.ledger.commit(held.id, {"tokens": 30})
        kernel.reserve(_WHO, {"tokens": 7}, operation="open")
    return path


def _spent(home: Path) -> int:
    with Kernel.open(home) as kernel:
        rows = kernel.ledger.status(kernel.account(_WHO))
    return next(b.spent for b in rows if b.resource == "tokens" and "session:" in str(b.account))


def test_everything_comes_back(home: Path, tmp_path: Path) -> None:
    """Files, keys, contracts, settings and spending of a restored home are those of the backup."""
    made = backup(home, tmp_path / "b.fmos", fmos_version="1")
    done = restore(tmp_path / "b.fmos", tmp_path / "new")
    assert done.manifest == made.manifest
    assert not done.faults
    with Kernel.open(tmp_path / "new") as kernel, Kernel.open(home) as older:
        assert kernel.agent_files(_WHO).read("/note.txt") == b"kept\n"
        assert kernel.agent_files(_WHO).read("/big.bin") == older.agent_files(_WHO).read("/big.bin")
        assert kernel.keys_of("default").public_key == older.keys_of("default").public_key
        assert kernel.contract(_WHO) == older.contract(_WHO)
    assert _spent(tmp_path / "new") == 30
    assert (tmp_path / "new/fmos.toml").exists()
    for folder, _, names in os.walk(tmp_path / "new"):
        assert os.stat(folder).st_mode & 0o077 == 0
        assert all(os.stat(Path(folder, name)).st_mode & 0o077 == 0 for name in names)


def test_a_restore_is_in_each_history(home: Path, tmp_path: Path) -> None:
    """Every volume gets one row `home.restore` after those of the backup; what is lost is said."""
    with Kernel.open(home) as kernel:
        kernel.volume("other").write("/a", "x")
    made = backup(home, tmp_path / "b.fmos")
    done = restore(tmp_path / "b.fmos", tmp_path / "new")
    assert any("spending" in each for each in done.notes)
    with Kernel.open(tmp_path / "new") as kernel:
        for tenant, facts in made.manifest.volumes.items():
            row = list(kernel.volume(tenant).journal())[-1]
            assert (row.operation, row.seq) == ("home.restore", facts.journal_rows + 1)
            assert row.detail["head"] == facts.journal_head
            assert done.rows[tenant] == row.seq
            assert kernel.volume(tenant).verify_journal().ok


def test_a_backup_among_writers_is_of_one_instant(tmp_path: Path) -> None:
    """Beside two writing processes every backup is what a power cut at one moment would leave."""
    home = tmp_path / "home"
    with writing(home, "one", "two"):
        for number in range(5):
            backup(home, tmp_path / f"{number}.fmos")
    for number in range(5):
        restore(tmp_path / f"{number}.fmos", tmp_path / f"home{number}")
        assert faults_of(tmp_path / f"home{number}") == []
    assert len({(tmp_path / f"{n}.fmos").read_bytes() for n in range(5)}) == 5


def test_somebody_who_writes_to_two_databases_at_once_does_not_block_it(
    home: Path, tmp_path: Path
) -> None:
    """A writer that holds a volume and then wants kernel.db gets it; then the backup is made."""
    volume = apsw.Connection(str(home / "tenants/default.afs"))
    volume.execute("BEGIN IMMEDIATE")
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{_WRITE} backup(Path({str(home)!r}), Path({str(tmp_path / 'b')!r}))",
        ]
    )
    kernel_db = apsw.Connection(str(home / "kernel.db"))
    kernel_db.set_busy_timeout(20_000)
    until(lambda: _is_locked(home / "kernel.db"))  # the backup has begun
    assert child.poll() is None
    kernel_db.execute("BEGIN IMMEDIATE; ROLLBACK")
    volume.execute("ROLLBACK")
    assert child.wait(30) == 0
    volume.close()
    kernel_db.close()
    assert not verify(tmp_path / "b").faults


def _is_locked(path: Path) -> bool:
    connection = apsw.Connection(str(path))
    try:
        connection.execute("BEGIN IMMEDIATE; ROLLBACK")
    except apsw.BusyError:
        return True
    finally:
        connection.close()
    return False


def test_a_killed_backup_leaves_nothing_that_looks_whole(home: Path, tmp_path: Path) -> None:
    """Kill -9 at random moments leaves no file of the target's name, or a whole one."""
    target = tmp_path / "b.fmos"
    rolls = random.Random(7)
    for _ in range(12):
        target.unlink(missing_ok=True)
        _killed(lambda: backup(home, target), rolls.uniform(0.001, 0.05))
        if target.exists():
            assert not verify(target).faults
    target.unlink(missing_ok=True)
    backup(home, target)  # whatever the killed ones left is no hindrance
    assert not verify(target).faults
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.fmos", "home"]


def _killed(work: Callable[[], object], after_s: float) -> None:
    """Do the work in a fork of this process, and kill that after some time."""
    child = os.fork()
    if not child:
        with suppress(BaseException):
            work()
        os._exit(0)
    end = time.monotonic() + after_s
    while time.monotonic() < end and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.0005)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(child, 0)


def test_a_killed_restore_leaves_the_home_as_it_was_or_whole(home: Path, tmp_path: Path) -> None:
    """Kill -9 at random moments of a restore over a home leaves that home or the restored one."""
    target, place = tmp_path / "b.fmos", tmp_path / "place"
    backup(home, target)
    (place / "tenants").mkdir(parents=True)
    (place / "mark").touch()
    rolls = random.Random(3)
    for _ in range(12):
        _killed(lambda: restore(target, place, force=True), rolls.uniform(0.001, 0.12))
        assert place.is_dir()
        if not (place / "mark").exists():
            assert _spent(place) == 30
    restore(target, place, force=True)
    assert _spent(place) == 30
    names = [each.name for each in tmp_path.iterdir()]
    assert not [name for name in names if "restoring" in name]
    assert any((tmp_path / name / "mark").exists() for name in names)  # never deleted


_KILLED_AT = """
import os, sys
from pathlib import Path
import fmos.care.restore as care

left, exchange = int(sys.argv[3]), sys.argv[4] == "exchange"

def tick():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), 9)

def stepwise(work):
    def run(*given):
        tick()
        done = work(*given)
        tick()
        return done
    return run

put, swap, rename = care._put, care._exchange, os.rename
def armed(staged, place):
    care._exchange = stepwise(swap if exchange else lambda one, other: False)
    os.rename = stepwise(rename)
    return put(staged, place)
care._put = armed
care.restore(Path(sys.argv[1]), Path(sys.argv[2]), force=True)
"""


@pytest.mark.parametrize("way", ["exchange", "none"])
def test_the_home_before_outlives_a_kill_at_every_step(
    home: Path, tmp_path: Path, way: str
) -> None:
    """Kill -9 before and after each rename of a restore, and a next restore, lose no home."""
    target = tmp_path / "b.fmos"
    backup(home, target)
    marks: set[str] = set()
    step = 0
    for step in range(1, 20):
        marks.add(f"mark{step}")
        (home / f"mark{step}").touch()
        command = [sys.executable, "-c", _KILLED_AT, str(target), str(home), str(step), way]
        ended = subprocess.run(command, check=False).returncode
        restore(target, home, force=True)
        assert {each.name for each in tmp_path.glob("home*/mark*")} == marks
        if not ended:
            break
        assert ended == -signal.SIGKILL
    assert step >= 5
    assert _spent(home) == 30


def test_an_interrupted_restore_leaves_the_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the moment of the exchange leaves the home as it was, or under its final name."""
    backup(home, tmp_path / "b.fmos")
    (home / "mark").touch()
    care = sys.modules["fmos.care.restore"]
    swap = care._exchange

    def interrupted(one: Path, other: Path) -> bool:
        swap(one, other)
        raise KeyboardInterrupt

    monkeypatch.setattr(care, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "b.fmos", home, force=True)
    [mark] = tmp_path.glob("home*/mark")
    assert ".before-" in mark.parent.name
    assert _spent(home) == 30


def test_drafts_of_killed_writers_are_left_out(home: Path, tmp_path: Path) -> None:
    """What a writer had not given its name yet is no part of the state; other hidden files are."""
    drafts = (".signing.pem.0123456789abcdef", ".a.yaml.new", ".fmos.toml.0a1b2c3d")
    for name in (*drafts, ".kept", ".kept.yaml", "a.new"):
        (home / "contracts" / name).touch()
    backup(home, tmp_path / "b.fmos")
    restore(tmp_path / "b.fmos", tmp_path / "place")
    names = {each.name for each in (tmp_path / "place" / "contracts").iterdir()}
    assert names == {"writer.yaml", ".kept", ".kept.yaml", "a.new"}


@pytest.mark.parametrize("what", ["backup", "restore"])
def test_a_full_disk_leaves_nothing_behind(home: Path, tmp_path: Path, what: str) -> None:
    """Where the system refuses to let a file grow, the error says so and nothing is left."""
    backup(home, tmp_path / "good.fmos")
    call = {
        "backup": f"fmos.care.backup.backup(Path({str(home)!r}), Path({str(tmp_path / 'b')!r}))",
        "restore": f"fmos.care.restore.restore(Path({str(tmp_path / 'good.fmos')!r}),"
        f" Path({str(tmp_path / 'new')!r}))",
    }[what]
    code = (
        "import resource, signal, fmos.care.backup, fmos.care.restore; from pathlib import Path\n"
        "from fmos.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        f"try:\n    {call}\nexcept StorageError as error:\n    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "cannot write" in ran.stdout or "no space" in ran.stdout, ran.stderr
    assert "free space" in ran.stdout
    assert sorted(each.name for each in tmp_path.iterdir()) == ["good.fmos", "home"]


class _Files(NamedTuple):
    """Two backups, as bytes, and the folder of their files."""

    plain: bytes
    sealed: bytes
    folder: Path

    def __repr__(self) -> str:
        return f"files in {self.folder}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> _Files:
    """A plain and an encrypted backup, as bytes, and a folder."""
    folder = tmp_path_factory.mktemp("files")
    with Kernel.open(folder / "home") as kernel:
        kernel.agent_files(_WHO).write("/a", random.Random(2).randbytes(200_000))
    backup(folder / "home", folder / "plain")
    backup(folder / "home", folder / "sealed", passphrase=b"correct horse")
    return _Files((folder / "plain").read_bytes(), (folder / "sealed").read_bytes(), folder)


_FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_FEW
@given(cut=st.floats(0, 1, exclude_max=True), sealed=st.integers(0, 5).map(lambda n: not n))
def test_a_backup_that_was_cut_short_is_refused(files: _Files, cut: float, sealed: bool) -> None:
    """Whatever is missing from its end, reading it ends in one sentence."""
    data = files[sealed]
    path = files[2] / "cut"
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises((FormatError, ArgumentError)):
        verify(path, passphrase=b"correct horse" if sealed else None, quick=True)


@_FEW
@given(
    at=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    sealed=st.integers(0, 5).map(lambda n: not n),
)
def test_a_changed_bit_is_found(files: _Files, at: float, bit: int, sealed: bool) -> None:
    """A backup of which one bit is another is refused, or gives what the whole one gives."""
    data = bytearray(files[sealed])
    data[int(len(data) * at)] ^= 1 << bit
    path = files[2] / "changed"
    path.write_bytes(data)
    phrase = b"correct horse" if sealed else None
    try:
        found = verify(path, passphrase=phrase, quick=True)
    except (FormatError, ArgumentError):
        return
    (files[2] / "whole").write_bytes(files[sealed])
    assert found.manifest == verify(files[2] / "whole", passphrase=phrase, quick=True).manifest


def test_an_encrypted_backup_needs_its_passphrase(files: _Files, tmp_path: Path) -> None:
    """Without or with another passphrase nothing is read, and the error says which it is."""
    path = tmp_path / "sealed"
    path.write_bytes(files[1])
    assert b"kernel.db" not in files[1]
    with pytest.raises(ArgumentError, match="is encrypted; name its passphrase"):
        verify(path)
    with pytest.raises(FormatError, match="does not open with this passphrase"):
        verify(path, passphrase=b"wrong horse")
    with pytest.raises(ArgumentError, match="is not encrypted"):
        verify(files[2] / "plain", passphrase=b"correct horse")
    assert not verify(path, passphrase=b"correct horse").faults


def test_chunks_cannot_be_exchanged_or_left_out(files: _Files) -> None:
    """A sealed file whose chunks were reordered, repeated or dropped does not open."""
    head, size = len(encryption.MAGIC) + 24, (1 << 16) + 16
    body = files[1][head:]
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert len(chunks) > 2
    path = files[2] / "tampered"
    for order in ([1, 0], [0, 0, 1], [0]):
        path.write_bytes(files[1][:head] + b"".join(chunks[at] for at in order))
        with pytest.raises(FormatError):
            verify(path, passphrase=b"correct horse", quick=True)


@pytest.mark.parametrize(
    "name", ["home/../out", "/etc/out", "home/a//b", "home/", "out", "home/./a", "home/a/.."]
)
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    """A file that is made to look like a backup writes nothing outside of the home."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    path = tmp_path / "evil"
    path.write_bytes(zstandard.compress(raw.getvalue()))
    with pytest.raises(FormatError, match="no backup of FMOS"):
        restore(path, tmp_path / "new")
    assert [each.name for each in tmp_path.iterdir()] == ["evil"]


def test_links_are_refused(tmp_path: Path) -> None:
    """A member that is no regular file makes the whole file none of ours."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        info = tarfile.TarInfo("home/keys")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
    (tmp_path / "evil").write_bytes(zstandard.compress(raw.getvalue()))
    with pytest.raises(FormatError, match="no backup of FMOS"):
        restore(tmp_path / "evil", tmp_path / "new")


def test_standard_tools_can_read_it(home: Path, tmp_path: Path) -> None:
    """A backup is a tar under zstd, so that it can be taken apart without FMOS."""
    backup(home, tmp_path / "b.fmos")
    raw = zstandard.ZstdDecompressor().stream_reader((tmp_path / "b.fmos").read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        names = tar.getnames()
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert names[-1] == "manifest.json"
    assert {"home/kernel.db", "home/tenants/default.afs", "home/contracts/writer.yaml"} < set(names)
    assert manifest["format"] == archive.FORMAT
    assert not any("fmos.sock" in name or "-wal" in name for name in names)


def test_without_keys_a_restored_home_waits_for_them(home: Path, tmp_path: Path) -> None:
    """A backup without keys holds none and says so; its home refuses the tenant until then."""
    made = backup(home, tmp_path / "b.fmos", keys=False)
    assert not any(member.name.startswith("keys/") for member in made.manifest.members)
    assert any("no keys" in each for each in made.notes)
    done = restore(tmp_path / "b.fmos", tmp_path / "new")
    assert any("no keys" in each for each in done.notes)
    with (
        Kernel.open(tmp_path / "new") as kernel,
        pytest.raises(HomeError, match="is missing; restore it from a backup"),
    ):
        kernel.keys_of("default")


def test_where_a_backup_may_go(home: Path, tmp_path: Path) -> None:
    """Not into the home, not over another file unless allowed, not where no home is."""
    with pytest.raises(ArgumentError, match="in the home itself"):
        backup(home, home / "keys" / "b.fmos")
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(ArgumentError, match="in the home itself"):
        backup(home, tmp_path / "link" / "b.fmos")
    backup(home, tmp_path / "b.fmos")
    with pytest.raises(ArgumentError, match="there already"):
        backup(home, tmp_path / "b.fmos")
    backup(home, tmp_path / "b.fmos", overwrite=True)
    with pytest.raises(HomeError, match="no FMOS home"):
        backup(tmp_path / "none", tmp_path / "c.fmos")
    with pytest.raises(HomeError, match="no FMOS home"):
        backup(tmp_path, tmp_path / "c.fmos")
    with pytest.raises(ArgumentError, match="make it first"):
        backup(home, tmp_path / "none" / "c.fmos")
    assert (tmp_path / "b.fmos").stat().st_mode & 0o077 == 0


def test_where_a_restore_may_go(home: Path, tmp_path: Path) -> None:
    """Not over anything; with force what is there is moved aside, and nothing is deleted."""
    backup(home, tmp_path / "b.fmos")
    (home / "mark").touch()
    with pytest.raises(HomeError, match="--force to move it aside"):
        restore(tmp_path / "b.fmos", home)
    done = restore(tmp_path / "b.fmos", home, force=True)
    assert (Path(done.kept) / "mark").exists()
    assert not (home / "mark").exists()
    (tmp_path / "empty").mkdir()
    assert restore(tmp_path / "b.fmos", tmp_path / "empty").kept == ""
    with pytest.raises(HomeError, match="is a file"):
        restore(tmp_path / "b.fmos", tmp_path / "b.fmos", force=True)


def test_a_home_in_use_is_not_replaced(home: Path, tmp_path: Path) -> None:
    """While a process has the home open the restore names it, and the home stays."""
    backup(home, tmp_path / "b.fmos")
    with (
        writing(home, "one") as writers,
        pytest.raises(HomeError, match=rf"process {writers[0].pid}"),
    ):
        restore(tmp_path / "b.fmos", home, force=True)
    assert (home / "kernel.db").exists()
    assert not [each for each in tmp_path.iterdir() if "before" in each.name]


def test_a_newer_backup_is_refused(home: Path, tmp_path: Path) -> None:
    """What a newer FMOS wrote is not restored; the error names both versions and the way out."""
    connection = apsw.Connection(str(home / "kernel.db"))
    connection.execute("UPDATE component SET version = 99 WHERE name = 'ledger'")
    connection.close()
    backup(home, tmp_path / "b.fmos", fmos_version="7.0")
    with pytest.raises(FormatError, match=r"FMOS 7\.0.*version 99, newer than the \d.*upgrade"):
        restore(tmp_path / "b.fmos", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_damage_is_kept_and_said(home: Path, tmp_path: Path) -> None:
    """A damaged volume does not stop a backup of the rest; restoring it takes a person's word."""
    with open(home / "tenants" / "default.afs", "r+b") as file:
        file.seek(40_960)
        file.write(b"\xff" * 20_000)
    made = backup(home, tmp_path / "b.fmos")
    assert any("damaged" in each for each in made.notes)
    assert verify(tmp_path / "b.fmos").faults
    with pytest.raises(FormatError, match=r"tenants/default\.afs"):
        restore(tmp_path / "b.fmos", tmp_path / "new")
    (home / "tenants" / "default.afs").write_bytes(b"no database at all")
    made = backup(home, tmp_path / "c.fmos")
    assert any("not a database" in each for each in made.notes)
    with pytest.raises(FormatError, match="not a database"):
        restore(tmp_path / "c.fmos", tmp_path / "new")
    done = restore(tmp_path / "c.fmos", tmp_path / "new", damaged=True)
    assert done.faults
    assert (tmp_path / "new/tenants/default.afs").read_bytes() == b"no database at all"
    assert _spent(tmp_path / "new") == 30


def test_a_passphrases_file_is_private(tmp_path: Path) -> None:
    """Its first line is the passphrase; a file that others read, or without one, is refused."""
    path = tmp_path / "phrase"
    path.write_text("correct horse\nrest\n", encoding="utf-8")
    path.chmod(0o644)
    with pytest.raises(ArgumentError, match="chmod 600"):
        read_passphrase(path)
    path.chmod(0o600)
    assert read_passphrase(path) == b"correct horse"
    path.write_text("short\n", encoding="utf-8")
    with pytest.raises(ArgumentError, match="no passphrase"):
        read_passphrase(path)
    with pytest.raises(ArgumentError, match="cannot read"):
        read_passphrase(tmp_path / "none")


def test_other_files_are_of_the_same_instant(home: Path, tmp_path: Path) -> None:
    """A log that grew and a file that was replaced since come back as they were at the instant."""
    log, contract = home / "audit" / "log", home / "contracts" / "writer.yaml"
    log.parent.mkdir()
    log.write_bytes(b"line\n" * 50_000)
    began: list[str] = []

    def meanwhile(what: str, done: int) -> None:
        if not began:
            began.append(what)
            with open(log, "ab") as file:
                file.write(b"later\n")
            (home / "draft").write_text("other", encoding="utf-8")
            os.replace(home / "draft", contract)

    backup(home, tmp_path / "b.fmos", progress=meanwhile)
    assert began
    restore(tmp_path / "b.fmos", tmp_path / "new")
    assert (tmp_path / "new/audit/log").read_bytes() == b"line\n" * 50_000
    assert (tmp_path / "new/contracts/writer.yaml").read_text("utf-8") == _CONTRACT


def test_what_was_signed_for_still_agrees(home: Path, tmp_path: Path) -> None:
    """Checkpoints signed before and during a backup leave a restored journal that verifies."""
    from fmos.audit.checkpoints import checkpoint
    from fmos.audit.verify import verify as audit

    with Kernel.open(home) as kernel:
        checkpoint(kernel, "default")
        began: list[str] = []

        def meanwhile(what: str, done: int) -> None:
            if not began:
                began.append(what)
                kernel.agent_files(_WHO).write("/later.txt", "x")
                checkpoint(kernel, "default")

        backup(home, tmp_path / "b.fmos", progress=meanwhile)
        assert began
    restore(tmp_path / "b.fmos", tmp_path / "new")
    with Kernel.open(tmp_path / "new") as kernel:
        assert not kernel.agent_files(_WHO).exists("/later.txt")
        report = audit(kernel, "default")
        assert (report.problems, report.checkpoints) == ([], 1)
        checkpoint(kernel, "default")
        assert audit(kernel, "default").ok


def test_two_backups_to_one_file_do_not_mix(home: Path, tmp_path: Path) -> None:
    """While one writes, a second to the same name is refused, and the first is whole."""
    second: list[str] = []

    def meanwhile(what: str, done: int) -> None:
        if not second:
            second.append("")
            try:
                backup(home, tmp_path / "b.fmos")
            except ArgumentError as error:
                second[0] = str(error)

    backup(home, tmp_path / "b.fmos", progress=meanwhile)
    assert "another backup is being written" in second[0]
    assert not verify(tmp_path / "b.fmos").faults


def test_a_locked_database_is_named(home: Path, tmp_path: Path) -> None:
    """A lock that lasts ends the backup with a sentence, not with half a copy."""
    from fmos.care.cut import one_instant

    holder = apsw.Connection(str(home / "kernel.db"))
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="not free at once"), one_instant(home, patience_s=0.1):
        pass
    holder.close()
