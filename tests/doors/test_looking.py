"""Commands that only look: they make no home, tenant, key or agent, and need no right to write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner, Result

from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_cli.main import app

WHO = Principal(tenant="acme", application="crew", agent="writer", session="s1")

#: Commands that look at the whole home.
HOME = (
    "agent list --all-tenants",
    "pending",
    "workflow list",
    "token list",
    "trust --list",
    "versions watch --dry-run",
    "report",
)

#: Commands that look at a tenant, which each of them takes as --tenant.
TENANT = (
    "agent list",
    "agent show crew:writer",
    "audit show",
    "audit verify",
    "versions list",
    "versions log",
    "ledger show",
    "ledger alerts",
    "traps show crew:writer",
    "replay --list",
)

#: Commands that do something to what is there, and make nothing that is not.
EXISTING = (
    "audit prove 1",
    "audit export --to {out}",
    "versions show policy careful",
    "versions report resolved 1 --agent crew:writer --session s1",
    "verify {text} --agent crew:writer",
)

_WITHOUT_RIGHTS = "--bounding-set=-dac_override,-dac_read_search,-fowner"
_RUN_EACH = """
import json, sys
from typer.testing import CliRunner
from fmos_cli.main import app
found = {}
for line in json.load(sys.stdin):
    said = CliRunner().invoke(app, line.split())
    found[line] = (said.exit_code, said.output)
