"""Claim: forks that edit a little grow the volume a little.

Target: 10 forks of a 1 GiB tree of mixed sizes, 1 % of the files edited in place in each, grow the
volume by <= 0.15x the tree; a ten-byte edit in each of many 1 MiB files by <= 0.03x those files.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import NamedTuple

import fixtures
import peers
from agentfs import AgentFS
from harness import NORMAL, UNSYNCED, Report, Side, interleave, scale, timed, workspace
from work import Edit, apply, apply_to_host, disk_bytes, edits, mixed_sizes

BATCH = 200


class Case(NamedTuple):
    """A tree, and what is edited in each of its forks."""

    label: str
    sizes: list[int]
    forks: int
    files_edited: int
    edit_bytes: int
    limit: float


def cases() -> list[Case]:
    """Return the two cases of the claim."""
    less, forks = scale(1, 16), scale(10, 2)
    mixed = [size // less for size in mixed_sizes(scale(65, 1))]
    equal = [1 << 20] * scale(100, 1)
    return [
        Case("1 % edited in each fork", mixed, forks, len(mixed) // 100, 4096 // less, 0.15),
        Case("ten bytes in each 1 MiB file", equal, 1, len(equal), 10, 0.03),
    ]


def fill(fs: AgentFS, plain: Path, sizes: list[int]) -> None:
    """Write the same files, incompressible, into a volume and a directory."""
    source = random.Random(2)
    plain.mkdir()
    for begin in range(0, len(sizes), BATCH):
        with fs.transaction():
            for index, size in enumerate(sizes[begin : begin + BATCH], begin):
                data = source.randbytes(size)
                fs.write(f"/f{index:05d}", data)
                (plain / f"f{index:05d}").write_bytes(data)


def forkers(fs: AgentFS, plain: Path, case: Case) -> list[Side]:
    """Return what each side does to have one more edited tree beside the first one."""
    copied = plain.with_name("copy")

    def changes(number: int) -> list[Edit]:
        return edits(case.sizes, case.files_edited, case.edit_bytes, number)

    def ours(number: int) -> None:
        fork = fs.fork(f"fork{number}")
        apply(lambda name: fork.open(f"/{name}", "r+b"), changes(number))

    def git(number: int) -> None:
        peers.git(plain, "switch", "-q", "-c", f"fork{number}", "main")
        apply_to_host(plain, changes(number))
        peers.git(plain, "commit", "-q", "-a", "-m", f"fork {number}")

    def copy(number: int) -> None:
        # Each copy takes the place of the last one, to spare the disk.
        shutil.rmtree(copied, ignore_errors=True)
        peers.run("cp", "-a", plain, copied)
        apply_to_host(copied, changes(number))

    return [
        Side("ours", NORMAL, lambda number: timed(lambda: ours(number))),
        Side("git commit", peers.GIT_DURABILITY, lambda number: timed(lambda: git(number))),
        Side("cp -a", UNSYNCED, lambda number: timed(lambda: copy(number))),
    ]


def measure(report: Report, home: Path, case: Case) -> dict[str, float]:
    """Fork and edit on all sides; return each one's growth as a share of the tree's bytes."""
    volume, plain, store = home / "ours.afs", home / "plain", home / "git"
    logical = sum(case.sizes)
    with AgentFS.open(volume) as fs:
        fill(fs, plain, case.sizes)
    peers.git_repository(plain, store)
    before = {"ours": fixtures.file_bytes(volume), "git commit": disk_bytes(store)}
    with AgentFS.open(volume) as fs:
        sides = forkers(fs, plain, case)
        found = interleave(sides, case.forks, warmups=0, settle=False)
    report.add(case.label, found, sides)
    after = {"ours": fixtures.file_bytes(volume), "git commit": disk_bytes(store)}
    growth = {side: (after[side] - before[side]) / logical for side in after}
    growth["cp -a"] = case.forks * disk_bytes(home / "copy") / logical
    report.at_most(f"{case.label}: ours", growth["ours"], "x", case.limit)
    for side in ("git commit", "cp -a"):
        report.tell(f"{case.label}: {side}", growth[side], "x")
    return growth


def main() -> None:
    """Measure and write the result."""
    trees = cases()
    claim = f"growth of a {sum(trees[0].sizes) >> 20:,} MiB tree with {trees[0].forks} edited forks"
    report = Report("fork_growth", claim, peers.command_versions("git", "cp"))
    growth: list[dict[str, float]] = []
    for case in trees:
        with workspace() as home:
            growth.append(measure(report, home, case))
    report.notes.append("cp -a: the bytes of one copy, times the forks. git: one working tree.")
    ours, git, copied = (
        " / ".join(f"{each[side]:.3f}x" for each in growth)
        for side in ("ours", "git commit", "cp -a")
    )
    work = f"growth: {trees[0].forks} forks, 1 % of files edited / ten bytes in 1 MiB files"
    report.sum_up(work, ours, f"git {git}; cp -a {copied}")
    report.save()


if __name__ == "__main__":
    main()
