"""Claim: large incompressible files are written and read several times as fast as with agentfs-sdk.

Target: 20 files of 10 MiB, write >= 5x and read >= 3x the SDK, both at full durability.
"""

from __future__ import annotations

from pathlib import Path

import peers
from agentfs import AgentFS
from harness import FULL, UNSYNCED, Measure, Report, Side, interleave, scale, timed, workspace
from work import contents, write_host

MIB = 1 << 20
COUNT = scale(20, 2)
SIZE = scale(10 * MIB, MIB)
ROUNDS = scale(3, 2)


def _count(number: int) -> int:
    return COUNT if number >= 0 else 1


def plain_side(home: Path) -> tuple[Side, Side]:
    """Return writing and reading of plain files."""

    def write(number: int) -> float:
        root = home / f"r{number}"
        root.mkdir()
        data = contents(_count(number), SIZE, number)

        return timed(lambda: write_host(root, data))

    def read(number: int) -> float:
        def work() -> None:
            for index in range(_count(number)):
                assert len((home / f"r{number}" / f"f{index}").read_bytes()) == SIZE

        return timed(work)

    return Side("plain", UNSYNCED, write), Side("plain", UNSYNCED, read)


def our_side(fs: AgentFS) -> tuple[Side, Side]:
    """Return writing and reading in a volume."""

    def write(number: int) -> float:
        fs.mkdir(f"/r{number}")
        # A seed of its own for every round: repeated content would be stored only once.
        data = contents(_count(number), SIZE, number)

        def work() -> None:
            for index, each in enumerate(data):
                fs.write(f"/r{number}/f{index}", each)

        return timed(work)

    def read(number: int) -> float:
        def work() -> None:
            for index in range(_count(number)):
                assert len(fs.read(f"/r{number}/f{index}")) == SIZE

        return timed(work)

    return Side("ours", FULL, write), Side("ours", f"every chunk verified; {FULL}", read)


def sdk_side(sdk: peers.Peer) -> tuple[Side, Side]:
    """Return writing and reading with the SDK."""

    def write(number: int) -> float:
        request = {"directory": f"/r{number}", "count": _count(number), "size": SIZE}
        return sdk.call("create", seed=number, **request)

    def read(number: int) -> float:
        return sdk.call("read", directory=f"/r{number}", count=_count(number), size=SIZE)

    durability = peers.SDK_DURABILITY
    return Side(peers.SDK, durability, write), Side(peers.SDK, durability, read)


def main() -> None:
    """Measure and write the result."""
    claim = f"write and read {COUNT} files of {SIZE // MIB} MiB, incompressible"
    report = Report("large_files", claim, peers.sdk_versions())
    with (
        workspace() as home,
        peers.agentfs_sdk(home / "sdk.db") as sdk,
        AgentFS.open(home / "ours.afs", durability="full") as fs,
    ):
        (home / "plain").mkdir()
        pairs = [our_side(fs), sdk_side(sdk), plain_side(home / "plain")]
        for label, sides, target in (
            ("write", [pair[0] for pair in pairs], 5),
            ("read", [pair[1] for pair in pairs], 3),
        ):
            found = interleave(sides, ROUNDS)
            report.add(label, found, sides)
            publish(report, label, found, target)
    speed = {row["label"]: f"{row['value']:,.0f}" for row in report.rows}
    report.sum_up(
        f"write / read {COUNT} files of {SIZE // MIB} MiB",
        f"{speed['write: ours']} / {speed['read: ours']} MiB/s",
        f"agentfs-sdk {speed['write: agentfs-sdk']} / {speed['read: agentfs-sdk']};"
        f" plain {speed['write: plain']} / {speed['read: plain']}, unsynced",
    )
    report.save()


def publish(report: Report, label: str, found: Measure, target: float) -> None:
    """Set one direction's target beside what was measured."""
    for side in found.seconds:
        report.tell(f"{label}: {side}", found.rate(side, COUNT * SIZE / MIB), "MiB/s")
    faster = found.times_faster("ours", peers.SDK)
    report.at_least(f"{label}: ours / agentfs-sdk", faster, "x", target)


if __name__ == "__main__":
    main()
