"""Claim: copying a tree costs a moment and no bytes, beside `cp -a` of the same tree.

Target: none of its own (fork_snapshot_copy.py has it); `cp --reflink` joins where the disk can.
Bringing the tree in and out, which `cp` users never pay, is measured too.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import fixtures
import peers
from agentfs import AgentFS
from harness import FULL, UNSYNCED, Report, Side, interleave, scale, timed, workspace
from work import host_tree

FILES, SIZE = scale((20_000, 13 << 10), (50, 4 << 10))
ROUNDS = scale(5, 1)


def cp(source: Path, target: Path, *options: str) -> Callable[[int], float]:
    """Copy a tree with the command; the copy of the last round is removed first."""

    def run(_: int) -> float:
        shutil.rmtree(target, ignore_errors=True)
        return timed(lambda: peers.run("cp", *options, source, target))

    return run


def can_reflink(home: Path) -> bool:
    """Say whether the file system shares the blocks of a copied file."""
    (home / "probe").write_bytes(b"x" * 8192)
    command = ["cp", "--reflink=always", home / "probe", home / "probe2"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def copies(report: Report, home: Path) -> None:
    """Measure a second, independent tree beside the first."""
    names = (f"n{number}" for number in itertools.count())
    tree, volume = home / "tree", home / "ours.afs"
    before = fixtures.file_bytes(volume)
    with AgentFS.open(volume, durability="full") as fs:
        sides = [
            Side("ours, copy", FULL, lambda _: timed(lambda: fs.copy("/tree", f"/{next(names)}"))),
            Side("ours, fork", FULL, lambda _: timed(lambda: fs.fork(next(names)))),
            Side("cp -a", UNSYNCED, cp(tree, home / "copy", "-a")),
        ]
        if can_reflink(home):
            reflink = cp(tree, home / "reflink", "-a", "--reflink=always")
            sides.append(Side("cp -a --reflink", UNSYNCED, reflink))
        else:
            report.notes.append("This file system cannot share blocks: no `cp --reflink`.")
        found = interleave(sides, ROUNDS)
    growth = (fixtures.file_bytes(volume) - before) / 1024 / (2 * (ROUNDS + 1))
    report.add("copy", found, sides)
    for side in found.seconds:
        report.tell(side, found.ms(side), "ms")
    report.tell("cp -a / ours, copy", found.times_faster("ours, copy", "cp -a"), "x")
    report.tell("growth of the volume by a copy or fork", growth, "KiB")
    report.sum_up(
        f"copy a tree of {FILES:,} files, {FILES * SIZE >> 20} MiB",
        f"{found.ms('ours, copy'):.2f} ms, {growth:.0f} KiB, synced",
        f"cp -a {found.ms('cp -a'):,.0f} ms, {FILES * SIZE >> 20} MiB, unsynced",
    )


def transfers(report: Report, home: Path, fs: AgentFS) -> None:
    """Measure the way in and out of a volume."""
    tree, out = home / "tree", home / "out"

    def bring_in(number: int) -> float:
        # New content each round, or the second one would find all of it stored.
        shutil.rmtree(tree)
        host_tree(tree, FILES, SIZE, 10 + number)
        return timed(lambda: fs.put_tree(tree, f"/in{number}"))

    def take_out(_: int) -> float:
        shutil.rmtree(out, ignore_errors=True)
        return timed(lambda: fs.get_tree("/tree", out))

    sides = [
        Side("ours, put", FULL, bring_in),
        Side("ours, get", UNSYNCED, take_out),
        Side("cp -a", UNSYNCED, cp(tree, home / "copy", "-a")),
    ]
    found = interleave(sides, ROUNDS, warmups=0)
    report.add("bring in and out", found, sides)
    for side in ("ours, put", "ours, get"):
        report.tell(side, found.ms(side), "ms")
        report.tell(f"{side} / cp -a", found.median(side) / found.median("cp -a"), "x")


def main() -> None:
    """Measure and write the result."""
    claim = f"a second tree of {FILES:,} files, {FILES * SIZE >> 20} MiB"
    report = Report("vs_cp", claim, peers.command_versions("cp"))
    with workspace() as home:
        host_tree(home / "tree", FILES, SIZE, 1)
        with AgentFS.open(home / "ours.afs", durability="full") as fs:
            fs.put_tree(home / "tree", "/tree")
        copies(report, home)
        with AgentFS.open(home / "ours.afs", durability="full") as fs:
            transfers(report, home, fs)
    report.save()


if __name__ == "__main__":
    main()
