"""Whatever is done to a journal behind FMOS's back is found and named, as far as it can be seen."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from agentfs import AgentFS
from fmos.audit.checkpoints import checkpoint, home_log, let_go, rotate
from fmos.audit.note import Note
from fmos.audit.sweep import Range, sweep_all
from fmos.audit.tree import TreeStore
from fmos.audit.verify import AuditReport, verify, verify_tail
from fmos.errors import FormatError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

WHO = Principal(agent="ada", session="s1")
ROWS = 600
FIELDS = "time_ns, principal, branch, operation, path, path2, before, after, detail, hash"


def _record(kernel: Kernel, count: int, name: str = "run") -> None:
    fs = kernel.agent_fs(WHO)
    with fs.transaction():
        for number in range(count):
            fs.record("op.intent", {"id": f"o{number}", "name": name, "decision": "deny"})


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with checkpoints by two keys, and a few rows after the last one."""
    home = tmp_path_factory.mktemp("pristine") / "home"
    with Kernel.open(home) as kernel:
        _record(kernel, ROWS // 2)
        rotate(kernel, "default")
        _record(kernel, ROWS // 2)
        checkpoint(kernel, "default")
        _record(kernel, 5)
    return home


@pytest.fixture
def home(pristine: Path, tmp_path: Path) -> Path:
    """A copy of that home, to be damaged."""
    return Path(shutil.copytree(pristine, tmp_path / "home"))


def _damage(home: Path, *statements: str) -> None:
    with sqlite3.connect(home / "tenants/default.afs") as raw:
        for each in statements:
            raw.execute(each)
    raw.close()


def _report(home: Path, *outside: Note) -> AuditReport:
    with Kernel.open(home) as kernel:
        return verify(kernel, "default", outside)


def _newest(home: Path) -> Note:
    with Kernel.open(home) as kernel:
        found = checkpoint(kernel, "default")
    assert found is not None
    return found


def _rewrite(home: Path, since: int, change: Callable[[str], str]) -> None:
    """Write the details of all rows from one on anew, with a chain that is right."""
    with sqlite3.connect(home / "tenants/default.afs") as raw:
        raw.text_factory = str
        previous = raw.execute("SELECT hash FROM journal WHERE seq = ?", (since - 1,)).fetchone()[0]
        query = f"SELECT seq, {FIELDS} FROM journal WHERE seq >= ? ORDER BY seq"
        names = ["seq", *FIELDS.split(", ")]
        for row in raw.execute(query, (since,)).fetchall():
            fields = dict(zip(names, row, strict=True))
            del fields["hash"]
            fields["detail"] = change(fields["detail"])
            text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
            previous = sha256(previous + text.encode("ascii")).digest()
            raw.execute(
                "UPDATE journal SET detail = ?, hash = ? WHERE seq = ?",
                (fields["detail"], previous, fields["seq"]),
            )
    raw.close()


def test_an_untouched_journal_is_whole_and_the_report_says_what_it_cannot_see(home: Path) -> None:
    """All rows and checkpoints hold; without an outside checkpoint the report says what is open."""
    report = _report(home)
    assert (report.ok, report.first_bad, report.first) == (True, None, 1)
    assert (report.rows, report.checkpoints) == (ROWS + 10, 3)
    assert report.covered == ROWS + 4
    assert "without a checkpoint from outside the home" in report.unseen[0]
    assert f"rows {ROWS + 5} to {ROWS + 10} have no checkpoint yet" in report.unseen[1]
    outside = _report(home, _newest(home))
    assert outside.covered_outside == ROWS + 10
    assert "after row" in outside.unseen[0]


SWAP = (
    "UPDATE journal SET seq = -7 WHERE seq = 7",
    "UPDATE journal SET seq = 7 WHERE seq = 8",
    "UPDATE journal SET seq = 8 WHERE seq = -7",
)


@pytest.mark.parametrize(
    ("statements", "what", "seq"),
    [
        (["UPDATE journal SET detail = replace(detail, 'deny', 'allow') WHERE seq = 9"],
         "changed", 9),
        (["UPDATE journal SET principal = 'default/-/eve/s1' WHERE seq = 300"], "changed", 300),
        (["UPDATE journal SET time_ns = time_ns + 1 WHERE seq = 2"], "changed", 2),
        (["UPDATE journal SET hash = zeroblob(32) WHERE seq = 601"], "changed", 601),
        (["UPDATE journal SET detail = CAST(x'ff' AS TEXT) WHERE seq = 20"], "changed", 20),
        (["DELETE FROM journal WHERE seq = 1"], "removed", 1),
        (["DELETE FROM journal WHERE seq BETWEEN 250 AND 400"], "removed", 250),
        (["DELETE FROM journal WHERE seq = 5",
          "UPDATE journal SET seq = -seq + 1 WHERE seq > 5",
          "UPDATE journal SET seq = -seq WHERE seq < 0"], "removed", 5),
        (SWAP, "reordered", 7),
        ([*SWAP, "UPDATE journal SET time_ns = 1 WHERE seq = 500"], "reordered", 7),
        (["DELETE FROM journal WHERE seq > 500"], "cut", 501),
        (["DELETE FROM journal WHERE seq > 500", "DELETE FROM ext_audit_checkpoint",
          "DELETE FROM ext_audit_tile", "DELETE FROM ext_audit_tree"], "cut", 501),
        (["INSERT INTO checkpoint SELECT seq, time_ns, hash, 99, NULL FROM journal WHERE seq = 99",
          "DELETE FROM journal WHERE seq <= 99"], "removed", 99),
    ],
)  # fmt: skip
def test_tampering_is_found_and_named(
    home: Path, statements: list[str], what: str, seq: int
) -> None:
    """A changed, removed or moved row, and an end that is cut off, are told apart."""
    _damage(home, *statements)
    report = _report(home)
    assert report.problems
    assert (report.problems[0].what, report.problems[0].seq) == (what, seq)
    assert (report.ok, report.first_bad) == (False, seq)


def test_a_journal_written_anew_is_found_by_its_checkpoints(home: Path) -> None:
    """The chain is right again, and yet the first row that is another one is named."""
    _rewrite(home, 400, lambda text: text.replace("deny", "allow"))
    with Kernel.open(home) as kernel:
        assert kernel.volume("default").verify_journal().ok
    report = _report(home)
    assert [(each.what, each.seq) for each in report.problems] == [("recomputed", 400)]


def test_without_the_kept_hashes_the_range_is_named(home: Path) -> None:
    """Who takes the tree away too leaves the range between two checkpoints."""
    _rewrite(home, 400, lambda text: text.replace("deny", "allow"))
    _damage(home, "DELETE FROM ext_audit_tile WHERE level = 0")
    problem = _report(home).problems[0]
    assert (problem.what, problem.seq) == ("recomputed", 304)
    assert f"one of rows 304 to {ROWS + 4}" in problem.sentence


def test_only_an_outside_checkpoint_shows_what_all_of_the_home_hides(home: Path) -> None:
    """With the home's own checkpoints gone a cut end passes, unless one was kept elsewhere."""
    outside = _newest(home)
    gone = [f"DELETE FROM {table}" for table in
            ("ext_audit_checkpoint", "ext_audit_tile", "ext_audit_tree")]  # fmt: skip
    _damage(home, "DELETE FROM journal WHERE seq > 500", *gone)
    shutil.rmtree(home / "audit")
    report = _report(home)
    assert report.ok
    assert "cannot be seen" in report.unseen[0]
    report = _report(home, outside)
    assert [(each.what, each.seq) for each in report.problems] == [("cut", 501)]


def test_a_history_recomputed_by_who_has_the_key_is_found_from_outside(home: Path) -> None:
    """With the key, everything in the home can be made right again; the outside copy differs."""
    outside = _newest(home)
    _rewrite(home, 400, lambda text: text.replace("deny", "allow"))
    gone = [f"DELETE FROM {table}" for table in
            ("ext_audit_checkpoint", "ext_audit_tile", "ext_audit_tree")]  # fmt: skip
    _damage(home, *gone)
    shutil.rmtree(home / "audit")
    with Kernel.open(home) as kernel:
        checkpoint(kernel, "default")
    assert _report(home).ok
    report = _report(home, outside)
    assert [each.what for each in report.problems] == ["recomputed"]


def test_a_checkpoint_of_another_volume_or_signer_is_no_evidence(
    home: Path, tmp_path: Path
) -> None:
    """It is named instead of being passed over."""
    with Kernel.open(tmp_path / "other") as kernel:
        _record(kernel, 3)
        foreign = checkpoint(kernel, "default")
    assert foreign is not None
    assert [each.what for each in _report(home, foreign).problems] == ["checkpoint"]
    log = home / "audit/default/checkpoints.log"
    log.write_text(log.read_text().replace("key 0", "key 1", 1))
    assert [each.what for each in _report(home).problems] == ["signature"]


def test_a_lost_key_is_said_and_the_rows_are_checked_all_the_same(home: Path) -> None:
    """The public keys are enough to check what was signed."""
    (home / "keys/default/audit.pem").unlink()
    report = _report(home)
    assert [each.what for each in report.problems] == ["key"]
    assert "missing" in report.problems[0].sentence
    assert report.checkpoints == 3


def test_rows_that_retention_let_go_are_covered(home: Path) -> None:
    """Their hashes stay: an exchanged last hash, or one signed by nobody, is found."""
    with Kernel.open(home) as kernel:
        let_go(kernel, "default", 0)
        _record(kernel, 300)
        checkpoint(kernel, "default")
    report = _report(home)
    assert report.ok, report.problems
    assert report.checkpoints == 5
    assert any("let go by retention" in each for each in report.unseen)
    copy = shutil.copytree(home, home.parent / "copy")
    _damage(copy, "UPDATE checkpoint SET signature = x'00'")
    assert [each.what for each in _report(copy).problems] == ["signature"]
    _damage(home, "UPDATE checkpoint SET hash = zeroblob(32), signature = NULL")
    assert {"changed"} <= {each.what for each in _report(home).problems}


def test_rows_with_every_kind_of_text_verify(tmp_path: Path) -> None:
    """Names that have to be escaped, that are no ASCII or no UTF-8, take the slow way and hold."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        for name in ('/"', "/\\", "/\x7f", "/ü", "/\U0001f600", "/\udcff\udcfe", "/\t\n", "/%s%d"):
            fs.write(name, b"x")
            fs.record("x.y", {"é\\": ['"', "\x00", "\x7f", "\U0001f600", 1.5, None, True]})
        count = fs.verify_journal().rows
        part = fs.check_journal(0, count, bytes(32))
        assert (len(part.hashes), part.first_bad_seq) == (count, None)
        assert part.hashes == [row.hash for row in fs.journal()]
        assert fs.check_journal(0, count + 1, bytes(32)).first_bad_seq == count + 1
        assert fs.check_journal(0, count, b"x" * 32).first_bad_seq == 1


def test_several_processes_find_what_one_finds(home: Path) -> None:
    """Ranges that are checked apart join to the same roots, and to the same first bad row."""
    sizes = [100, 256, 300, 512, 513, 600]
    with Kernel.open(home) as kernel:
        volume = kernel.volume("default")
        rows = Range(0, 0, TreeStore(volume).head(), bytes(32))
        one = sweep_all(volume, rows, sizes, processes=1)
        three = sweep_all(volume, rows, sizes, processes=3)
        assert len(three) == 3
        assert [tile for each in three for tile in each.tiles] == one[0].tiles
        joined = {size: part for each in three for size, part in each.parts.items()}
        assert joined == one[0].parts
        assert three[-1].last == one[0].last
    _damage(home, "UPDATE journal SET path = '/x' WHERE seq = 550")
    with Kernel.open(home) as kernel:
        found = sweep_all(kernel.volume("default"), rows, sizes, processes=3)
        assert [each.bad for each in found] == [None, None, 550]


def test_progress_is_told(home: Path) -> None:
    """Whoever waits hears how many rows were checked."""
    told: list[int] = []
    with Kernel.open(home) as kernel:
        verify(kernel, "default", progress=told.append)
    assert told[-1] == ROWS + 10


def test_the_short_check_sees_the_newest_rows(home: Path) -> None:
    """What an agent may ask for finds a bad row after the last checkpoint, and a cut end."""
    with Kernel.open(home) as kernel:
        report = verify_tail(kernel, "default")
        assert (report.ok, report.first) == (True, ROWS + 5)
        assert home_log(kernel, "default").exists()
    _damage(home, f"UPDATE journal SET path = '/x' WHERE seq = {ROWS + 7}")
    with Kernel.open(home) as kernel:
        assert verify_tail(kernel, "default").first_bad == ROWS + 7
    _damage(home, "DELETE FROM journal WHERE seq > 500")
    with Kernel.open(home) as kernel:
        assert verify_tail(kernel, "default").problems[0].what == "cut"


GONE = ("ext_audit_tile", "ext_audit_tree")
LATE = (
    *(f"DELETE FROM {table}" for table in GONE),
    "INSERT INTO ext_audit_tree SELECT 399, hash, 0, hash, x'' FROM journal WHERE seq = 399",
)
LET_GO = (
    "INSERT INTO checkpoint SELECT seq, time_ns, hash, 399, NULL FROM journal WHERE seq = 399",
    "DELETE FROM journal WHERE seq <= 399",
)


def _announce_let_go(home: Path) -> None:
    """Append the row that retention writes, as anybody can who opens the volume with SQL."""
    with sqlite3.connect(home / "tenants/default.afs") as raw:
        seq = raw.execute("SELECT max(seq) + 1 FROM journal").fetchone()[0]
    raw.close()
    names = FIELDS.replace("operation", "'gc.journal'").replace("detail", "'{\"until\":400}'")
    _damage(home, f"INSERT INTO journal(seq, {FIELDS}) SELECT {seq}, {names} FROM journal"
            f" WHERE seq = {seq - 1}")  # fmt: skip
    _rewrite(home, seq, lambda text: text)


def test_a_tree_that_leaves_rows_out_hides_no_rewritten_journal(home: Path) -> None:
    """Who moves the tree's beginning with SQL makes no checkpoint hold, and gets none signed."""
    outside = _newest(home)
    _rewrite(home, 400, lambda text: text.replace("deny", "allow"))
    _damage(home, *LATE)
    report = _report(home, outside)
    assert {"tree", "recomputed"} == {each.what for each in report.problems}
    assert report.covered <= 399
    assert report.covered_outside == 0
    with Kernel.open(home) as kernel:
        _record(kernel, 1)
        with pytest.raises(FormatError, match="the journal after row 0: the tree's table"):
            checkpoint(kernel, "default")


def test_a_checkpoint_of_another_tree_holds_for_rows_that_are_gone_only(home: Path) -> None:
    """A tree that begins after forged retention does not outdate what was signed before."""
    outside = _newest(home)
    _rewrite(home, 400, lambda text: text.replace("deny", "allow"))
    _announce_let_go(home)
    _damage(home, *LATE, *LET_GO)
    report = _report(home, outside)
    assert {"removed", "recomputed"} <= {each.what for each in report.problems}
    assert (report.covered, report.covered_outside) == (0, 0)
    with Kernel.open(home) as kernel, pytest.raises(FormatError, match="for another one"):
        checkpoint(kernel, "default")


def test_covered_rows_go_with_a_signature_only(home: Path) -> None:
    """A row of gc, which anybody can append, does not make removed rows retention's."""
    outside = _newest(home)
    _announce_let_go(home)
    _damage(home, *LET_GO)
    for notes in ((), (outside,)):
        problem = _report(home, *notes).problems[0]
        assert (problem.what, problem.seq) == ("removed", 399)
        assert "nobody signed for letting them go" in problem.sentence
