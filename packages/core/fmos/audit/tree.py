"""Keeps the Merkle tree over a volume's journal, in tables of the volume.

The tree's leaves are the hashes of journal rows. They are kept in tiles of 256, as in C2SP
tlog-tiles, also of rows that retention let go: 32 bytes a row stay, and with them every proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from agentfs import AgentFS
from fmos.audit.merkle import Frontier, full_root, leaf_hashes
from fmos.errors import FormatError

TILE = 256
#: Levels of the tree in one level of tiles.
TILE_LEVELS = 8
HASH = 32

_VOLUME_ID = "SELECT value FROM meta WHERE key = 'volume_id'"
_TREE = "SELECT base, chain, size, last, frontier FROM ext_audit_tree ORDER BY base DESC LIMIT 1"
_PUT_TREE = (
    "INSERT OR REPLACE INTO ext_audit_tree(base, chain, size, last, frontier)"
    " VALUES (?, ?, ?, ?, ?)"
)
_TILE = "SELECT hashes FROM ext_audit_tile WHERE base = ? AND level = ? AND number = ?"
_PUT_TILE = "INSERT OR REPLACE INTO ext_audit_tile(base, level, number, hashes) VALUES (?, ?, ?, ?)"
_NOTES = "SELECT note FROM ext_audit_checkpoint ORDER BY base, size"
_NOTES_AFTER = (
    "SELECT note FROM ext_audit_checkpoint WHERE (base, size) > (?, ?) ORDER BY base, size"
)
_LAST_NOTE = "SELECT note FROM ext_audit_checkpoint ORDER BY base DESC, size DESC LIMIT 1"
_NOTE_OVER = (
    "SELECT note FROM ext_audit_checkpoint WHERE base < ? AND base + size >= ?"
    " ORDER BY base, size LIMIT 1"
)
_PUT_NOTE = (
    "INSERT INTO ext_audit_checkpoint(base, size, time_ns, key, note) VALUES (?, ?, ?, ?, ?)"
)
_HEAD = "SELECT coalesce(max(seq), 0) FROM journal"
_ROW_HASH = "SELECT hash FROM journal WHERE seq = ?"
_ROWS_OF = (
    "SELECT seq FROM journal WHERE instr(detail, ?1) AND json_extract(detail, '$.id') = ?1"
    " ORDER BY seq"
)
_TIME_AFTER = "SELECT time_ns FROM journal WHERE seq > ? ORDER BY seq LIMIT 1"


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree as it is kept: its rows are those after `base`, and `last` is the hash of the last."""

    base: int
    chain: bytes
    size: int
    last: bytes
    frontier: Frontier

    @property
    def seq(self) -> int:
        """The number of the last row in it."""
        return self.base + self.size