json.dump(found, sys.stdout)
"""


def fmos(home: Path, line: str) -> Result:
    """Run a command on a home."""
    return CliRunner().invoke(app, ["--home", str(home), *line.split()])


def filled(home: Path) -> Path:
    """Make a home with a tenant, an agent that did something, and its keys."""
    with Kernel.open(home) as kernel:
        kernel.agent_fs(WHO).write("/a", b"a")
        kernel.record(WHO, "model.settle", {"tokens": 1})
        kernel.charge(WHO, {"tokens": 5})
        kernel.keys_of("acme")
    return home


def content(home: Path) -> dict[str, str]:
    """Return what every file and folder of a home is."""
    return {
        str(path.relative_to(home)): sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in home.rglob("*")
    }


def in_full(line: str, tmp_path: Path) -> str:
    """Return a command with its files, which are there."""
    (tmp_path / "text.md").write_text("2 + 2 = 4\n", encoding="utf-8")
    return line.format(out=tmp_path / "out.jsonl", text=tmp_path / "text.md")


@pytest.mark.parametrize("line", [*HOME, *TENANT, *EXISTING])
def test_a_home_that_is_not_there_is_not_made(tmp_path: Path, line: str) -> None:
    """It is one sentence that names the home and the way out, with exit code 3."""
    home = tmp_path / "home"
    said = fmos(home, in_full(line, tmp_path))
    assert said.exit_code == 3, said.output
    assert f"there is no FMOS home at {str(home)!r}" in said.output
    assert "--home" in said.output
    assert not home.exists()


@pytest.mark.parametrize("line", [*TENANT, *EXISTING])
def test_a_tenant_that_is_not_there_is_not_made(tmp_path: Path, line: str) -> None:
    """It is exit code 8, and the sentence names the tenants that are there."""
    home = filled(tmp_path / "home")
    before = content(home)
    said = fmos(home, in_full(line, tmp_path) + " --tenant nope")
    assert said.exit_code == 8, said.output
    if "versions show" not in line:
        assert "there is no tenant 'nope'" in said.output
    assert "acme" in said.output
    assert content(home) == before


@pytest.mark.parametrize("line", [*HOME, *(f"{each} --tenant acme" for each in TENANT)])
def test_looking_changes_no_byte(tmp_path: Path, line: str) -> None:
    """What looks works, and leaves every file of the home as it was."""
    home = filled(tmp_path / "home")
    before = content(home)
    said = fmos(home, line)
    assert said.exit_code == 0, said.output
    assert content(home) == before


def test_looking_sees_what_a_running_process_wrote(tmp_path: Path) -> None:
    """Rows that are in the log of an open home only are seen, and are not taken out of it."""
    home = filled(tmp_path / "home")
    with Kernel.open(home) as kernel:
        kernel.charge(WHO, {"tokens": 37})
        kernel.record(WHO, "model.settle", {"tokens": 37})
        before = content(home)
        assert "42 spent" in fmos(home, "ledger show --tenant acme").output
        assert "model.settle" in fmos(home, "audit show --tenant acme --last 1").output
        after = content(home)
    named = ("kernel.db", "tenants/acme.afs", "kernel.db-wal", "tenants/acme.afs-wal")
    assert {name: before[name] for name in named} == {name: after[name] for name in named}


def test_a_tenant_without_keys_gets_none(tmp_path: Path) -> None:
    """Looking at a journal that nobody signed for makes no key, and finds nothing wrong."""
    fmos(tmp_path, "agent spawn writer")
    assert not list((tmp_path / "keys").iterdir())
    assert fmos(tmp_path, "audit show").exit_code == 0
    assert fmos(tmp_path, "audit verify").exit_code == 0
    assert not list((tmp_path / "keys").iterdir())


def test_a_kernel_that_looks_refuses_to_write(tmp_path: Path) -> None:
    """Neither a row nor an agent comes of it, whatever the caller asks for."""
    home = filled(tmp_path / "home")
    before = content(home)
    with Kernel.look(home) as kernel:
        with pytest.raises(PermissionError, match="opened for reading only"):
            kernel.record(WHO, "model.settle", {})
        with pytest.raises(LookupError, match="no agent 'nobody'"):
            kernel.agent_fs(Principal(tenant="acme", agent="nobody"))
        kernel.charge(WHO, {"tokens": 1})  # of the copy
    assert content(home) == before


# -- where nothing may be written ----------------------------------------------------------------


def read_only(home: Path) -> None:
    """Take the right to write away from all of a home."""
    for path in (home, *home.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)


def run_each(lines: list[str], folder: Path) -> dict[str, tuple[int, str]]:
    """Run commands in a process that modes bind; return exit code and output of each."""
    command = [sys.executable, "-c", _RUN_EACH]
    if os.geteuid() == 0:
        tool = shutil.which("setpriv")
        probe = [tool or "", _WITHOUT_RIGHTS, "test", "-w", str(folder)]
        if tool is None or subprocess.run(probe, check=False).returncode == 0:
            pytest.skip("modes do not bind root, and setpriv cannot take its rights away")
        command = [tool, _WITHOUT_RIGHTS, *command]
    done = subprocess.run(
        command, input=json.dumps(lines), capture_output=True, text=True, check=True, timeout=120
    )
    return {line: tuple(found) for line, found in json.loads(done.stdout).items()}


def test_a_home_that_may_not_be_written_can_be_read(tmp_path: Path) -> None:
    """Each command says what it says of a home that may; what must write names the home."""
    home = filled(tmp_path / "home")
    assert fmos(home, "audit checkpoint --tenant acme").exit_code == 0
    looks = [*HOME, *(f"{each} --tenant acme" for each in TENANT)]
    proof = "audit prove 1 --tenant acme"
    expected = {each: fmos(home, each).output for each in looks if not each.startswith("traps")}
    read_only(home)
    before = content(home)
    backup = f"backup {tmp_path / 'copy.fmos'}"
    lines = [*looks, proof, backup, "agent spawn other", "doctor --only volumes --only ledger"]
    found = run_each([f"--home {home} {each}" for each in lines], home)
    for line in looks:
        code, said = found[f"--home {home} {line}"]
        assert code == 0, said
        assert said == expected.get(line, said)
    assert found[f"--home {home} {proof}"][0] == 0
    code, said = found[f"--home {home} {backup}"]
    assert code == 0, said
    code, said = found[f"--home {home} doctor --only volumes --only ledger"]
    assert code == 0, said
    code, said = found[f"--home {home} agent spawn other"]
    assert code == 3
    assert f"no permission to write to the FMOS home {str(home)!r}" in said
    assert content(home) == before


def test_what_would_be_signed_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Where no checkpoint covers a row and none can be made, the proof says so."""
    home = filled(tmp_path / "home")
    read_only(home)
    line = f"--home {home} audit prove 1 --tenant acme"
    code, said = run_each([line], home)[line]
    assert code == 14, said
    assert "not signed for" in said
    assert "fmos audit checkpoint" in said


