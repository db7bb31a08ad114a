"""Claim: a file reads as fast at fork depth 1,000 as at depth 1.

Target: <= 1.2x. Nothing is compared with: no peer forks a fork without copying or mounting.
"""

from __future__ import annotations

from collections.abc import Callable

from agentfs import AgentFS
from harness import NORMAL, Report, Side, interleave, scale, timed, workspace
from work import contents

DEPTH = scale(1000, 30)
FILES = scale(200, 20)
SIZE = 4096
ROUNDS = scale(21, 3)


def deepen(fs: AgentFS) -> tuple[AgentFS, AgentFS]:
    """Fork the newest fork again and again, each with a write; return depth 1 and the last."""
    with fs.transaction():
        for index, each in enumerate(contents(FILES, SIZE, 1)):
            fs.write(f"/f{index}", each)
    first = last = fs.fork("depth-1")
    for depth in range(2, DEPTH + 1):
        last.write("/note", f"written at depth {depth - 1}")
        last = last.fork(f"depth-{depth}")
    return first, last


def reader(fs: AgentFS) -> Callable[[int], float]:
    """Read all files of a branch."""

    def work() -> None:
        for index in range(FILES):
            assert len(fs.read(f"/f{index}")) == SIZE

    return lambda _: timed(work)


def main() -> None:
    """Measure and write the result."""
    report = Report("fork_depth_read", f"read 4 KiB files at fork depth {DEPTH:,}, warm")
    with workspace() as home, AgentFS.open(home / "ours.afs") as fs:
        first, last = deepen(fs)
        sides = [
            Side("depth 1", NORMAL, reader(first)),
            Side(f"depth {DEPTH:,}", NORMAL, reader(last)),
        ]
        found = interleave(sides, ROUNDS, warmups=2, settle=False)
    report.add("read", found, sides)
    for side in found.seconds:
        report.tell(side, found.median(side) / FILES * 1e6, "us a file")
    ratio = 1 / found.times_faster(f"depth {DEPTH:,}", "depth 1")
    report.at_most("deepest / depth 1", ratio, "x", 1.2)
    us = {row["label"]: row["value"] for row in report.rows}
    report.sum_up(
        f"read a 4 KiB file at fork depth {DEPTH:,}",
        f"{us[f'depth {DEPTH:,}']:.1f} us",
        f"{us['depth 1']:.1f} us at depth 1",
    )
    report.save()


if __name__ == "__main__":
    main()
