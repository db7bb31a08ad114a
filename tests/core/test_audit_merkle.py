"""The Merkle tree gives the published roots and proofs, and verifies these and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmos.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    full_root,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from fmos.errors import ArgumentError

# The reference vectors of google/certificate-transparency, which Trillian's tests use as well.
_LEAVES = [
    leaf_hash(bytes.fromhex(text))
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
_A = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
_B = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
_C = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
_D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
_E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
_F = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
_G = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
_PATHS = [(0, 8, [_C, _A, _B]), (5, 8, [_D, _E, _F]), (2, 3, [_ROOTS[1]])]
_PROOFS = [(1, 1, []), (1, 8, [_C, _A, _B]), (6, 8, [_G, _E, _F]), (2, 5, [_A, _D])]


def _subtree(leaves: list[bytes]) -> Callable[[int, int], bytes]:
    return lambda level, index: full_root(leaves[index << level : (index + 1) << level])


def _hex(hashes: list[bytes]) -> list[str]:
    return [each.hex() for each in hashes]


def _some(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


def test_roots_are_those_of_the_reference() -> None:
    """Each size of the reference tree has its published root, and the empty tree its own."""
    assert EMPTY_ROOT == sha256().digest() == Frontier().root()
    assert [root_of(_LEAVES[: n + 1]).hex() for n in range(8)] == _ROOTS


@pytest.mark.parametrize(("index", "size", "path"), _PATHS)
def test_inclusion_proofs_are_those_of_the_reference(
    index: int, size: int, path: list[str]
) -> None:
    """The published audit paths come out, and lead to the published roots."""
    proof = inclusion_proof(index, size, _subtree(_LEAVES))
    assert _hex(proof) == path
    assert verify_inclusion(_LEAVES[index], index, size, proof, bytes.fromhex(_ROOTS[size - 1]))


@pytest.mark.parametrize(("first", "second", "wanted"), _PROOFS)
def test_consistency_proofs_are_those_of_the_reference(
    first: int, second: int, wanted: list[str]
) -> None:
    """The published consistency proofs come out, and hold between the published roots."""
    proof = consistency_proof(first, second, _subtree(_LEAVES))
    roots = [bytes.fromhex(_ROOTS[size - 1]) for size in (first, second)]
    assert _hex(proof) == wanted
    assert verify_consistency(first, roots[0], second, roots[1], proof)


def test_every_proof_of_every_small_tree_verifies() -> None:
    """Every leaf of every size up to 40, and every pair of sizes, has a proof that holds."""
    leaves = _some(40)
    subtree = _subtree(leaves)
    roots = [root_of(leaves[:size]) for size in range(41)]
    for size in range(1, 41):
        for index in range(size):
            proof = inclusion_proof(index, size, subtree)
            assert verify_inclusion(leaves[index], index, size, proof, roots[size])
        for first in range(1, size + 1):
            proof = consistency_proof(first, size, subtree)
            assert verify_consistency(first, roots[first], size, roots[size], proof)


@settings(max_examples=70, deadline=None)
@given(st.integers(1, 130), st.data())
def test_no_changed_inclusion_proof_verifies(size: int, data: st.DataObject) -> None:
    """One changed bit, a hash more or less, or another place or size makes a proof fail."""
    leaves = _some(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(index, size, _subtree(leaves)), root_of(leaves)
    assert verify_inclusion(leaves[index], index, size, proof, root)
    for number in range(len(proof)):
        changed = [*proof[:number], _flipped(proof[number], data), *proof[number + 1 :]]
        assert not verify_inclusion(leaves[index], index, size, changed, root)
    assert not verify_inclusion(_flipped(leaves[index], data), index, size, proof, root)
    assert not verify_inclusion(leaves[index], index, size, proof, _flipped(root, data))
    assert not verify_inclusion(leaves[index], index, size, [*proof, root], root)
    if proof:
        assert not verify_inclusion(leaves[index], index, size, proof[:-1], root)
    for wrong in {index - 1, index + 1, size, -1} - {index}:
        assert not verify_inclusion(leaves[index], wrong, size, proof, root)


@settings(max_examples=70, deadline=None)
@given(st.integers(2, 130), st.data())
def test_no_changed_consistency_proof_verifies(size: int, data: st.DataObject) -> None:
    """One changed bit, a hash more or less, or another first size makes a proof fail."""
    leaves = _some(size)
    first = data.draw(st.integers(1, size - 1))
    proof = consistency_proof(first, size, _subtree(leaves))
    roots = root_of(leaves[:first]), root_of(leaves)
    assert verify_consistency(first, roots[0], size, roots[1], proof)
    for number in range(len(proof)):
        changed = [*proof[:number], _flipped(proof[number], data), *proof[number + 1 :]]
        assert not verify_consistency(first, roots[0], size, roots[1], changed)
    assert not verify_consistency(first, _flipped(roots[0], data), size, roots[1], proof)
    assert not verify_consistency(first, roots[0], size, _flipped(roots[1], data), proof)
    assert not verify_consistency(first, roots[0], size, roots[1], [*proof, roots[0]])
    assert not verify_consistency(first, roots[0], size, roots[1], proof[:-1])
    assert not verify_consistency(0, EMPTY_ROOT, size, roots[1], proof)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 600), st.integers(0, 8))
def test_a_frontier_grows_by_leaves_and_by_subtrees_alike(size: int, level: int) -> None:
    """A tree that begins with whole subtrees has the same root, also after it was kept as bytes."""
    leaves = _some(size)
    frontier, width = Frontier(), 1 << level
    whole = size - size % width
    for start in range(0, whole, width):
        frontier.add(full_root(leaves[start : start + width]), level)
    frontier = Frontier(frontier.size, frontier.hashes)
    for each in leaves[whole:]:
        frontier.add(each)
    assert frontier.size == size
    assert frontier.root() == root_of(leaves)


def test_what_no_tree_can_be_is_refused() -> None:
    """A subtree in the wrong place, a leaf beyond the end and impossible sizes are errors."""
    with pytest.raises(ArgumentError, match="cannot follow 1"):
        Frontier(1, [bytes(32)]).add(bytes(32), level=1)
    with pytest.raises(ArgumentError, match="has 2 full subtrees"):
        Frontier(3, [bytes(32)])
    with pytest.raises(ArgumentError, match="no leaf 8"):
        inclusion_proof(8, 8, _subtree(_LEAVES))
    with pytest.raises(ArgumentError, match="from 0 to 8"):
        consistency_proof(0, 8, _subtree(_LEAVES))


def _flipped(hashed: bytes, data: st.DataObject) -> bytes:
    """Change one bit, at a place that the seed of the example decides."""
    bit = random.Random(data.draw(st.integers(0, 1 << 30))).randrange(256)
    return (int.from_bytes(hashed, "big") ^ (1 << bit)).to_bytes(32, "big")
