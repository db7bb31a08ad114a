"""Claim: after everything is deleted, gc gives the bytes back to the operating system.

Target: with history_retention 0 the closed volume is <= 2 MiB, whatever it held before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fixtures
import peers
from agentfs import AgentFS
from harness import NORMAL, Report, Side, interleave, scale, timed, workspace

FILES, SIZE = scale((20_000, 13 << 10), (50, 4 << 10))
PEER_FILES = scale(2_000, 20)
FORKS = 5
ROUNDS = scale(3, 2)
MIB = 1 << 20


def empty(fs: AgentFS) -> None:
    """Delete the tree and every branch but main, then collect with no history kept."""
    fs.remove("/tree", recursive=True)
    for number in range(FORKS):
        fs.delete_branch(f"fork{number}")
    fs.gc(retention=0)


def ours(home: Path, sizes: dict[str, list[int]]) -> Callable[[int], float]:
    """Fill a volume with a tree and edited forks of it, and delete all of it."""

    def run(number: int) -> float:
        path = fixtures.volume(home / f"v{number}.afs", FILES, SIZE)
        with AgentFS.open(path) as fs:
            for fork in range(FORKS):
                fs.fork(f"fork{fork}").write("/tree/d0000/f0000000", f"fork {fork}")
        sizes["ours, filled"].append(fixtures.file_bytes(path))
        with AgentFS.open(path) as fs:
            taken = timed(lambda: empty(fs))
            assert not fs.fsck()
        sizes["ours, emptied"].append(fixtures.file_bytes(path))
        path.unlink()
        return taken

    return run


def sdk(home: Path, sizes: dict[str, list[int]]) -> Callable[[int], float]:
    """Let the SDK write its files into a new database and remove them."""

    def run(number: int) -> float:
        path = home / f"sdk{number}.db"
        with peers.agentfs_sdk(path) as worker:
            worker.call("create", directory="/tree", count=PEER_FILES, size=SIZE, seed=1)
            worker.call("close")
            sizes["agentfs-sdk, filled"].append(fixtures.file_bytes(path))
            worker.call("open", path=str(path), synchronous="FULL")
            taken = worker.call("remove", directory="/tree")
            worker.call("close")
        sizes["agentfs-sdk, emptied"].append(fixtures.file_bytes(path))
        path.unlink()
        return taken

    return run


def main() -> None:
    """Measure and write the result."""
    claim = f"delete {FILES:,} files, {FILES * SIZE >> 20:,} MiB, in {FORKS + 1} branches, and gc"
    report = Report("gc_space", claim, peers.sdk_versions())
    states = [f"{side}, {state}" for side in ("ours", peers.SDK) for state in ("filled", "emptied")]
    sizes: dict[str, list[int]] = {state: [] for state in states}
    with workspace() as home:
        sides = [
            Side("ours", NORMAL, ours(home, sizes)),
            Side(peers.SDK, peers.SDK_DURABILITY, sdk(home, sizes)),
        ]
        found = interleave(sides, ROUNDS, warmups=0)
    report.add("delete and collect", found, sides)
    largest = {state: max(each) / MIB for state, each in sizes.items()}
    report.tell("ours, filled", largest["ours, filled"], "MiB")
    report.at_most("ours, emptied", largest["ours, emptied"], "MiB", 2)
    report.tell(f"delete and gc: {FILES:,} files", found.median("ours"), "s")
    report.tell(f"{peers.SDK}, filled", largest[f"{peers.SDK}, filled"], "MiB")
    report.tell(f"{peers.SDK}, emptied", largest[f"{peers.SDK}, emptied"], "MiB")
    report.notes.append(
        f"agentfs-sdk has no vacuum; it holds {PEER_FILES:,} files, to spare minutes of filling."
    )
    report.sum_up(
        "size after everything is deleted",
        f"{largest['ours, filled']:,.0f} MiB become {largest['ours, emptied']:.2f} MiB",
        f"agentfs-sdk: {largest[f'{peers.SDK}, filled']:,.1f} MiB become"
        f" {largest[f'{peers.SDK}, emptied']:,.1f} MiB",
    )
    report.save()


if __name__ == "__main__":
    main()
