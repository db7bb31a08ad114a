"""The command `agentfs trigger`: what it prints, its exit codes, and how its runner ends."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentfs import AgentFS
from agentfs.cli.main import app

WAIT_S = 20.0


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def call(path: Path, *arguments: str) -> Any:
    """Call the command on a volume."""
    return CliRunner().invoke(app, ["-f", str(path), *arguments])


def test_the_command_adds_runs_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """add, list, run --once, log, retry, remove, with JSON and exit codes."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.afs"
    AgentFS.open(path).close()
    assert (
        call(path, "trigger", "add", "t", "/src", "--", "sh", "-c", "exit $(cat code)").exit_code
        == 0
    )
    added = json.loads(call(path, "trigger", "list", "--json").stdout)
    assert (added[0]["action"], added[0]["cwd"]) == (
        ["sh", "-c", "exit $(cat code)"],
        str(tmp_path),
    )
    (tmp_path / "code").write_text("4")
    assert call(path, "mkdir", "/src").exit_code == 0
    ran = call(path, "trigger", "run", "--once")
    assert ran.exit_code == 1
    assert "t row 2 failed 4" in ran.stdout
    failed = json.loads(call(path, "trigger", "log", "t", "--state", "failed", "--json").stdout)
    (tmp_path / "code").write_text("0")
    assert call(path, "trigger", "retry", str(failed[0]["id"])).exit_code == 0
    again = call(path, "trigger", "run", "--once", "--json")
    assert (again.exit_code, json.loads(again.stdout)["attempt"]) == (0, 2)
    assert "attempt 2" in call(path, "trigger", "log").stdout
    assert call(path, "trigger", "remove", "t").exit_code == 0
    assert call(path, "trigger", "remove", "t").exit_code == 3
    assert call(path, "trigger", "add", "t", "/").exit_code == 2
    (tmp_path / "hooks_of_this_test.py").write_text("def seen(fs, row):\n    return row.path\n")
    made = call(path, "trigger", "add", "p", "/src", "--python", "hooks_of_this_test:seen")
    assert made.exit_code == 0
    assert call(path, "mkdir", "/src/new").exit_code == 0
    assert "done: /src/new" in call(path, "trigger", "run", "--once").stdout


def test_commands_of_a_trigger_do_not_set_it_off(tmp_path: Path) -> None:
    """What a command does through `agentfs` is known for the trigger's; Ctrl-C ends the runner."""
    path = tmp_path / "a.afs"
    me = f"{shlex.quote(sys.executable)} -m agentfs.cli"
    with AgentFS.open(path, system=True) as fs:
        fs.mkdir("/src")
        fs.triggers.add("t", "/src", command=["sh", "-c", f"echo x | {me} write /src/made"])
        fs.write("/src/a", "1")
        runner = subprocess.Popen(
            [sys.executable, "-m", "agentfs.cli", "-f", str(path), "trigger", "run"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert runner.stdout is not None
            assert "done 0" in runner.stdout.readline()
            until(lambda: fs.triggers.list()[0].cursor > 0)
            runner.send_signal(signal.SIGINT)
            rest, said = runner.communicate(timeout=WAIT_S)
        finally:
            runner.kill()
            runner.communicate()
        assert (runner.returncode, rest, said) == (0, "", "")
        assert [row.principal for row in fs.journal(path="/src/made")] == ["trigger:t"]
        assert len(fs.triggers.log()) == 1
