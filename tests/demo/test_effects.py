"""Commands on a fork, and the sandbox that holds them."""

from pathlib import Path

import pytest

from agentfs import AgentFS
from agentfs.run import why_unconfined
from fmos.errors import DeniedError
from fmos_cli.demo.effects import Effects
from fmos_cli.demo.sandbox import Sandbox


def volume(tmp_path: Path) -> AgentFS:
    """Make a volume with a small project."""
    fs = AgentFS.open(tmp_path / "v.afs")
    fs.mkdir("/project/docs/deep", parents=True)
    fs.write("/project/docs/deep/a.txt", "a")
    fs.write("/project/keep.txt", "keep")
    return fs


def test_an_effect_stays_on_the_fork_until_it_is_merged(tmp_path: Path) -> None:
    """The branch is as it was until merge, and the fork is gone afterwards."""
    with volume(tmp_path) as fs:
        command = "rm -r ./docs"
        effects = Effects(fs, Sandbox(frozenset({command}), confined=False), "/project")
        effect = effects.start(command)
        assert {change.path for change in effect.changes} == {
            "/project/docs", "/project/docs/deep", "/project/docs/deep/a.txt",
        }  # fmt: skip
        assert fs.exists("/project/docs/deep/a.txt")
        effects.merge(effect)
        assert fs.listdir("/project") == ["keep.txt"]
        assert [branch.name for branch in fs.branches()] == ["main"]


def test_a_dropped_effect_changes_nothing(tmp_path: Path) -> None:
    """Dropping the fork leaves the branch alone."""
    with volume(tmp_path) as fs:
        effects = Effects(fs, Sandbox(frozenset({"rm keep.txt"}), confined=False), "/project")
        effects.drop(effects.start("rm keep.txt"))
        assert fs.read("/project/keep.txt") == b"keep"


def test_new_changed_and_linked_files_come_back(tmp_path: Path) -> None:
    """Whatever a command makes is on the fork: files, folders, links, modes."""
    command = (
        "python3 -c \"import os; os.mkdir('new'); open('new/x', 'w').write('x');"
        " os.symlink('x', 'new/link'); open('keep.txt', 'w').write('changed');"
        " os.chmod('keep.txt', 0o600)\""
    )
    with volume(tmp_path) as fs:
        effects = Effects(fs, Sandbox(frozenset({command}), confined=False), "/project")
        effect = effects.start(command)
        assert effect.exit_code == 0, effect.output
        effects.merge(effect)
        assert fs.read("/project/new/x") == b"x"
        assert fs.readlink("/project/new/link") == "x"
        assert fs.read("/project/keep.txt") == b"changed"
        assert fs.stat("/project/keep.txt").mode & 0o777 == 0o600


def test_without_bubblewrap_a_strange_command_is_refused(tmp_path: Path) -> None:
    """A command that nobody vouches for does not run, and no fork stays."""
    with volume(tmp_path) as fs:
        effects = Effects(fs, Sandbox(confined=False), "/project")
        with pytest.raises(DeniedError, match="bubblewrap"):
            effects.start("touch x")
        assert [branch.name for branch in fs.branches()] == ["main"]


def test_a_vouched_command_gets_no_shell(tmp_path: Path) -> None:
    """Without bubblewrap shell operators are plain arguments."""
    command = "echo a; touch x"
    with volume(tmp_path) as fs:
        done = Sandbox(frozenset({command}), confined=False).run(fs, command, "/project")
        assert done.output == "a; touch x\n"
        assert fs.listdir("/project") == ["docs", "keep.txt"]


@pytest.mark.skipif(bool(why_unconfined()), reason="bubblewrap is not usable here")
def test_bubblewrap_shows_the_copy_and_no_network(tmp_path: Path) -> None:
    """A shell command in bubblewrap sees the copy, not the host, and only a loopback device."""
    command = "pwd; ls; ls /home /root 2>/dev/null; tail -n +3 /proc/net/dev | cut -d: -f1"
    with volume(tmp_path) as fs:
        done = Sandbox().run(fs, command, "/project")
    assert [line.strip() for line in done.output.splitlines()] == [
        "/project", "docs", "keep.txt", "lo",
    ]  # fmt: skip


def test_a_command_that_does_not_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and what it wrote until then is there to be looked at."""
    monkeypatch.setattr("fmos_cli.demo.sandbox._TIMEOUT_S", 0.5)
    command = "python3 -c \"open('x', 'w').close(); import time; time.sleep(60)\""
    with volume(tmp_path) as fs:
        effect = Effects(fs, Sandbox(frozenset({command})), "/project").start(command)
        assert (effect.exit_code, effect.output) == (124, "stopped after 0.5 seconds")
        assert [each.path for each in effect.changes] == ["/project/x"]
