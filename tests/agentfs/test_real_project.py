"""A real git repository is edited, compiled, tested and committed to in a view of it.

Then a part of it is applied, or all of it thrown away; the host is what it should be, to the byte.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentfs import AgentFS

_PROGRAM = """#include <stdio.h>
int answer(void) { return 41; }
int main(void) { printf("%d\\n", answer()); return 0; }
"""
_MAKEFILE = """answer: answer.c
\tcc -o answer answer.c
test: answer
\ttest "$$(./answer)" = 42 && $(PYTHON) -m unittest -q
"""
_TEST = """import subprocess, unittest

class Answer(unittest.TestCase):
    def test_answer(self):
        self.assertEqual(subprocess.run(["./answer"], capture_output=True).stdout, b"42\\n")
"""
_WORK = r"""set -e
sed -i 's/return 41/return 42/' answer.c
make -s test PYTHON="$PYTHON"
printf 'answer\n__pycache__/\n' > .gitignore
mv notes.txt docs/notes.txt
ln -s docs/notes.txt latest
git add -A
git -c user.name=agent -c user.email=agent@example.com commit -qm 'Give the right answer'
git status --porcelain
"""
_BACKENDS = ("fuse", "overlayfs", "copy")

pytestmark = [
    pytest.mark.skipif(
        not all(shutil.which(each) for each in ("git", "make", "cc")),
        reason="git, make and a C compiler are not all here",
    ),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not here"),
]


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=person", "-c", "user.email=person@example.com")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with a program whose test fails."""
    folder = tmp_path / "project"
    (folder / "docs").mkdir(parents=True)
    for name, text in (
        ("answer.c", _PROGRAM), ("Makefile", _MAKEFILE), ("test_answer.py", _TEST),
        ("notes.txt", "to do\n"), ("docs/guide.txt", "a guide\n"),
    ):  # fmt: skip
        (folder / name).write_text(text, encoding="utf-8")
    _git(folder, "init", "-q", "-b", "main")
    _git(folder, "add", "-A")
    _git(folder, "commit", "-q", "-m", "Begin")
    return folder


def _state(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that a change could touch: kind, mode, time, inode, content."""
    found: dict[str, tuple[object, ...]] = {}
    for above, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(above, name)
            info = os.lstat(path)
            content = b""
            if os.path.islink(path):
                content = os.fsencode(os.readlink(path))
            elif os.path.isfile(path):
                content = hashlib.sha256(Path(path).read_bytes()).digest()
            facts = (info.st_mode, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_size)
            found[os.path.relpath(path, folder)] = (*facts, content)
    return found


def _agentfs(volume: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The interpreter itself: the sandbox has a /tmp of its own, where an environment may be.
    environment = os.environ | {"PYTHON": os.path.realpath(sys.executable)}
    return subprocess.run(
        [sys.executable, "-m", "agentfs.cli", "-f", str(volume), *arguments],
        capture_output=True, text=True, env=environment, check=False, timeout=120,
    )  # fmt: skip


def _work(volume: Path, project: Path, branch: str, backend: str) -> None:
    done = _agentfs(
        volume, "run", "--overlay", str(project), "--branch", branch, "--backend", backend, "--",
        "sh", "-c", _WORK,
    )  # fmt: skip
    if done.returncode == 125:
        pytest.skip(f"the back end {backend} does not work here: {done.stderr.strip()[:120]}")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("backend", _BACKENDS)
def test_tools_work_on_the_view_and_only_what_is_applied_reaches_the_host(
    tmp_path: Path, project: Path, backend: str
) -> None:
    """sed, a compiler, tests and git commit leave the host alone; a part of it is then applied."""
    volume, before = tmp_path / "x.afs", _state(project)
    _work(volume, project, "try", backend)
    assert _state(project) == before

    applied = _agentfs(volume, "-b", "try", "apply", "--paths", "answer.c", "docs", "latest")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    after = _state(project)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == {"answer.c", "docs", "docs/notes.txt", "latest"}
    with AgentFS.open(volume, "try", create=False) as fs:
        for path in ("answer.c", "docs/notes.txt"):
            assert (project / path).read_bytes() == fs.read("/" + path)
            assert (project / path).stat().st_mode & 0o777 == fs.stat("/" + path).mode
        assert os.readlink(project / "latest") == fs.readlink("/latest")
        left = {each.path for each in fs.host_diff()}
        assert not left & {"/answer.c", "/docs/notes.txt", "/latest"}
        assert {"/answer", "/notes.txt", "/.gitignore"} <= left
        assert fs.fsck(read_data=True) == []


def test_everything_applied_is_a_repository_that_git_finds_whole(
    tmp_path: Path, project: Path
) -> None:
    """The commit that was made in the view is on the host when all of it is applied."""
    volume = tmp_path / "x.afs"
    _work(volume, project, "try", "auto")
    applied = _agentfs(volume, "-b", "try", "apply")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    with AgentFS.open(volume, "try", create=False) as fs:
        assert list(fs.host_diff()) == []
        assert fs.host_status() == []
    assert _git(project, "log", "--format=%s").splitlines() == ["Give the right answer", "Begin"]
    assert _git(project, "status", "--porcelain") == ""  # notes new times in its index
    _git(project, "fsck", "--strict")


def test_a_fork_that_is_thrown_away_leaves_no_trace(tmp_path: Path, project: Path) -> None:
    """Work on a fork changes neither the host nor the branch that it was forked from."""
    volume, before = tmp_path / "x.afs", _state(project)
    _work(volume, project, "try", "auto")
    with AgentFS.open(volume, "main", create=False) as fs:
        assert [each.path for each in fs.host_diff()] == []
        fs.delete_branch("try")
        fs.gc(retention=0)
        assert fs.fsck(read_data=True) == []
        assert fs.read("/answer.c") == _PROGRAM.encode()
    assert _state(project) == before


def test_discarded_work_can_be_done_again(tmp_path: Path, project: Path) -> None:
    """After a discard the branch is as the host, and the same work passes once more."""
    volume, before = tmp_path / "x.afs", _state(project)
    _work(volume, project, "try", "auto")
    assert _agentfs(volume, "-b", "try", "discard").returncode == 0
    with AgentFS.open(volume, "try", create=False) as fs:
        assert list(fs.host_diff()) == []
    _work(volume, project, "try", "auto")
    assert _state(project) == before
