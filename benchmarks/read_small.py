"""Claim: reading many small files costs little more than plain files, and no commit.

Target: >= 50x agentfs-sdk, >= 0.7x plain files that are in the page cache.
"""

from __future__ import annotations

from pathlib import Path

import peers
from agentfs import AgentFS
from harness import NORMAL, UNSYNCED, Report, Side, interleave, scale, timed, workspace
from work import contents

COUNT = scale(2000, 20)
SIZE = 4096
ROUNDS = scale(7, 2)


def main() -> None:
    """Measure and write the result; every side's files are in its caches."""
    claim = f"read {COUNT:,} files of {SIZE:,} bytes, warm"
    report = Report("read_small", claim, peers.sdk_versions())
    with (
        workspace() as home,
        peers.agentfs_sdk(home / "sdk.db") as sdk,
        AgentFS.open(home / "ours.afs") as fs,
    ):
        prepare(fs, home / "plain")
        sdk.call("create", directory="/a", count=COUNT, size=SIZE, seed=1)

        def ours() -> None:
            total = 0
            for index in range(COUNT):
                total += len(fs.read(f"/a/f{index}"))
            assert total == COUNT * SIZE

        def plain() -> None:
            total = 0
            for index in range(COUNT):
                with open(f"{home}/plain/f{index}", "rb") as file:
                    total += len(file.read())
            assert total == COUNT * SIZE

        sides = [
            Side("ours", f"reads do not write; {NORMAL}", lambda _: timed(ours)),
            Side(
                peers.SDK,
                f"each read commits an access time; {peers.SDK_DURABILITY}",
                lambda _: sdk.call("read", directory="/a", count=COUNT, size=SIZE),
            ),
            Side("plain", UNSYNCED, lambda _: timed(plain)),
        ]
        found = interleave(sides, ROUNDS)
    report.add("read", found, sides)
    for side in found.seconds:
        report.tell(side, found.rate(side, COUNT), "files/s")
    report.at_least("ours / agentfs-sdk", found.times_faster("ours", peers.SDK), "x", 50)
    report.at_least("ours / plain files", found.times_faster("ours", "plain"), "x", 0.7)
    rates = {side: f"{found.rate(side, COUNT):,.0f}/s" for side in found.seconds}
    report.sum_up(
        f"read {COUNT:,} files of 4 KiB",
        rates["ours"],
        f"agentfs-sdk {rates[peers.SDK]}; plain {rates['plain']}",
    )
    report.save()


def prepare(fs: AgentFS, plain: Path) -> None:
    """Write the same files into a volume and a directory."""
    plain.mkdir()
    fs.mkdir("/a")
    with fs.transaction():
        for index, each in enumerate(contents(COUNT, SIZE, 1)):
            fs.write(f"/a/f{index}", each)
            (plain / f"f{index}").write_bytes(each)


if __name__ == "__main__":
    main()
