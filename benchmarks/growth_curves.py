"""Claim: what an operation costs hardly depends on how many files the tree has.

Target: fork of 10^6 files against 10^2: ratio <= 1.5 or difference <= 0.2 ms. Beside it plain
files, up to 10^5 (`cp -a` forks, `diff -rq` compares); docs/images/agentfs-growth.svg shows all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import fixtures
import peers
from agentfs import AgentFS
from harness import NORMAL, UNSYNCED, Report, Side, interleave, scale, timed, workspace

SIZES = scale([10**2, 10**3, 10**4, 10**5, 10**6], [10, 100])
PLAIN_LIMIT = scale(10**5, 100)
CHANGES = 10


def clocked(run: Callable[[int], object]) -> Callable[[int], float]:
    """Return a side's `run` that times one call."""
    return lambda number: timed(lambda: run(number))


def ours(fs: AgentFS, size: int) -> dict[str, Callable[[int], float]]:
    """Return the operations in the volume; diff compares with the round's fork."""
    directory, path = fixtures.small_path(size // 2)

    def diff(number: int) -> None:
        assert len(list(fs.diff("main", f"fork{size}-{number}"))) == CHANGES

    return {
        "fork": clocked(lambda number: fs.fork(f"fork{size}-{number}")),
        "diff": clocked(diff),
        "create": clocked(lambda number: fs.write(f"/{directory}/new{size}-{number}", b"new")),
        "read": clocked(lambda _: fs.read(f"/{path}")),
        "list": clocked(lambda _: fs.listdir(f"/{directory}")),
    }


def plain(host: Path, size: int) -> dict[str, Callable[[int], float]]:
    """Return the operations in plain files; each fork takes the place of the last one."""
    directory, path = (host / each for each in fixtures.small_path(size // 2))
    tree, copied = host / "tree", host / "copy"

    def fork(_: int) -> float:
        shutil.rmtree(copied, ignore_errors=True)
        return timed(lambda: peers.run("cp", "-a", tree, copied))

    def diff(_: int) -> None:
        found = subprocess.run(["diff", "-rq", tree, copied], capture_output=True, check=False)
        assert len(found.stdout.splitlines()) == CHANGES

    return {
        "fork": fork,
        "diff": clocked(diff),
        "create": clocked(lambda number: (directory / f"new{size}-{number}").write_bytes(b"new")),
        "read": clocked(lambda _: path.read_bytes()),
        "list": clocked(lambda _: sorted(os.listdir(directory))),
    }


def edit(fs: AgentFS, host: Path, size: int) -> None:
    """Change ten files in the last round's forks, all over the tree."""
    for index in range(0, size, size // CHANGES):
        path = fixtures.small_path(index)[1]
        for number in range(-1, rounds(size)):
            fs.on(f"fork{size}-{number}").write(f"/{path}", b"edited")
        if size <= PLAIN_LIMIT:
            (host / path.replace("tree", "copy", 1)).write_bytes(b"edited")


def rounds(size: int) -> int:
    """Return how often each operation is timed; copying many plain files takes seconds."""
    return scale(3 if size == PLAIN_LIMIT else 11, 1)


def measure(report: Report, fs: AgentFS, host: Path, size: int) -> None:
    """Time every operation on trees of one size."""
    of_plain = plain(host, size)
    for operation, run in ours(fs, size).items():
        sides = [Side("ours", NORMAL, run)]
        if size <= PLAIN_LIMIT:
            sides.append(Side("plain", UNSYNCED, of_plain[operation]))
        found = interleave(sides, rounds(size), settle=False)
        report.add(f"{operation}, {size:,} files", found, sides)
        report.curve(operation, size, found)
        if operation == "fork":
            edit(fs, host, size)


def publish(report: Report) -> None:
    """Set the ends of each curve beside each other."""
    words: list[str] = []
    for operation, curves in report.curves.items():
        (_, few), (_, many) = curves["ours"][0], curves["ours"][-1]
        report.tell(f"{operation}, {SIZES[0]:,} files", few, "ms")
        report.tell(f"{operation}, {SIZES[-1]:,} files", many, "ms")
        words.append(f"{operation} {few:.2f} to {many:.2f}")
        if operation == "fork":
            flat = many <= 1.5 * few or many - few <= 0.2
            report.either("fork, most / fewest", many / few, "x", "<= 1.5 or +0.2 ms", flat)
    beside = ", ".join(
        f"{operation} {curves['plain'][-1][1]:,.3g}" for operation, curves in report.curves.items()
    )
    work = f"from {SIZES[0]:,} to {SIZES[-1]:,} files, ms"
    report.sum_up(work, ", ".join(words), f"plain at {PLAIN_LIMIT:,}: {beside}")


def main() -> None:
    """Measure and write the result; `tables.py` draws the picture from it."""
    claim = f"operations in trees of {SIZES[0]:,} to {SIZES[-1]:,} small files"
    report = Report("growth_curves", claim, peers.command_versions("cp", "diff"))
    with workspace() as home, AgentFS.open(home / "ours.afs") as fs:
        for before, size in zip([0, *SIZES], SIZES, strict=False):
            fixtures.add_small(fs, home / "host", before, size, PLAIN_LIMIT)
            measure(report, fs, home / "host", size)
    publish(report)
    report.save()


if __name__ == "__main__":
    main()
