"""Claim: fork, snapshot and copy of a directory cost the same for 10 files as for 1 GiB.

Target: <= 1 ms at full durability and <= 0.3 ms at normal for 100,000 files, no data bytes
written; against 10 files a ratio <= 1.5 or a difference <= 0.2 ms. Each sample is ten in a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import fixtures
import peers
from agentfs import AgentFS
from agentfs.types import Durability
from harness import FULL, NORMAL, Measure, Report, Side, interleave, scale, timed, workspace

FILES = scale(100_000, 300)
SIZE = fixtures.TREE_BYTES // 100_000
SMALL = 10
ROUNDS = scale(31, 3)
BURST = 10
PEER_ROUNDS = scale(3, 1)
PEER_FILES, PEER_SIZE = scale((102, 10 << 20), (2, 1 << 20))
COPIED = f"{peers.SDK}, unsynced"
LARGE_NAME, SMALL_NAME = f"{FILES:,} files", f"{SMALL} files"
DURABILITIES: dict[Durability, tuple[str, float]] = {"full": (FULL, 1.0), "normal": (NORMAL, 0.3)}
_NAMES = (f"n{number}" for number in itertools.count())


def operations(fs: AgentFS) -> dict[str, Callable[[int], float]]:
    """Return the mean time of each of the three operations, each time with a new name."""

    def mean(operation: Callable[[str], object]) -> Callable[[int], float]:
        def run(_: int) -> float:
            names = list(itertools.islice(_NAMES, BURST))
            return timed(lambda: [operation(name) for name in names]) / BURST

        return run

    return {
        "fork": mean(fs.fork),
        "snapshot": mean(fs.snapshot),
        "copy": mean(lambda name: fs.copy("/tree", f"/{name}")),
    }


def ours(report: Report, home: Path) -> None:
    """Measure both trees side by side at both durabilities."""
    large = fixtures.volume(home / "large.afs", FILES, SIZE)
    small = fixtures.volume(home / "small.afs", SMALL, SIZE)
    for durability, (text, limit_ms) in DURABILITIES.items():
        with (
            AgentFS.open(large, durability=durability) as one,
            AgentFS.open(small, durability=durability) as other,
        ):
            before = one.stats().chunk_bytes
            at_large, at_small = operations(one), operations(other)
            for operation, run in at_large.items():
                sides = [
                    Side(LARGE_NAME, text, run),
                    Side(SMALL_NAME, text, at_small[operation]),
                ]
                found = interleave(sides, ROUNDS, warmups=3, settle=False)
                report.add(f"{operation}, {durability}", found, sides)
                publish(report, f"{operation}, {durability}", found, limit_ms)
            written = one.stats().chunk_bytes - before
            report.at_most(f"data bytes written by all of it, {durability}", written, "bytes", 0)


def publish(report: Report, label: str, found: Measure, limit: float) -> None:
    """Set the two targets of one operation beside what was measured."""
    large, small = found.ms(LARGE_NAME), found.ms(SMALL_NAME)
    report.at_most(f"{label}: {LARGE_NAME}", large, "ms", limit)
    flat = large <= 1.5 * small or large - small <= 0.2
    report.either(
        f"{label}: {LARGE_NAME} / {SMALL_NAME}", large / small, "x", "<= 1.5 or +0.2 ms", flat
    )


def peer(report: Report, home: Path) -> None:
    """Measure the SDK's way: a copy of its closed file."""
    path, target = str(home / "sdk.db"), str(home / "copy.db")
    with (
        peers.agentfs_sdk(home / "sdk.db") as sdk,
        AgentFS.open(home / "large.afs", durability="full") as fs,
    ):
        for number in range(PEER_FILES):
            sdk.call("create", directory=f"/a{number}", count=1, size=PEER_SIZE, seed=number)
        sdk.call("close")
        sides = [
            Side("ours", FULL, lambda number: timed(lambda: fs.fork(f"peer{number}"))),
            Side(
                peers.SDK,
                "copy of the file, synced",
                lambda _: sdk.call("fork", path=path, target=target, sync=True),
            ),
            Side(
                COPIED,
                "copy of the file, not synced",
                lambda _: sdk.call("fork", path=path, target=target, sync=False),
            ),
        ]
        found = interleave(sides, PEER_ROUNDS)
    report.add("fork of 1 GiB", found, sides)
    for side in (peers.SDK, COPIED):
        report.tell(f"fork by file copy: {side}", found.ms(side), "ms")
    report.tell("fork, full: ours / agentfs-sdk", found.times_faster("ours", peers.SDK), "x")
    report.notes.append(
        f"agentfs-sdk has no fork or snapshot; its documented way is to copy the closed file,"
        f" here with {PEER_FILES} files of {PEER_SIZE >> 20} MiB (100,000 files take it minutes)."
    )


def main() -> None:
    """Measure and write the result."""
    report = Report(
        "fork_snapshot_copy",
        f"fork, snapshot and copy a tree of {FILES:,} files, {FILES * SIZE >> 20:,} MiB",
        peers.sdk_versions(),
    )
    with workspace() as home:
        ours(report, home)
        peer(report, home)
    ms = {row["label"]: f"{row['value']:,.3g}" for row in report.rows}
    report.sum_up(
        f"fork / snapshot / copy of {FILES:,} files, {FILES * SIZE / (1 << 30):.1f} GiB",
        " / ".join(ms[f"{each}, full: {LARGE_NAME}"] for each in ("fork", "snapshot", "copy"))
        + f" ms synced; fork {ms[f'fork, normal: {LARGE_NAME}']} ms at normal durability",
        f"agentfs-sdk: copy of its file, {ms[f'fork by file copy: {peers.SDK}']} ms synced",
    )
    report.save()


if __name__ == "__main__":
    main()
