"""Claim: a directory of 100,000 entries is quick to list and to write to after a fork.

Target: first write after a fork <= 10 ms; listing >= 200,000 entries a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import peers
from agentfs import AgentFS
from agentfs.types import Durability
from harness import FULL, NORMAL, UNSYNCED, Report, Side, interleave, scale, timed, workspace

ENTRIES = scale(100_000, 500)
PEER_ENTRIES = scale(5_000, 100)
FORKS = scale(21, 3)
ROUNDS = scale(7, 2)
SDK_LIST = f"list: {peers.SDK} ({PEER_ENTRIES:,} entries)"


@contextmanager
def filled(path: Path, durability: Durability) -> Iterator[AgentFS]:
    """Yield a volume with one full directory."""
    with AgentFS.open(path, durability=durability) as fs:
        with fs.transaction():
            fs.mkdir("/big")
            for index in range(ENTRIES):
                fs.write(f"/big/f{index}", b"x")
        yield fs


def first_write(fs: AgentFS) -> Callable[[int], float]:
    """Write one new file into the directory of a new fork."""

    def run(number: int) -> float:
        fork = fs.fork(f"fork{number}")
        return timed(lambda: fork.write("/big/new", b"new"))

    return run


def writes(report: Report, full: AgentFS, normal: AgentFS) -> None:
    """Measure the first write after a fork."""
    sides = [
        Side("ours, full", FULL, first_write(full)),
        Side("ours, normal", NORMAL, first_write(normal)),
    ]
    found = interleave(sides, FORKS, settle=False)
    report.add("first write", found, sides)
    for side in found.seconds:
        report.at_most(f"first write after a fork: {side}", found.ms(side), "ms", 10)


def lists(report: Report, fs: AgentFS, plain: Path, sdk: peers.Peer) -> None:
    """Measure listing all names."""
    sides = [
        Side("ours", NORMAL, lambda _: timed(lambda: fs.listdir("/big"))),
        Side(
            peers.SDK,
            peers.SDK_DURABILITY,
            lambda _: sdk.call("list", directory="/big", count=PEER_ENTRIES),
        ),
        Side("plain, sorted", UNSYNCED, lambda _: timed(lambda: sorted(os.listdir(plain)))),
    ]
    found = interleave(sides, ROUNDS, settle=False)
    report.add("list", found, sides)
    rate = found.rate("ours", ENTRIES)
    report.at_least("list: ours", rate, "entries/s", 200_000)
    sdk_rate = found.rate(peers.SDK, PEER_ENTRIES)
    report.tell(SDK_LIST, sdk_rate, "entries/s")
    report.tell("list: plain, sorted", found.rate("plain, sorted", ENTRIES), "entries/s")


def main() -> None:
    """Measure and write the result."""
    claim = f"one directory of {ENTRIES:,} entries"
    report = Report("big_directory", claim, peers.sdk_versions())
    with (
        workspace() as home,
        filled(home / "full.afs", "full") as full,
        filled(home / "normal.afs", "normal") as normal,
        peers.agentfs_sdk(home / "sdk.db") as sdk,
    ):
        plain = home / "plain"
        plain.mkdir()
        for index in range(ENTRIES):
            (plain / f"f{index}").touch()
        sdk.call("create", directory="/big", count=PEER_ENTRIES, size=1, seed=1)
        writes(report, full, normal)
        lists(report, normal, plain, sdk)
    figure = {row["label"]: row["value"] for row in report.rows}
    report.sum_up(
        f"directory of {ENTRIES:,} entries: first write after a fork / list",
        f"{figure['first write after a fork: ours, full']:.2f} ms,"
        f" {figure['list: ours']:,.0f} entries/s",
        f"agentfs-sdk no fork, {figure[SDK_LIST]:,.0f} entries/s;"
        f" plain {figure['list: plain, sorted']:,.0f} entries/s",
    )
    report.notes.append(
        f"agentfs-sdk lists {PEER_ENTRIES:,} entries, because filling 100,000 takes it minutes."
    )
    report.save()


if __name__ == "__main__":
    main()
