"""Recomputes the chain and the Merkle tree over journal rows, in this process or in another one.

Ranges of rows can be checked apart, because each row keeps its hash: the chain of a range starts
with the hash before it, and the tree's tiles of 256 leaves are joined afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentfs import AgentFS
from fmos.audit.merkle import Frontier, full_root, leaf_hashes
from fmos.audit.tree import TILE, TreeStore
from fmos.errors import StorageError

_PIECE = 64 * TILE
#: Fewer rows than this are checked faster than another process starts.
_WORTH_A_PROCESS = 150_000
_HEAD_START = 50_000

Progress = Callable[[int], None]
"""Is told how many rows were checked."""


@dataclass(slots=True)
class Swept:
    """What a range of rows gave: roots of full tiles, and what checkpoints in it are held against.

    `parts` has, for a size of the tree, the subtrees after the last full tile; `chain` the hash of
    its last row. `bad` is the first row that does not follow, and `last` the hash before it.
    """

    tiles: list[bytes] = field(default_factory=list)
    parts: dict[int, list[bytes]] = field(default_factory=dict)
    chain: dict[int, bytes] = field(default_factory=dict)
    bad: int | None = None
    last: bytes = b""

    def to_json(self) -> dict[str, Any]:
        """Return what another process hands back."""
        return {
            "tiles": b"".join(self.tiles).hex(),
            "parts": {size: b"".join(each).hex() for size, each in self.parts.items()},
            "chain": {size: each.hex() for size, each in self.chain.items()},
            "bad": self.bad,
            "last": self.last.hex(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Swept:
        """Return what another process found."""
        return cls(
            _hashes(data["tiles"]),
            {int(size): _hashes(each) for size, each in data["parts"].items()},
            {int(size): bytes.fromhex(each) for size, each in data["chain"].items()},
            data["bad"],
            bytes.fromhex(data["last"]),
        )


def _hashes(text: str) -> list[bytes]:
    return [bytes.fromhex(text[at : at + 64]) for at in range(0, len(text), 64)]


@dataclass(frozen=True, slots=True)
class Range:
    """Rows after `since` up to `until` of the tree after row `base`; `since` ends a full tile."""

    base: int
    since: int
    until: int
    previous: bytes


def sweep(
    volume: AgentFS, rows: Range, sizes: Iterable[int], progress: Progress | None = None
) -> Swept:
    """Check a range of rows in this process; `sizes` are those of the checkpoints."""
    found = Swept(last=rows.previous)
    waiting = sorted(size for size in sizes if rows.since - rows.base < size)
    at = rows.since
    while at < rows.until and found.bad is None:
        end = min(at + _PIECE, rows.until)
        part = volume.check_journal(at, end, found.last)
        found.bad = part.first_bad_seq
        leaves = leaf_hashes(part.hashes)
        first = at - rows.base
        while waiting and waiting[0] <= first + len(leaves):
            size = waiting.pop(0)
            found.chain[size] = part.hashes[size - first - 1]
            found.parts[size] = _small(leaves[(size - size % TILE) - first : size - first])
        for start in range(0, len(leaves) - TILE + 1, TILE):
            found.tiles.append(full_root(leaves[start : start + TILE]))
        found.last = part.hashes[-1] if part.hashes else found.last
        at = end
        if progress is not None:
            progress(at)
    return found


def _small(leaves: list[bytes]) -> list[bytes]:
    frontier = Frontier()
    for each in leaves:
        frontier.add(each)
    return frontier.hashes


def sweep_all(
    volume: AgentFS,
    rows: Range,
    sizes: list[int],
    progress: Progress | None = None,
    processes: int | None = None,
) -> list[Swept]:
    """Check rows with as many processes as there are processors and as it is worth."""
    ranges = _split(volume, rows, processes or _processes(rows.until - rows.since))
    workers = [_start(volume.path, each, sizes) for each in ranges[1:]]
    try:
        found = [sweep(volume, ranges[0], sizes, progress)]
        for worker in workers:
            said, failed = worker.communicate()
            if worker.returncode:
                raise StorageError(f"a process that checks the journal failed: {failed.strip()}")
            found.append(Swept.from_json(json.loads(said)))
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.communicate()
    return found


def _processes(rows: int) -> int:
    return max(1, min(os.cpu_count() or 1, rows // _WORTH_A_PROCESS, 8))


def _split(volume: AgentFS, rows: Range, count: int) -> list[Range]:
    """Cut a range at full tiles; the hash before each part is the one that its row has."""
    # This process works while the others start.
    head_start = _HEAD_START if rows.until - rows.since > count * _HEAD_START else 0
    share = -(-(rows.until - rows.since + (count - 1) * head_start) // count)
    since, until = rows.since, min(rows.since + share + -share % TILE, rows.until)
    ranges = [Range(rows.base, since, until, rows.previous)]
    width = max(share - head_start, 1)
    width += -width % TILE
    while until < rows.until:
        since, until = until, min(until + width, rows.until)
        ranges.append(Range(rows.base, since, until, _stored(volume, since)))
    return ranges


def _stored(volume: AgentFS, seq: int) -> bytes:
    """Return the hash that a row has; the range before checks that it is right."""
    return TreeStore(volume).row_hash(seq) or b""


def _start(path: Path, rows: Range, sizes: list[int]) -> subprocess.Popen[str]:
    inside = [size for size in sizes if rows.since < rows.base + size <= rows.until]
    task = {
        "path": str(path), "base": rows.base, "since": rows.since, "until": rows.until,
        "previous": rows.previous.hex(), "sizes": inside,
    }  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "fmos.audit.sweep"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(task))
    worker.stdin.close()
    worker.stdin = None
    return worker


def _work() -> None:
    """Do the task on standard input, and write what was found to standard output."""
    task = json.load(sys.stdin)
    rows = Range(task["base"], task["since"], task["until"], bytes.fromhex(task["previous"]))
    with AgentFS.open(task["path"], system=True, read_only=True) as volume, volume.reading():
        json.dump(sweep(volume, rows, task["sizes"]).to_json(), sys.stdout)


if __name__ == "__main__":
    _work()
