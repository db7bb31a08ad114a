"""Claim: a branch over a host tree is usable at once, because nothing is copied at its start.

Target: making the overlay of 50,000 files, then a first listing and a first read, <= 200 ms; a
first walk of all of it <= 3 s.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from agentfs import AgentFS
from harness import NORMAL, UNSYNCED, Report, Side, interleave, scale, timed, workspace

DIRECTORIES = scale(1000, 20)
PER_DIRECTORY = 50
FILES = DIRECTORIES * PER_DIRECTORY
ROUNDS = scale(7, 2)
COPY_ROUNDS = scale(3, 1)
START = "overlay, list, read"
AGAIN = "walk, second"
FIRST = "walk, first"
INSIDE = "walk, first, inside one transaction"
PLAIN = "os.walk with lstat of each file"


def fill(root: Path) -> None:
    """Make the host tree, two levels of directories with small files."""
    for number in range(DIRECTORIES):
        here = root / f"g{number // 50}" / f"d{number}"
        here.mkdir(parents=True)
        for index in range(PER_DIRECTORY):
            (here / f"f{index}.txt").write_text(f"file {index} of directory {number}\n")


def place(directory: int) -> str:
    """Return where a directory is below the tree's root."""
    return f"g{directory // 50}/d{directory}"


class Volumes:
    """A fresh volume for each turn, so that every start is a first one."""

    def __init__(self, home: Path, host: Path) -> None:
        """Begin with none."""
        self.home = home
        self.host = host
        self.count = 0

    def fresh(self) -> AgentFS:
        """Open an empty volume."""
        self.count += 1
        return AgentFS.open(self.home / f"{self.count}.afs")

    def start(self, turn: int) -> float:
        """Lay an empty branch over the tree, list a directory and read a file."""
        where = place(turn % DIRECTORIES)

        def work() -> None:
            fs.overlay(self.host, "/p")
            assert len(fs.listdir("/p")) == -(-DIRECTORIES // 50)
            assert len(fs.listdir(f"/p/{where}")) == PER_DIRECTORY
            assert fs.read(f"/p/{where}/f1.txt")

        with self.fresh() as fs:
            return timed(work)

    def walk(self, inside: bool) -> float:
        """Walk the whole tree, which nobody has listed."""
        with self.fresh() as fs:
            fs.overlay(self.host, "/p")
            if not inside:
                return timed(lambda: walked(fs))
            with fs.transaction():
                return timed(lambda: walked(fs))


def walked(fs: AgentFS) -> None:
    """Walk an overlay with the kinds, sizes and times of all names."""
    found = sum(len(names) for _, _, names in fs.walk("/p"))
    assert found == FILES


def plain(host: Path) -> Callable[[], None]:
    """Walk the host tree and look at each file, as `AgentFS.walk` does."""

    def work() -> None:
        found = 0
        for directory, _, names in os.walk(host):
            for name in names:
                os.lstat(os.path.join(directory, name))
            found += len(names)
        assert found == FILES

    return work


def copied(home: Path, host: Path) -> Callable[[int], float]:
    """Copy the tree, as one would without overlays, and remove the copy untimed."""

    def run(turn: int) -> float:
        target = home / f"copy{turn}"
        taken = timed(lambda: shutil.copytree(host, target))
        shutil.rmtree(target)
        return taken

    return run


def reads(fs: AgentFS, host: Path) -> tuple[Side, Side]:
    """Read the files of ten directories, through the overlay and from the host."""
    names = [f"{place(d)}/f{index}.txt" for d in range(10) for index in range(PER_DIRECTORY)]

    def ours() -> None:
        for each in names:
            fs.read(f"/p/{each}")

    def theirs() -> None:
        for each in names:
            (host / each).read_bytes()

    return (
        Side("read, overlay", NORMAL, lambda _: timed(ours)),
        Side("read, host", UNSYNCED, lambda _: timed(theirs)),
    )


def main() -> None:
    """Measure and write the result."""
    report = Report(
        "overlay_start", f"an overlay of {FILES:,} files in {DIRECTORIES:,} directories"
    )
    with workspace() as home:
        host = home / "host"
        fill(host)
        volumes = Volumes(home, host)
        kept = volumes.fresh()
        kept.overlay(host, "/p")
        walked(kept)
        sides = [
            Side(START, NORMAL, volumes.start),
            Side(FIRST, NORMAL, lambda _: volumes.walk(False)),
            Side(INSIDE, NORMAL, lambda _: volumes.walk(True)),
            Side(AGAIN, NORMAL, lambda _: timed(lambda: walked(kept))),
            Side(PLAIN, UNSYNCED, lambda _: timed(plain(host))),
        ]
        found = interleave(sides, ROUNDS)
        report.add("start and walk", found, sides)
        both = reads(kept, host)
        reading = interleave(both, ROUNDS)
        report.add("read", reading, both)
        copy = [Side("copy of the tree", UNSYNCED, copied(home, host))]
        copying = interleave(copy, COPY_ROUNDS, warmups=0)
        report.add("copy", copying, copy)
        stored = kept.stats().chunk_bytes
        kept.close()
    report.at_most(
        "make the overlay, list two directories, read a file", found.ms(START), "ms", 200
    )
    report.at_most("walk all of it for the first time", found.ms(FIRST), "ms", 3000)
    report.tell("the same in one transaction", found.ms(INSIDE), "ms")
    report.tell("walk all of it again", found.ms(AGAIN), "ms")
    report.tell("os.walk and lstat on the host", found.ms(PLAIN), "ms")
    count = 10 * PER_DIRECTORY
    report.tell("read small files through it", reading.rate("read, overlay", count), "files/s")
    report.tell("read small files on the host", reading.rate("read, host", count), "files/s")
    report.tell("copy the tree instead (copytree)", copying.ms("copy of the tree"), "ms")
    report.at_most("bytes of content in the volume after all of it", stored, "bytes", 0)
    report.sum_up(
        f"overlay of {FILES:,} files: make, list, read / first walk",
        f"{found.ms(START):.3g} / {found.ms(FIRST):,.0f} ms",
        f"copytree {copying.ms('copy of the tree'):,.0f} ms",
    )
    report.save()


if __name__ == "__main__":
    main()