@pytest.mark.parametrize("with_index", [True, False])
def test_a_log_that_was_left_behind(tmp_path: Path, with_index: bool) -> None:
    """What a killed process left in a log is read if its index is there, and never passed over."""
    home, running = tmp_path / "home", filled(tmp_path / "running")
    with Kernel.open(running) as kernel:
        kernel.charge(WHO, {"tokens": 37})
        shutil.copytree(running, home)
    if not with_index:
        for path in home.rglob("*-shm"):
            path.unlink()
    read_only(home)
    line = f"--home {home} ledger show --tenant acme"
    code, said = run_each([line], home)[line]
    if with_index:
        assert (code, "42 spent" in said) == (0, True), said
    else:
        assert code == 3, said
        assert "look at a copy of the whole folder" in said


# -- agents ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["versions report resolved 1 --session s1", "verify {text}"])
def test_a_misspelt_agent_is_none(tmp_path: Path, line: str) -> None:
    """It is exit code 8 with the name that was meant, and no agent comes of it."""
    home = filled(tmp_path / "home")
    before = content(home)
    said = fmos(home, in_full(line, tmp_path) + " --agent crew:writr --tenant acme")
    assert said.exit_code == 8, said.output
    assert "did you mean 'crew:writer'?" in said.output
    assert content(home) == before


def test_agents_of_all_tenants(tmp_path: Path) -> None:
    """They can be listed at once, and who looks in the wrong tenant hears of the others."""
    home = filled(tmp_path / "home")
    with Kernel.open(home) as kernel:
        kernel.volume("empty")
    assert fmos(home, "agent list --all-tenants").output == "acme  crew:writer  running\n"
    said = fmos(home, "agent list --tenant empty").output
    assert said == "the tenant 'empty' has no agents; there are also acme\n"
    assert "there are acme, empty" in fmos(home, "agent list").output
    assert fmos(home, "agent list --all-tenants --tenant acme").exit_code == 2


def test_an_agent_is_named_as_it_is_listed(tmp_path: Path) -> None:
    """APPLICATION:ID is the agent of that application; its id alone says how to name it."""
    home = filled(tmp_path / "home")
    assert fmos(home, "agent show crew:writer --tenant acme").output == "crew:writer: running\n"
    shown = fmos(home, "agent show writer --application crew --tenant acme")
    assert shown.output == "crew:writer: running\n"
    said = fmos(home, "agent show writer --tenant acme")
    assert said.exit_code == 8
    assert "did you mean 'crew:writer'?" in said.output
    two = fmos(home, "agent show crew:writer --application other --tenant acme")
    assert two.exit_code == 5
    assert "leave --application out" in two.output


def test_an_agent_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    """The second spawn says that it is there, and its state."""
    assert "is running, made from the template" in fmos(tmp_path, "agent spawn writer").output
    fmos(tmp_path, "agent pause writer")
    said = fmos(tmp_path, "agent spawn writer").output
    assert "writer is there already: paused" in said
    assert "nothing was changed" in said


def test_an_older_home_is_looked_at_as_it_is(tmp_path: Path) -> None:
    """Tables that an upgrade would make are made in the copy, and the file keeps its versions."""
    home = filled(tmp_path / "home")
    connection = apsw.Connection(str(home / "kernel.db"))
    connection.execute(
        "DELETE FROM component WHERE name = 'trusted'; DROP TABLE trusted_project"
    ).fetchall()
    connection.close()
    before = content(home)
    assert fmos(home, "trust --list").output == "no project is trusted\n"
    assert content(home) == before
