"""`agentfs import-spec04` and `export-spec04` as commands: figures, findings, exit codes."""

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentfs import AgentFS
from agentfs.cli.main import app


def run(path: Path, *arguments: str) -> Result:
    """Run a command on the volume in a directory."""
    return CliRunner().invoke(app, ["-f", str(path / "a.afs"), *arguments])


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """An AgentFS 0.4 volume with a file, a key and a tool call."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.mkdir("/src")
        fs.write("/src/a", "hello")
        fs.kv.set("k", 1)
        fs.toolcalls.record("t")
    assert run(tmp_path, "export-spec04", str(tmp_path / "x.db")).exit_code == 0
    (tmp_path / "a.afs").unlink()
    AgentFS.open(tmp_path / "a.afs").close()
    return tmp_path / "x.db"


def test_both_commands_say_what_moved(tmp_path: Path, foreign: Path) -> None:
    """One sentence each, or with --json all figures, and a second export needs --force."""
    came = run(tmp_path, "import-spec04", str(foreign), "/old")
    assert came.exit_code == 0
    assert came.stdout == f"Imported {foreign} to /old: 1 file, 5 bytes, 1 key, 1 tool call.\n"
    went = run(tmp_path, "export-spec04", str(tmp_path / "y.db"), "/old/src", "--json")
    assert went.exit_code == 0
    shown = json.loads(went.stdout)
    assert (shown["files"], shown["keys"], shown["calls"], shown["failed"]) == (1, 1, 1, [])
    again = run(tmp_path, "export-spec04", str(tmp_path / "y.db"))
    assert again.exit_code == 5
    assert "--force" in again.stderr
    assert run(tmp_path, "export-spec04", str(tmp_path / "y.db"), "--force").exit_code == 0


def test_what_is_left_out_is_named_and_makes_the_exit_code_1(tmp_path: Path, foreign: Path) -> None:
    """The rest comes in."""
    rows = sqlite3.connect(foreign, isolation_level=None)
    rows.execute("INSERT INTO fs_dentry(name, parent_ino, ino) VALUES ('gone', 1, 99)")
    rows.close()
    came = run(tmp_path, "import-spec04", str(foreign))
    assert came.exit_code == 1
    assert "left out /gone: its inode 99 is missing" in came.stderr
    with AgentFS.open(tmp_path / "a.afs") as fs:
        assert fs.read("/src/a") == b"hello"


def test_what_is_no_such_volume_is_one_sentence(tmp_path: Path, foreign: Path) -> None:
    """Text, a missing file and a newer version each have an exit code of their own kind."""
    (tmp_path / "text").write_text("x")
    for name, code in (("text", 8), ("none", 4)):
        refused = run(tmp_path, "import-spec04", str(tmp_path / name))
        assert (refused.exit_code, len(refused.stderr.splitlines())) == (code, 1)
    rows = sqlite3.connect(foreign, isolation_level=None)
    rows.execute("UPDATE fs_config SET value = '0.5' WHERE key = 'schema_version'")
    rows.close()
    newer = run(tmp_path, "import-spec04", str(foreign))
    assert newer.exit_code == 8
    assert "'0.5'" in newer.stderr


def test_a_moment_goes_out(tmp_path: Path, foreign: Path) -> None:
    """`--at` exports a snapshot."""
    run(tmp_path, "import-spec04", str(foreign))
    run(tmp_path, "snapshot", "s")
    run(tmp_path, "rm", "/src/a")
    assert run(tmp_path, "export-spec04", str(tmp_path / "s.db"), "--at", "s").exit_code == 0
    run(tmp_path, "import-spec04", str(tmp_path / "s.db"), "/back")
    assert run(tmp_path, "cat", "/back/src/a").stdout == "hello"
