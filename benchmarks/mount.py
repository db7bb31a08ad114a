"""Claim: programs on a mounted branch run at a speed that people can work with.

Target: `pytest` of a small project and warm `git status` take at most 3 times as long as in a bare
directory. The mount is a process of its own at normal durability; the bare directory is on the same
disk. Reading, writing and cloning are single small operations, where each one asks the mount.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import peers
from agentfs import AgentFS
from harness import NORMAL, UNSYNCED, Report, Side, interleave, scale, timed, workspace
from work import host_tree, tree_path

READ_FILES = scale(10_000, 100)
WRITE_FILES = scale(2_000, 20)
MODULES = scale(20, 2)
SIZE = 4096
ROUNDS = scale(5, 1)
REPOSITORY = Path(__file__).parents[1]
MOST_TIMES = 3.0
_TEST = """import pytest
from module_{0} import total

@pytest.mark.parametrize("count", range(10))
def test_total(count, tmp_path):
    assert total(range(count)) == sum(range(count))
    (tmp_path / "out").write_text(str(count))
"""


@contextmanager
def mounted(volume: Path, place: Path) -> Iterator[Path]:
    """Mount a volume from a process of its own, as a user does."""
    place.mkdir()
    command = [sys.executable, "-m", "agentfs.cli", "-f", volume]
    subprocess.run([*command, "mount", place, "--background"], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run([*command, "unmount", place], check=True, capture_output=True)


def small_project(folder: Path) -> None:
    """Make a project with tests that take no time of their own."""
    for number in range(MODULES):
        source = "def total(numbers):\n    return sum(numbers)\n"
        (folder / f"module_{number}.py").write_text(source, encoding="utf-8")
        (folder / f"test_{number}.py").write_text(_TEST.format(number), encoding="utf-8")


def read_all(tree: Path) -> None:
    """Read every file of a tree."""
    for index in range(READ_FILES):
        with open(tree.joinpath(*tree_path(index)), "rb") as file:
            file.read()


def write_all(folder: Path) -> None:
    """Write small files into a new directory."""
    folder.mkdir()
    content = b"x" * SIZE
    for index in range(WRITE_FILES):
        with open(folder / f"f{index}", "wb") as file:
            file.write(content)


def sides(bare: Path, mount: Path, work: Callable[[Path, int], None]) -> list[Side]:
    """Return the same work in a bare directory and on the mount."""
    return [
        Side("bare", UNSYNCED, lambda number: timed(lambda: work(bare, number))),
        Side("mount", NORMAL, lambda number: timed(lambda: work(mount, number))),
    ]


def clone(home: Path, number: int) -> None:
    """Clone the repository with no hard links, as into another file system."""
    peers.git(home, "clone", "-q", "--no-hardlinks", REPOSITORY, home / f"clone{number}")


def status(home: Path, _number: int) -> None:
    """Ask for the state of a clone whose files are known."""
    peers.git(home / "repository", "status", "--porcelain")


def tests(home: Path, _number: int) -> None:
    """Run the small project's tests, bytecode and caches in place."""
    command = [sys.executable, "-m", "pytest", "-q", "--basetemp", home / "pytest-tmp", "."]
    subprocess.run(command, cwd=home / "project", check=True, capture_output=True)


def prepare(home: Path) -> None:
    """Fill a directory with what the work needs."""
    host_tree(home / "tree", READ_FILES, SIZE, 1)
    peers.git(home, "clone", "-q", "--no-hardlinks", REPOSITORY, home / "repository")
    (home / "project").mkdir()
    small_project(home / "project")


def main() -> None:
    """Measure and write the result."""
    claim = f"a mounted branch beside a bare directory; files of {SIZE:,} bytes, git and pytest"
    report = Report("mount", claim, peers.command_versions("git"))
    with workspace() as home:
        bare = home / "bare"
        bare.mkdir()
        volume = home / "x.afs"
        AgentFS.open(volume).close()
        with mounted(volume, home / "mount") as mount:
            for each in (bare, mount):
                prepare(each)
            time.sleep(scale(2, 0))
            found: dict[str, float] = {}
            for label, work, limit in (
                (f"read {READ_FILES:,} files", lambda at, _: read_all(at / "tree"), None),
                (f"write {WRITE_FILES:,} files", lambda at, turn: write_all(at / f"w{turn}"), None),
                ("git clone (local)", clone, None),
                ("git status, warm", status, MOST_TIMES),
                (f"pytest, {10 * MODULES} tests", tests, MOST_TIMES),
            ):
                compared = sides(bare, mount, work)
                measure = interleave(compared, ROUNDS)
                report.add(label, measure, compared)
                found[label] = measure.median("mount") / measure.median("bare")
                report.tell(f"{label}: bare", measure.ms("bare"), "ms")
                report.tell(f"{label}: mount", measure.ms("mount"), "ms")
                if limit is None:
                    report.tell(f"{label}: mount / bare", found[label], "x")
                else:
                    report.at_most(f"{label}: mount / bare", found[label], "x", limit)
        shutil.rmtree(bare, ignore_errors=True)
    report.sum_up(
        "pytest / warm git status on a mount, against a bare directory",
        f"{found[f'pytest, {10 * MODULES} tests']:.2g}x / {found['git status, warm']:.2g}x",
        "1x",
    )
    report.save()


if __name__ == "__main__":
    main()
