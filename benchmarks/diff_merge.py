"""Claim: diff and merge cost what differs, not the size of the tree.

Target: 10 changes among 100,000 files, diff <= 5 ms, merge <= 10 ms (`vs_git.py` has git at it).
"""

from __future__ import annotations

import os
from collections.abc import Callable

import fixtures
from agentfs import AgentFS
from harness import FULL, NORMAL, Measure, Report, Side, interleave, scale, timed, workspace
from work import tree_path

FILES = scale(100_000, 300)
SIZE = fixtures.TREE_BYTES // 100_000
SMALL = 10
CHANGES = 10
ROUNDS = scale(21, 3)


def edited_fork(fs: AgentFS, files: int, number: int) -> str:
    """Fork and change ten files all over the tree; return the fork's name."""
    name = f"edit{number}"
    fork = fs.fork(name)
    step = files // CHANGES
    for index in range(0, step * CHANGES, step):
        directory, file = tree_path(index)
        fork.write(f"/tree/{directory}/{file}", os.urandom(SIZE))
    return name


def differ(fs: AgentFS, files: int) -> Callable[[int], float]:
    """Compare the branch with an edited fork."""

    def run(number: int) -> float:
        name = edited_fork(fs, files, number)
        found: list[object] = []
        taken = timed(lambda: found.extend(fs.diff("main", name)))
        assert len(found) == CHANGES, len(found)
        return taken

    return run


def merge(fs: AgentFS, files: int) -> Callable[[int], float]:
    """Merge an edited fork into the branch, which went on by itself meanwhile."""

    def run(number: int) -> float:
        name = edited_fork(fs, files, 1000 + number)
        fs.write("/tree/d0000/meanwhile", f"round {number}")
        found: list[int] = []
        taken = timed(lambda: found.append(len(fs.merge(name).changes)))
        assert found == [CHANGES], found
        return taken

    return run


def main() -> None:
    """Measure and write the result."""
    claim = f"{CHANGES} changes among {FILES:,} files, {FILES * SIZE >> 20:,} MiB"
    report = Report("diff_merge", claim)
    with workspace() as home:
        large = fixtures.volume(home / "full.afs", FILES, SIZE)
        other = fixtures.volume(home / "normal.afs", FILES, SIZE)
        small = fixtures.volume(home / "small.afs", SMALL, SIZE)
        with (
            AgentFS.open(large, durability="full") as full,
            AgentFS.open(other, durability="normal") as normal,
            AgentFS.open(small, durability="full") as tiny,
        ):
            for label, make, limit in (("diff", differ, 5), ("merge", merge, 10)):
                sides = [
                    Side("full", FULL, make(full, FILES)),
                    Side("normal", NORMAL, make(normal, FILES)),
                    Side(f"full, {SMALL} files", FULL, make(tiny, SMALL)),
                ]
                found = interleave(sides, ROUNDS, settle=False)
                report.add(label, found, sides)
                publish(report, label, found, limit)
    ms = {row["label"]: row["value"] for row in report.rows}
    report.sum_up(
        f"diff / merge with {CHANGES} changes among {FILES:,} files",
        f"{ms['diff, full']:.2f} / {ms['merge, full']:.2f} ms",
        f"{ms[f'diff, full, of a tree of {SMALL} files']:.2f} /"
        f" {ms[f'merge, full, of a tree of {SMALL} files']:.2f} ms in a tree of {SMALL} files",
    )
    report.save()


def publish(report: Report, label: str, found: Measure, limit: float) -> None:
    """Set one operation's target beside what was measured."""
    report.at_most(f"{label}, full", found.ms("full"), "ms", limit)
    report.at_most(f"{label}, normal", found.ms("normal"), "ms", limit)
    report.tell(
        f"{label}, full, of a tree of {SMALL} files", found.ms(f"full, {SMALL} files"), "ms"
    )


if __name__ == "__main__":
    main()
