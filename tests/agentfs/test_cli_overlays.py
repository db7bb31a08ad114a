"""The commands overlay, diff --host, apply and discard: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.agentfs.commands import ok, run
from typer.testing import CliRunner

import agentfs
from agentfs import AgentFS
from agentfs.cli.main import app

ODD = os.fsdecode(b"new\nline \xff")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A small host tree."""
    root = tmp_path / "host"
    (root / "src").mkdir(parents=True)
    (root / "src" / "main.py").write_text("print(1)\n")
    (root / "src" / "old.py").write_text("print(2)\n")
    (root / "readme").write_text("read me\n")
    return root


@pytest.fixture
def volume(tmp_path: Path, host: Path) -> Path:
    """A volume over the host tree at /p, with a change of each side."""
    path = tmp_path / "x.afs"
    assert run(path, "init").exit_code == 0
    assert ok(path, "overlay", str(host), "--at", "/p") == (
        f"/p is laid over {host}; the host stays as it is until `agentfs apply`.\n"
    )
    ok(path, "write", "/p/src/main.py", stdin=b"print(3)\n")
    ok(path, "write", "/p/src/new.py", stdin=b"print(4)\n")
    ok(path, "rm", "/p/src/old.py")
    return path


def test_overlays_are_listed(volume: Path, host: Path) -> None:
    """One line each, or their facts; a second one at the same place is refused."""
    assert ok(volume, "overlay").startswith(f"/p\t{host}\tsince 20")
    (facts,) = json.loads(ok(volume, "overlay", "--json"))
    assert (facts["at"], facts["host"]) == ("/p", str(host))
    result = run(volume, "overlay", str(host), "--at", "/p")
    assert (result.exit_code, result.stderr.count("\n")) == (5, 1)
    assert run(volume, "overlay", str(host), "--status").exit_code == 2
    assert run(volume, "overlay", str(host / "nowhere"), "--at", "/q").exit_code == 4


def test_diff_says_what_the_branch_changed(volume: Path) -> None:
    """With letters, as JSON, limited to a path, and with an exit code for scripts."""
    shown = "M /p/src/main.py\nA /p/src/new.py\nD /p/src/old.py\n"
    assert ok(volume, "diff", "--host") == shown
    assert json.loads(ok(volume, "diff", "--host", "--json"))[2] == {
        "path": "/p/src/old.py", "kind": "removed",
    }  # fmt: skip
    assert ok(volume, "diff", "--host", "--path", "/p/src/new.py") == "A /p/src/new.py\n"
    assert run(volume, "diff", "--host", "--exit-code").exit_code == 1
    for wrong in (["diff"], ["diff", "main", "--host"]):
        assert run(volume, *wrong).exit_code == 2


def test_the_patch_of_diff_applies_on_the_host(volume: Path, host: Path) -> None:
    """Its names are those of the host directory, and patch leaves there what apply would."""
    (host.parent / "try.patch").write_text(ok(volume, "diff", "--host", "--patch"))
    subprocess.run(["git", "init", "-q"], cwd=host, check=True)
    subprocess.run(["git", "apply", "../try.patch"], cwd=host, check=True)
    assert (host / "src" / "main.py").read_text() == "print(3)\n"
    assert sorted(os.listdir(host / "src")) == ["main.py", "new.py"]
    ok(volume, "apply")
    assert ok(volume, "diff", "--host") == ""


def test_apply_tells_then_writes(volume: Path, host: Path) -> None:
    """A dry run writes nothing and says what the run then does; afterwards nothing is left."""
    lines = "M /p/src/main.py\nA /p/src/new.py\nD /p/src/old.py\n"
    assert ok(volume, "apply", "--dry-run") == f"{lines}Would write 3 changes to {host}.\n"
    assert (host / "src" / "main.py").read_text() == "print(1)\n"
    assert ok(volume, "apply") == f"{lines}Wrote 3 changes to {host}.\n"
    assert (host / "src" / "main.py").read_text() == "print(3)\n"
    assert sorted(os.listdir(host / "src")) == ["main.py", "new.py"]
    assert ok(volume, "apply") == f"Wrote 0 changes to {host}.\n"
    assert ok(volume, "overlay", "--status") == "The host is as this branch saw it.\n"


