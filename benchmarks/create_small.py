"""Claim: many small files are created several times as fast as with agentfs-sdk.

Target: one by one at full durability >= 8x the SDK and >= 0.6x plain write + fsync; in one
transaction >= 20x the SDK (whose API has none); at normal durability >= 0.3x plain files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import peers
from agentfs import AgentFS
from harness import (
    FULL,
    NORMAL,
    UNSYNCED,
    Measure,
    Report,
    Side,
    interleave,
    scale,
    timed,
    workspace,
)  # fmt: skip
from work import contents, write_host

COUNT = scale(2000, 20)
SIZE = 4096
ROUNDS = scale(3, 2)
UNSYNCED_SDK = f"{peers.SDK}, unsynced"


def _count(number: int) -> int:
    return COUNT if number >= 0 else COUNT // 10


def ours(fs: AgentFS, batch: bool) -> Callable[[int], float]:
    """Write each round's files into a new directory, in one transaction or one by one."""

    def run(number: int) -> float:
        root = f"/batch{number}" if batch else f"/single{number}"
        fs.mkdir(root)
        data = contents(_count(number), SIZE, 2 * number + batch)

        def work() -> None:
            for index, each in enumerate(data):
                fs.write(f"{root}/f{index}", each)

        def together() -> None:
            with fs.transaction():
                work()

        return timed(together if batch else work)

    return run


def peer(worker: peers.Peer) -> Callable[[int], float]:
    """Let the SDK write each round's files into a new directory."""

    def run(number: int) -> float:
        at = f"/r{number}"
        return worker.call("create", directory=at, count=_count(number), size=SIZE, seed=number)

    return run


def plain(home: Path, sync: bool) -> Callable[[int], float]:
    """Write plain files, each with or without fsync of its data."""

    def run(number: int) -> float:
        root = home / f"{'synced' if sync else 'plain'}{number}"
        root.mkdir()
        data = contents(_count(number), SIZE, number)

        return timed(lambda: write_host(root, data, sync))

    return run


def main() -> None:
    """Measure and write the result."""
    claim = f"create {COUNT:,} files of {SIZE:,} bytes"
    report = Report("create_small", claim, peers.sdk_versions())
    with (
        workspace() as home,
        peers.agentfs_sdk(home / "sdk.db") as sdk,
        peers.agentfs_sdk(home / "unsynced.db", "OFF") as unsynced,
        AgentFS.open(home / "full.afs", durability="full") as full,
        AgentFS.open(home / "normal.afs", durability="normal") as normal,
    ):
        sides = [
            Side("ours, full", FULL, ours(full, batch=False)),
            Side("ours, one transaction", "full: one sync for all", ours(full, batch=True)),
            Side("ours, normal", NORMAL, ours(normal, batch=False)),
            Side(peers.SDK, peers.SDK_DURABILITY, peer(sdk)),
            Side(UNSYNCED_SDK, "synchronous=OFF, set on its connection", peer(unsynced)),
            Side("plain + fsync", "each file's data synced, its name not", plain(home, True)),
            Side("plain", UNSYNCED, plain(home, False)),
        ]
        found = interleave(sides, ROUNDS)
    report.add("create", found, sides)
    publish(report, found)
    report.save()


def publish(report: Report, found: Measure) -> None:
    """Set the targets beside what was measured."""
    for side in found.seconds:
        report.tell(side, found.rate(side, COUNT), "files/s")
    for side, other, limit in (
        ("ours, full", peers.SDK, 8),
        ("ours, one transaction", peers.SDK, 20),
        ("ours, full", "plain + fsync", 0.6),
        ("ours, normal", "plain", 0.3),
    ):
        report.at_least(f"{side} / {other}", found.times_faster(side, other), "x", limit)
    report.notes.append("agentfs-sdk commits inside each call, so it has no transaction to use.")
    rates = {side: f"{found.rate(side, COUNT):,.0f}/s" for side in found.seconds}
    report.sum_up(
        f"create {COUNT:,} files of 4 KiB",
        f"{rates['ours, full']} synced one by one, {rates['ours, one transaction']} in one"
        f" transaction, {rates['ours, normal']} at normal durability",
        f"agentfs-sdk {rates[peers.SDK]}; plain {rates['plain + fsync']} synced, {rates['plain']}",
    )


if __name__ == "__main__":
    main()
