"""The Merkle tree of RFC 9162, section 2.1: roots, proofs, and their verification.

Knows hashes only: what the leaves are, and where hashes of subtrees are kept, is for the callers.
A subtree of level `l` and index `i` covers the leaves from `i << l` up to `(i + 1) << l`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from fmos.errors import ArgumentError

#: The root of the tree without leaves.
EMPTY_ROOT = sha256(b"").digest()

_LEAF, _NODE = b"\x00", b"\x01"

Subtree = Callable[[int, int], bytes]
"""Returns the hash of the full subtree of a level and an index."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(_LEAF + data).digest()


def leaf_hashes(data: Iterable[bytes]) -> list[bytes]:
    """Return the hashes of many leaves; a call for each would cost as much as the hash."""
    return [sha256(_LEAF + each).digest() for each in data]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over its two children."""
    return sha256(_NODE + left + right).digest()


def full_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over so many hashes of one level as a power of two."""
    level = hashes
    while len(level) > 1:
        level = [
            sha256(_NODE + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=True)
        ]
    return level[0]


class Frontier:
    """The full subtrees that a tree of some size is made of, the largest first.

    Adding a leaf costs about one hash more on average, whatever the size of the tree.
    """

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            raise ArgumentError(f"a tree of {size} leaves has {size.bit_count()} full subtrees")

    def copy(self) -> Frontier:
        """Return a frontier that grows apart from this one."""
        return Frontier(self.size, self.hashes)

    def add(self, hashed: bytes, level: int = 0) -> None:
        """Append a full subtree of a level; the tree must be a whole number of these.

        Raises:
            ArgumentError: if it is not.
        """
        size = self.size
        if size & ((1 << level) - 1):
            raise ArgumentError(f"a subtree of level {level} cannot follow {size} leaves")
        rest = size >> level
        while rest & 1:
            hashed = sha256(b"\x01" + self.hashes.pop() + hashed).digest()
            rest >>= 1
        self.hashes.append(hashed)
        self.size = size + (1 << level)

    def root(self) -> bytes:
        """Return the root of the tree as it is now."""
        if not self.hashes:
            return EMPTY_ROOT
        found = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            found = node_hash(left, found)
        return found


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over the hashes of leaves."""
    frontier = Frontier()
    for each in leaves:
        frontier.add(each)
    return frontier.root()


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the path of a leaf in the tree of `size` leaves, from the leaf upwards.

    Raises:
        ArgumentError: if the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ArgumentError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_hash(middle, end, subtree))
            end = middle
        else:
            path.append(_range_hash(start, middle, subtree))
            start = middle
    path.reverse()
    return path


def consistency_proof(first: int, second: int, subtree: Subtree) -> list[bytes]:
    """Return what shows that the tree of `first` leaves is the beginning of that of `second`.

    Raises:
        ArgumentError: if the sizes are not 0 < first <= second.
    """
    if not 0 < first <= second:
        raise ArgumentError(f"there is no consistency proof from {first} to {second} leaves")
    proof: list[bytes] = []
    start, end, whole = 0, second, True
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            proof.append(_range_hash(middle, end, subtree))
            end = middle
        else:
            proof.append(_range_hash(start, middle, subtree))
            start, whole = middle, False
    if not whole:
        proof.append(_range_hash(start, end, subtree))
    proof.reverse()
    return proof


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Return whether the leaf of this hash is at `index` of the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for each in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(each, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, each)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether the first tree is the beginning of the second (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        return False
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    older = newer = path[0]
    for each in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            older, newer = node_hash(each, older), node_hash(each, newer)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            newer = node_hash(newer, each)
        at, last = at >> 1, last >> 1
    return last == 0 and older == first_root and newer == second_root


def _split(size: int) -> int:
    """Return the largest power of two below a size of at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_hash(start: int, end: int, subtree: Subtree) -> bytes:
    """Return the hash over the leaves of a range as the tree is split."""
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtree(level, start >> level)
    middle = start + _split(size)
    return node_hash(_range_hash(start, middle, subtree), _range_hash(middle, end, subtree))
