"""The bytes and names that every side of a benchmark works on; needs the standard library only."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

PER_DIRECTORY = 1000
KIB, MIB = 1 << 10, 1 << 20
_MIX = ((4 * KIB, 60), (32 * KIB, 25), (256 * KIB, 12), (4 * MIB, 3))


class Edit(NamedTuple):
    """Some bytes to put over what a file has at an offset."""

    name: str
    offset: int
    data: bytes


def contents(count: int, size: int, seed: int) -> list[bytes]:
    """Return incompressible contents; the same seed gives the same bytes in every process."""
    source = random.Random(seed)
    return [source.randbytes(size) for _ in range(count)]


def mixed_sizes(hundreds: int) -> list[int]:
    """Return the sizes of a tree of mixed files, 16 MiB in each hundred files, shuffled."""
    sizes = [size for size, count in _MIX for _ in range(count)] * hundreds
    random.Random(1).shuffle(sizes)
    return sizes


def edits(sizes: list[int], count: int, length: int, seed: int) -> list[Edit]:
    """Return edits at random places of different random files, `f00000` and so on."""
    source = random.Random(seed)
    found: list[Edit] = []
    for index in source.sample(range(len(sizes)), count):
        offset = source.randrange(sizes[index] - length + 1)
        found.append(Edit(f"f{index:05d}", offset, source.randbytes(length)))
    return found


def apply(open_file: Callable[[str], IO[bytes]], changes: list[Edit]) -> None:
    """Make edits through file objects."""
    for each in changes:
        with open_file(each.name) as file:
            file.seek(each.offset)
            file.write(each.data)


def apply_to_host(root: Path, changes: list[Edit]) -> None:
    """Make edits in plain files."""

    def opened(name: str) -> IO[bytes]:
        return open(root / name, "r+b")

    apply(opened, changes)


def write_host(root: Path, data: list[bytes], sync: bool = False) -> None:
    """Write plain files, each with or without fsync of its data."""
    for index, each in enumerate(data):
        with open(root / f"f{index}", "wb") as file:
            file.write(each)
            if sync:
                file.flush()
                os.fsync(file.fileno())


def tree_path(index: int) -> tuple[str, str]:
    """Return the directory and the name of a file in a tree of 1,000 files a directory."""
    return f"d{index // PER_DIRECTORY:04d}", f"f{index:07d}"


def host_tree(root: Path, count: int, size: int, seed: int) -> None:
    """Write a tree of plain files, without syncing them."""
    source = random.Random(seed)
    for index in range(count):
        directory, name = tree_path(index)
        if index % PER_DIRECTORY == 0:
            (root / directory).mkdir(parents=True)
        (root / directory / name).write_bytes(source.randbytes(size))


def disk_bytes(root: Path) -> int:
    """Return the bytes of all files at or below a path."""
    if root.is_file():
        return root.stat().st_size
    return sum(each.stat().st_size for each in root.rglob("*") if each.is_file())