class TreeStore:
    """The trees, tiles and checkpoints of one volume. Writing needs an open transaction."""

    def __init__(self, volume: AgentFS) -> None:
        self._tables = volume.extension(
            "audit", resources.files("fmos.audit").joinpath("tree.sql").read_text(encoding="utf-8")
        )

    @property
    def origin(self) -> str:
        """The name of this volume's log in checkpoints."""
        return f"fmos/{self._tables.query(_VOLUME_ID)[0][0]}"

    def tree(self) -> Tree | None:
        """Return the tree that grows, or None before the first row was taken in."""
        rows = self._tables.query(_TREE)
        if not rows:
            return None
        base, chain, size, last, kept = rows[0]
        return Tree(base, chain, size, last, Frontier(size, _pieces(kept)))

    def begin(self, base: int, chain: bytes) -> Tree:
        """Begin a tree after a row."""
        tree = Tree(base, chain, 0, chain, Frontier())
        self._put(tree)
        return tree

    def grow(self, tree: Tree, rows: Sequence[bytes]) -> Tree:
        """Take in the hashes of the rows that follow, and return the tree as it is then."""
        leaves = leaf_hashes(rows)
        frontier = tree.frontier.copy()
        for each in leaves:
            frontier.add(each)
        self._append(tree.base, 0, tree.size, leaves)
        last = rows[-1] if rows else tree.last
        grown = Tree(tree.base, tree.chain, tree.size + len(leaves), last, frontier)
        self._put(grown)
        return grown

    def _put(self, tree: Tree) -> None:
        kept = b"".join(tree.frontier.hashes)
        self._tables.execute(_PUT_TREE, (tree.base, tree.chain, tree.size, tree.last, kept))

    def _append(self, base: int, level: int, count: int, hashes: Sequence[bytes]) -> None:
        """Write hashes after the first `count` of a level, and the roots of tiles that are full."""
        full: list[bytes] = []
        first = count // TILE
        held = self.tile(base, level, first)[: count % TILE] if count % TILE else []
        waiting = [*held, *hashes]
        for start in range(0, len(waiting), TILE):
            tile = waiting[start : start + TILE]
            number = first + start // TILE
            self._tables.execute(_PUT_TILE, (base, level, number, b"".join(tile)))
            if len(tile) == TILE:
                full.append(full_root(tile))
        if full:
            self._append(base, level + 1, first, full)

    def tile(self, base: int, level: int, number: int) -> list[bytes]:
        """Return the hashes of a tile.

        Raises:
            FormatError: if it is missing.
        """
        rows = self._tables.query(_TILE, (base, level, number))
        if not rows:
            raise FormatError(
                f"tile {number} of level {level} of the audit tree is missing",
                hint="restore the volume from a backup",
            )
        return _pieces(rows[0][0])

    def subtree(self, base: int, level: int, index: int) -> bytes:
        """Return the hash of a full subtree.

        Raises:
            FormatError: if the tiles do not hold it.
        """
        above, below = divmod(level, TILE_LEVELS)
        start = index << below
        tile = self.tile(base, above, start // TILE)
        hashes = tile[start % TILE : start % TILE + (1 << below)]
        if len(hashes) != 1 << below:
            raise FormatError(
                f"tile {start // TILE} of level {above} of the audit tree is cut short",
                hint="restore the volume from a backup",
            )
        return full_root(hashes)

    def frontier(self, base: int, size: int) -> Frontier:
        """Return what the tree was made of when it had `size` rows, from the tiles.

        Raises:
            FormatError: if the tiles do not hold it.
        """
        found = Frontier()
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                found.add(self.subtree(base, level, found.size >> level), level)
        return found

    def add(self, base: int, size: int, time_ns: int, key: int, note: str) -> None:
        """Keep a checkpoint."""
        self._tables.execute(_PUT_NOTE, (base, size, time_ns, key, note))

    def notes(self) -> list[str]:
        """Return all checkpoints, in the order of their rows."""
        return [note for (note,) in self._tables.query(_NOTES)]

    def notes_after(self, base: int, size: int) -> list[str]:
        """Return the checkpoints after one, in the order of their rows."""
        return [note for (note,) in self._tables.query(_NOTES_AFTER, (base, size))]

    def last_note(self) -> str | None:
        """Return the newest checkpoint."""
        rows = self._tables.query(_LAST_NOTE)
        return rows[0][0] if rows else None

    def note_over(self, seq: int) -> str | None:
        """Return the first checkpoint that covers a row."""
        rows = self._tables.query(_NOTE_OVER, (seq, seq))
        return rows[0][0] if rows else None

    def head(self) -> int:
        """Return the number of the journal's newest row, or 0 where there is none."""
        return self._tables.query(_HEAD)[0][0]

    def row_hash(self, seq: int) -> bytes | None:
        """Return the hash that a journal row has, right or wrong."""
        rows = self._tables.query(_ROW_HASH, (seq,))
        return rows[0][0] if rows else None

    def rows_of(self, operation: str) -> list[int]:
        """Return the numbers of the rows of an operation."""
        return [seq for (seq,) in self._tables.query(_ROWS_OF, (operation,))]

    def time_after(self, seq: int) -> int | None:
        """Return when the row after a number was written."""
        rows = self._tables.query(_TIME_AFTER, (seq,))
        return rows[0][0] if rows else None


def late_tree(base: int, start: int) -> str:
    """Say that a tree leaves out rows that the journal has."""
    return (
        f"the audit tree begins after row {base}, but the journal after row {start}: the tree's"
        " table was changed"
    )


def _pieces(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH] for at in range(0, len(hashes), HASH)]