def test_apply_of_some_paths(volume: Path, host: Path) -> None:
    """Arguments and --paths name paths relative to the overlay's root, in several ways."""
    document = json.loads(ok(volume, "apply", "./src/new.py", "--json"))
    assert document == {
        "host": str(host), "at": "/p", "dry_run": False, "conflicts": [],
        "applied": [{"path": "/p/src/new.py", "kind": "added"}],
    }  # fmt: skip
    ok(volume, "apply", "--paths", "src/main.py", str(host / "src" / "old.py"))
    assert ok(volume, "diff", "--host") == ""
    result = run(volume, "apply", "nowhere")
    assert result.exit_code == 3
    assert "agentfs diff --host" in result.stderr
    result = run(volume, "apply", "../readme")
    assert (result.exit_code, result.stderr) == (
        2, "agentfs: invalid argument for '../readme': it leads out of the overlay\n"
    )  # fmt: skip


def test_conflicts_are_listed_and_make_the_exit_code_7(volume: Path, host: Path) -> None:
    """What can be written is; the dry run has the same exit code."""
    (host / "src" / "main.py").write_text("changed by the host\n")
    for arguments in (["apply", "--dry-run"], ["apply"]):
        result = run(volume, *arguments)
        assert result.exit_code == 7
        assert "A /p/src/new.py\n" in result.stdout
        assert "conflict /p/src/main.py: it was written to\n" in result.stdout
        assert result.stdout.endswith("; 1 conflict left alone.\n")
    assert (host / "src" / "main.py").read_text() == "changed by the host\n"
    result = run(volume, "apply", "--json")
    assert result.exit_code == 7
    assert json.loads(result.stdout)["conflicts"] == [
        {"path": "/p/src/main.py", "kind": "modified", "reason": "it was written to"}
    ]


def test_status_and_refresh(volume: Path, host: Path) -> None:
    """What the host changed is listed, taken over, or disputed with exit code 7."""
    (host / "readme").write_text("changed\n")
    (host / "src" / "main.py").write_text("changed\n")
    shown = "M /p/readme\nM /p/src/main.py\n"
    assert ok(volume, "overlay", "--status") == shown
    assert json.loads(ok(volume, "overlay", "--status", "--json"))[0] == {
        "path": "/p/readme", "kind": "modified",
    }  # fmt: skip
    result = run(volume, "cat", "/p/readme")
    assert (result.exit_code, "overlay --status" in result.stderr) == (7, True)
    result = run(volume, "overlay", "--refresh")
    assert result.exit_code == 7
    assert result.stdout == "M /p/readme\nTook over 1 change of the host.\n"
    assert "1 path changed on both sides: /p/src/main.py; `--keep-ours`" in result.stderr
    assert ok(volume, "cat", "/p/readme") == "changed\n"
    document = json.loads(ok(volume, "overlay", "--refresh", "--keep-ours", "--json"))
    assert document["disputed"] == []
    assert document["taken"] == [{"path": "/p/src/main.py", "kind": "modified"}]
    ok(volume, "apply")
    assert (host / "src" / "main.py").read_text() == "print(3)\n"


def test_discard_undoes(volume: Path) -> None:
    """Some paths, then all; the reading commands have the host's again."""
    assert ok(volume, "discard", "src/new.py") == "A /p/src/new.py\nDiscarded 1 change.\n"
    assert json.loads(ok(volume, "discard", "--paths", "src", "--json")) == [
        {"path": "/p/src/main.py", "kind": "modified"},
        {"path": "/p/src/old.py", "kind": "removed"},
    ]
    assert ok(volume, "cat", "/p/src/main.py") == "print(1)\n"
    assert ok(volume, "discard") == "Discarded 0 changes.\n"
    assert run(volume, "discard", "src").exit_code == 3


