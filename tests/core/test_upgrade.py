"""An older home is brought to now in one step with all its data; a newer one is refused."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import tarfile
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import apsw
import pytest
import zstandard
from tests.core.home_writer import writing

from fmos.care.backup import backup, verify
from fmos.care.examine import examine
from fmos.care.restore import restore
from fmos.care.upgrade import known_components, migrate, plan, upgrade
from fmos.errors import FmosError, FormatError, HomeError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

_OLDER = Path(__file__).parents[1] / "data" / "home-of-2026-11-21.tar.zst"
_ROOT = Path(__file__).parents[2]
_WHO = Principal(agent="writer", session="monday")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A home that FMOS of 2026-11-21 wrote: see tests/data/home_of_2026_11_21.py."""
    path = tmp_path / "home"
    raw = zstandard.ZstdDecompressor().stream_reader(_OLDER.read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        tar.extractall(path, filter="data")
    return path


def _state(home: Path) -> dict[str, str]:
    """Return the digest of every file; SQLite's logs come and go with the readers."""
    return {
        str(path.relative_to(home)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
    }


def _version(home: Path, component: str) -> int:
    connection = apsw.Connection(str(home / "kernel.db"))
    row = connection.execute("SELECT version FROM component WHERE name = ?", (component,))
    version = row.get
    connection.close()
    return version


def test_an_older_home_keeps_everything(older: Path) -> None:
    """Files, snapshots, memory, forks, keys and spending of the older home are there afterwards."""
    from fmos_memory.service import MemoryService

    key = (older / "keys" / "audit.pem").read_bytes()
    done = upgrade(older, fmos_version="1")
    assert any("the ledger tables from version 1 to 2" in each for each in done.done)
    assert any("the volume from version 1 to 2" in each for each in done.done)
    assert not plan(older).steps
    assert not list(examine(older))
    with Kernel.open(older) as kernel:
        files = kernel.agent_files(_WHO)
        assert files.read("/notes/one.txt") == b"second note\n"
        assert len(files.read("/big.bin")) == 256 * 1200
        assert files.at("before-edit").read("/notes/one.txt") == b"first note\n"
        fork = Principal(agent="writer-2")
        assert kernel.agent_files(fork).read("/notes/two.txt") == b"of the fork\n"
        assert "writer" in kernel.agents.lineage(fork)
        found = MemoryService(kernel).search(_WHO, "release Friday", "default", 5)
        assert "Friday" in str(found)
        tokens = [b for b in kernel.ledger.status(kernel.account(_WHO)) if b.resource == "tokens"]
        assert (tokens[-1].spent, tokens[-1].limit) == (140, 1000)
        assert kernel.keys_of("default").public_key
        assert kernel.volume("default").verify_journal().ok
        rows = [row.operation for row in kernel.volume("default").journal()]
    assert (older / "keys" / "default" / "audit.pem").read_bytes() == key
    assert rows[-1] == "home.upgrade"


def test_a_backup_is_made_before(older: Path, tmp_path: Path) -> None:
    """The backup of an upgrade holds the home as it was, byte for byte; it can be left out."""
    before = _version(older, "ledger")
    done = upgrade(older)
    found = verify(Path(done.backup))
    assert found.manifest.components["ledger"] == before
    assert found.manifest.volumes["default"].format == 1
    assert not found.faults
    assert upgrade(older).state == "current"
    assert len([each for each in tmp_path.iterdir() if "backup" in each.name]) == 1


def test_a_look_ahead_changes_nothing(older: Path) -> None:
    """The plan names every older part, and every file is as it was."""
    before = _state(older)
    found = plan(older)
    assert {step.part or step.file for step in found.steps} >= {
        "agents", "ledger", "tenants/default.afs", "keys/audit.pem",
    }  # fmt: skip
    assert not found.newer
    assert _state(older) == before


@pytest.mark.parametrize("part", ["ledger", "agents", "volume"])
def test_a_newer_home_is_refused(older: Path, part: str) -> None:
    """If any part is newer nothing is touched; the sentence has both versions and the way out."""
    if part == "volume":
        connection = apsw.Connection(str(older / "tenants" / "default.afs"))
        connection.execute("PRAGMA user_version = 99")
    else:
        connection = apsw.Connection(str(older / "kernel.db"))
        connection.execute("UPDATE component SET version = 99 WHERE name = ?", (part,))
    connection.close()
    before = _state(older)
    with pytest.raises(FormatError, match=r"99, newer than the \d .*; upgrade fmos, or"):
        upgrade(older)
    assert _state(older) == before


def test_opening_a_newer_home_is_refused(tmp_path: Path) -> None:
    """An older FMOS that opens a newer home says both versions and changes nothing."""
    with Kernel.open(tmp_path / "home"):
        pass
    connection = apsw.Connection(str(tmp_path / "home" / "kernel.db"))
    connection.execute("UPDATE component SET version = 99 WHERE name = 'ledger'")
    connection.close()
    with pytest.raises(FormatError, match=r"version 99, newer than the \d+ .*upgrade fmos"):
        Kernel.open(tmp_path / "home")


def test_a_component_that_fails_leaves_all_as_they_were(older: Path) -> None:
    """The tables of kernel.db are brought up to date all together or not at all."""
    connection = apsw.Connection(str(older / "kernel.db"))
    connection.execute("CREATE TABLE old_reservation(a)")  # in the way of the ledger's step
    connection.close()
    with pytest.raises((FmosError, apsw.Error)):
        migrate(older)
    assert (_version(older, "agents"), _version(older, "ledger")) == (1, 1)
    connection = apsw.Connection(str(older / "kernel.db"))
    connection.execute("DROP TABLE old_reservation")
    connection.close()
    migrate(older)
    assert not plan(older).steps


def test_a_killed_upgrade_goes_on(older: Path) -> None:
    """Kill -9 at random moments leaves each file old or new, and the next call finishes it."""
    rolls, killed, left = random.Random(5), 0, 0
    for _ in range(10):
        child = os.fork()
        if not child:
            with suppress(BaseException):
                migrate(older)
            os._exit(0)
        time.sleep(rolls.uniform(0.001, 0.06))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        left += bool(plan(older).steps)
        assert _version(older, "ledger") in (1, known_components()["ledger"])
        assert not list(examine(older, keys=False))
    assert killed
    assert left
    migrate(older)
    assert not plan(older).steps
    assert not list(examine(older))
    with Kernel.open(older) as kernel:
        assert kernel.agent_files(_WHO).read("/notes/one.txt") == b"second note\n"


def test_a_home_in_use_is_not_upgraded(older: Path, tmp_path: Path) -> None:
    """Nothing is upgraded under a process that uses it."""
    with Kernel.open(tmp_path / "other"):
        pass
    with writing(tmp_path / "other", "one"):
        connection = apsw.Connection(str(tmp_path / "other" / "kernel.db"))
        connection.set_busy_timeout(5000)
        connection.execute("INSERT OR IGNORE INTO component VALUES ('tokens', 0)")
        connection.close()
        with pytest.raises(HomeError, match="in use by process"):
            upgrade(tmp_path / "other")


def test_an_older_backup_comes_back_up_to_date(older: Path, tmp_path: Path) -> None:
    """A backup of an older home is brought to now when it is restored, and says so."""
    backup(older, tmp_path / "b.fmos", fmos_version="0")
    done = restore(tmp_path / "b.fmos", tmp_path / "new")
    assert any("ledger tables from version 1 to 2" in each for each in done.upgraded)
    assert not plan(tmp_path / "new").steps
    with Kernel.open(tmp_path / "new") as kernel:
        assert kernel.agent_files(_WHO).read("/notes/one.txt") == b"second note\n"


def test_there_must_be_a_home(tmp_path: Path) -> None:
    """An upgrade makes no home where there is none."""
    with pytest.raises(HomeError, match="no FMOS home"):
        upgrade(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_every_part_with_tables_is_known() -> None:
    """Whoever installs tables in kernel.db is looked at by the upgrade."""
    found: set[str] = set()
    for folder in ("packages", "mcp_servers"):
        for path in (_ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            found.update(re.findall(r"database\.install\(\s*\"(\w+)\"", text))
    assert found
    assert found <= known_components().keys()
