"""Commands on a fork, and the sandbox that holds them."""

from pathlib import Path

import pytest

from agentfs import AgentFS
from agentfs.run import why_unconfined
from fmos.effects import Sandbox, Trial
from fmos.errors import DeniedError


def volume(tmp_path: Path) -> AgentFS:
    """Make a volume with a small project."""
    fs = AgentFS.open(tmp_path / "v.afs")
    fs.mkdir("/project/docs/deep", parents=True)
    fs.write("/project/docs/deep/a.txt", "a")
    fs.write("/project/keep.txt", "keep")
    return fs


def tried(fs: AgentFS, command: str) -> Trial:
    """Run a command on a fork, without bubblewrap."""
    trial = Trial.begin(fs)
    done = Sandbox(frozenset({command}), confined=False).run(trial.files, command, "/project")
    assert done.exit_code == 0, done.output
    return trial


def test_an_effect_stays_on_the_fork_until_it_is_merged(tmp_path: Path) -> None:
    """The branch is as it was until merge, and the fork is gone afterwards."""
    with volume(tmp_path) as fs:
        trial = tried(fs, "rm -r ./docs")
        assert {change.path for change in trial.effect().changes} == {
            "/project/docs", "/project/docs/deep", "/project/docs/deep/a.txt",
        }  # fmt: skip
        assert fs.exists("/project/docs/deep/a.txt")
        assert trial.merge() == 3
        assert fs.listdir("/project") == ["keep.txt"]
        assert [branch.name for branch in fs.branches()] == ["main"]


def test_a_dropped_effect_changes_nothing(tmp_path: Path) -> None:
    """Dropping the fork leaves the branch alone; twice is no error."""
    with volume(tmp_path) as fs:
        trial = tried(fs, "rm keep.txt")
        trial.discard()
        trial.discard()
        assert fs.read("/project/keep.txt") == b"keep"


def test_new_changed_and_linked_files_come_back(tmp_path: Path) -> None:
    """Whatever a command makes is on the fork: files, folders, links, modes."""
    command = (
        "python3 -c \"import os; os.mkdir('new'); open('new/x', 'w').write('x');"
        " os.symlink('x', 'new/link'); open('keep.txt', 'w').write('changed');"
        " os.chmod('keep.txt', 0o600)\""
    )
    with volume(tmp_path) as fs:
        tried(fs, command).merge()
        assert fs.read("/project/new/x") == b"x"
        assert fs.readlink("/project/new/link") == "x"
        assert fs.read("/project/keep.txt") == b"changed"
        assert fs.stat("/project/keep.txt").mode & 0o777 == 0o600


@pytest.mark.parametrize("change", ["content", "mode", "attribute", "link", "name", "none"])
def test_a_digest_is_of_all_that_a_merge_would_change(tmp_path: Path, change: str) -> None:
    """Another content, mode, attribute, target or name is another effect; the same is the same."""
    with volume(tmp_path) as fs:
        digests = []
        for number in (0, 1):
            trial = Trial.begin(fs)
            other = bool(number)
            made = "/project/y" if change == "name" and other else "/project/x"
            trial.files.write(made, "b" if change == "content" and other else "a")
            trial.files.chmod(made, 0o600 if change == "mode" and other else 0o644)
            if change == "attribute" and other:
                trial.files.setxattr(made, "user.a", b"1")
            trial.files.symlink("y" if change == "link" and other else "x", "/project/l")
            digests.append(trial.effect().digest)
        assert (digests[0] == digests[1]) is (change == "none")


def test_binary_and_huge_changes_are_named(tmp_path: Path) -> None:
    """A patch is for people: it says that bytes differ, and ends somewhere."""
    with volume(tmp_path) as fs:
        trial = Trial.begin(fs)
        trial.files.write("/project/b.bin", bytes(range(256)))
        trial.files.write("/project/long.txt", "".join(f"{n}\n" for n in range(100_000)))
        effect = trial.effect()
        assert "Binary files /dev/null and" in effect.patch or "b.bin differ" in effect.patch
        assert "(the rest of /project/long.txt is not shown)" in effect.patch
        assert len(effect.patch) < 100_000


def test_without_bubblewrap_a_strange_command_is_refused(tmp_path: Path) -> None:
    """A command that nobody vouches for does not run."""
    with volume(tmp_path) as fs:
        with pytest.raises(DeniedError, match="bubblewrap"):
            Sandbox(confined=False).run(fs, "touch x", "/project")
        assert fs.listdir("/project") == ["docs", "keep.txt"]


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


def test_a_command_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    """It says so, and what it wrote until then is there to be looked at."""
    command = "python3 -c \"open('x', 'w').close(); import time; time.sleep(60)\""
    with volume(tmp_path) as fs:
        trial = Trial.begin(fs)
        sandbox = Sandbox(frozenset({command}), timeout_s=0.5)
        done = sandbox.run(trial.files, command, "/project")
        assert (done.exit_code, done.output) == (124, "stopped after 0.5 seconds")
        assert [each.path for each in trial.effect().changes] == ["/project/x"]