def test_links_that_lead_out_need_a_word(volume: Path, host: Path) -> None:
    """Without --outside-links they are conflicts."""
    with AgentFS.open(volume) as fs:
        fs.symlink("/etc/passwd", "/p/out")
    result = run(volume, "apply", "out")
    assert (result.exit_code, "leads out of the directory" in result.stdout) == (7, True)
    ok(volume, "apply", "--outside-links")
    assert os.readlink(host / "out") == "/etc/passwd"


def test_odd_names_are_shown_on_one_line(volume: Path, host: Path) -> None:
    """Names with newlines and bytes that are not UTF-8 are applied, and shown as elsewhere."""
    with AgentFS.open(volume) as fs:
        fs.write(f"/p/{ODD}", "x")
    result = subprocess.run(
        [sys.executable, "-m", "agentfs.cli", "-f", volume, "apply", ODD],
        env=os.environ | {"PYTHONPATH": str(Path(str(agentfs.__file__)).parents[1])},
        capture_output=True, check=True,
    )  # fmt: skip
    assert result.stdout.startswith(b"A /p/new\\nline \xff\n")
    assert (host / ODD).read_text() == "x"


def test_several_overlays_must_be_named(volume: Path, tmp_path: Path) -> None:
    """The error lists them; --at chooses."""
    (tmp_path / "second").mkdir()
    ok(volume, "overlay", str(tmp_path / "second"), "--at", "/q")
    ok(volume, "write", "/q/file", stdin=b"x")
    for command in (["apply"], ["discard"], ["overlay", "--status"], ["diff", "--host"]):
        result = run(volume, *command)
        assert (result.exit_code, "(/p, /q)" in result.stderr) == (2, True)
    ok(volume, "apply", "--at", "/q")
    assert (tmp_path / "second" / "file").read_text() == "x"
    assert ok(volume, "diff", "--host", "--overlay-at", "/q") == ""
    assert run(volume, "apply", "--at", "/nowhere").exit_code == 3


def test_a_branch_over_nothing_says_so(tmp_path: Path) -> None:
    """Each command names the one that lays a branch over a directory."""
    ok(tmp_path / "y.afs", "init")
    for command in (["apply"], ["discard"], ["overlay", "--refresh"], ["diff", "--host"]):
        result = run(tmp_path / "y.afs", *command)
        assert (result.exit_code, "agentfs overlay HOSTDIR" in result.stderr) == (3, True)


def test_ctrl_c_keeps_what_was_written(volume: Path, host: Path) -> None:
    """The command ends with 130, and what it wrote is noted: the next one does the rest."""
    with AgentFS.open(volume) as fs, fs.transaction():
        for number in range(700):
            fs.write(f"/p/src/{number}", f"{number}")
    process = subprocess.Popen(
        [sys.executable, "-m", "agentfs.cli", "-f", volume, "apply"],
        env=os.environ | {"PYTHONPATH": str(Path(str(agentfs.__file__)).parents[1])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while len(os.listdir(host / "src")) < 20 and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    with AgentFS.open(volume) as fs:
        written = {f"/p/src/{each}" for each in os.listdir(host / "src") if each.isdigit()}
        left = {each.path for each in fs.host_diff()}
        assert 10 < len(written) < 700
        assert not written & left
        assert fs.apply().conflicts == ()
        assert fs.fsck() == []


@pytest.mark.parametrize("command", ["overlay", "apply", "discard", "diff"])
def test_help_ends_with_an_example(command: str) -> None:
    """Every command shows how it is called."""
    result = CliRunner().invoke(app, [command, "--help"])
    assert (result.exit_code, "Example:" in result.stdout) == (0, True)
