"""The `agentfs` command refuses bad input in one sentence that names the thing and the way out."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import agentfs
from agentfs.cli import main
from agentfs.cli.main import app


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    """Call the command."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


def sentence(result: Result) -> str:
    """The one line on stderr of a call that failed."""
    assert result.exit_code != 0
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr
    return lines[0]


def start(*arguments: str, **options: object) -> "subprocess.Popen[bytes]":
    """Start the command as a process of its own."""
    root = str(Path(str(agentfs.__file__)).parents[1])
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "agentfs.cli", *arguments],
        env=os.environ | {"PYTHONPATH": root},
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.fixture
def volume(tmp_path: Path) -> str:
    """A fresh volume."""
    path = str(tmp_path / "x.afs")
    assert run("-f", path, "init").exit_code == 0
    return path


@pytest.mark.parametrize("command", [["ls"], ["log"], ["fork", "b"], ["write", "/a"], ["fsck"]])
def test_a_missing_volume_is_named_and_not_made(tmp_path: Path, command: list[str]) -> None:
    """Commands other than init say how to make the volume and create nothing."""
    path = str(tmp_path / "x.afs")
    said = sentence(run("-f", path, *command, stdin=b"x"))
    assert said == f"agentfs: no volume at {path!r}; run `agentfs -f {path} init`"
    assert os.listdir(tmp_path) == []


def test_init_refuses_an_existing_volume(volume: str) -> None:
    """A second init is an error, and fine with --exist-ok."""
    assert "--exist-ok" in sentence(run("-f", volume, "init"))
    assert run("-f", volume, "init", "--exist-ok").exit_code == 0


@pytest.mark.parametrize("command", [["ls"], ["init"], ["init", "--exist-ok"]])
def test_a_file_that_is_no_volume_is_left_alone(tmp_path: Path, command: list[str]) -> None:
    """Neither text nor another SQLite file is taken for a volume, or changed."""
    text = tmp_path / "notes.txt"
    text.write_text("not a volume " * 200, encoding="utf-8")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE t (x)")
    database.close()
    for path in (text, other):
        before = path.read_bytes()
        assert str(path) in sentence(run("-f", str(path), *command))
        assert path.read_bytes() == before


def test_a_newer_format_is_refused(volume: str) -> None:
    """A volume of a later format version is named, with the advice to upgrade."""
    with sqlite3.connect(volume) as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    said = sentence(run("-f", volume, "ls"))
    assert "999" in said


def test_init_needs_a_directory(tmp_path: Path) -> None:
    """A missing parent directory is named."""
    assert str(tmp_path / "no") in sentence(run("-f", str(tmp_path / "no" / "x.afs"), "init"))
    assert "directory" in sentence(run("-f", str(tmp_path), "ls"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_init_needs_permission(tmp_path: Path) -> None:
    """A directory without write permission is named."""
    tmp_path.chmod(0o500)
    assert "permission" in sentence(run("-f", str(tmp_path / "x.afs"), "init"))


def test_a_wrong_branch_name_gets_suggestions(volume: str) -> None:
    """The nearest branch is suggested, wherever the name is given."""
    run("-f", volume, "fork", "experiment")
    assert "'experiment'" in sentence(run("-f", volume, "-b", "experimnt", "ls"))
    assert "'experiment'" in sentence(run("-f", volume, "diff", "main", "experimnt"))
    assert "'experiment'" in sentence(run("-f", volume, "fork", "new", "--from", "experimnt"))
    assert "'experiment'" in sentence(run("-f", volume, "merge", "experimnt"))
    sentence(run("-f", volume, "fork", "experiment"))


@pytest.mark.parametrize(
    "command",
    [
        ["cat", "/no"],
        ["stat", "/no"],
        ["rm", "/no"],
        ["mv", "/no", "/x"],
        ["ls", "/no"],
        ["mkdir", "/no/x"],
        ["get", "/no", "out"],
    ],
)
def test_a_missing_path_is_named(volume: str, command: list[str]) -> None:
    """The sentence names the path that is not there."""
    assert "/no" in sentence(run("-f", volume, *command))


def test_a_missing_host_file_is_named(volume: str, tmp_path: Path) -> None:
    """Using put names the host path that is not there."""
    missing = str(tmp_path / "gone")
    assert missing in sentence(run("-f", volume, "put", missing, "/x"))


def test_wrong_usage_exits_with_2(volume: str) -> None:
    """Unknown commands and missing arguments are one sentence and exit code 2."""
    for arguments in (["lss"], ["-f", volume, "rm"], ["-f", volume, "log", "--limit", "x"]):
        result = run(*arguments)
        assert "--help" in sentence(result)
        assert result.exit_code == 2


def test_the_file_comes_from_the_environment(volume: str) -> None:
    """$AGENTFS_FILE names the volume where -f is not given."""
    assert CliRunner().invoke(app, ["ls"], env={"AGENTFS_FILE": volume}).exit_code == 0


def test_a_closed_pipe_is_quiet(volume: str) -> None:
    """When the reader goes away the command ends with 141 and says nothing."""
    run("-f", volume, "write", "/big", stdin=b"x" * 4_000_000)
    process = start("-f", volume, "cat", "/big", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=5) == 141
    process.stderr.close()


def test_an_interrupt_exits_with_130(volume: str) -> None:
    """Ctrl-C while waiting for stdin ends with 130 and one sentence, nothing written."""
    wrapper = (
        "import sys, threading, os, signal, io\n"
        "from agentfs.cli.main import main\n"
        "class Interrupting(io.RawIOBase):\n"
        "    def readable(self): return True\n"
        "    def readinto(self, b): os.kill(os.getpid(), signal.SIGINT); return 0\n"
        "sys.stdin = io.TextIOWrapper(io.BufferedReader(Interrupting()))\n"
        f"sys.argv = ['agentfs', '-f', {volume!r}, 'write', '/a']\n"
        "main()\n"
    )
    root = str(Path(str(agentfs.__file__)).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", wrapper],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=5,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert ran.returncode == 130
    assert ran.stderr.startswith("agentfs: interrupted")
    assert run("-f", volume, "ls").stdout == ""


def test_help_loads_nothing_heavy() -> None:
    """`agentfs --version` needs neither rich nor the engine."""
    code = (
        "import sys\nfrom agentfs.cli.main import app\n"
        "sys.exit(','.join(m for m in ('rich', 'mcp', 'numpy') if m in sys.modules) or 0)"
    )
    root = str(Path(str(agentfs.__file__)).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("module", main.COMMANDS)
def test_a_call_loads_the_module_of_its_command(module: str) -> None:
    """The table of commands is what the modules register, so that none is missed."""
    alone = typer.main.get_command(main.application((module,)))
    assert tuple(alone.commands) == main.COMMANDS[module]  # type: ignore[attr-defined]
    for name in main.COMMANDS[module]:
        for before in (
            [],
            ["-f", "ls"],
            ["--system", "-b", "kv"],
            ["--branch=gc", "--key-file", "x"],
        ):
            assert main.needed([*before, name, "--help", "gc"]) == [module]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-f", "ls"], ["nosuch"], ["-x"]])
def test_a_call_without_a_known_command_loads_all(arguments: list[str]) -> None:
    """Help, and the names that are near an unknown one, need every command."""
    assert list(main.needed(arguments)) == list(main.COMMANDS)
