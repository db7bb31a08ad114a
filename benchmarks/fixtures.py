"""Trees that benchmarks begin with; the large ones are built once for each state of the engine."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import agentfs
import peers
from agentfs import AgentFS
from harness import CACHE
from work import PER_DIRECTORY, host_tree, tree_path

_BATCH = 2000
_SMALL_DIRECTORY = 100
TREE_BYTES = 1 << 30


def volume(target: Path, files: int, size: int) -> Path:
    """Put a closed volume with a tree of `files` files below `/tree` at `target`."""
    kept = _home() / f"tree-{files}-{size}.afs"
    if not kept.exists():
        making = kept.with_suffix(".making")
        for suffix in ("", "-wal", "-shm"):
            making.with_name(making.name + suffix).unlink(missing_ok=True)
        with AgentFS.open(making) as fs:
            fs.mkdir("/tree")
            fill(fs, "/tree", 0, files, size)
        os.replace(making, kept)
    shutil.copyfile(kept, target)
    return target


def fill(fs: AgentFS, root: str, first: int, end: int, size: int) -> None:
    """Write the files `first` to `end` of a tree, many in one transaction."""
    source = random.Random(first)
    for begin in range(first, end, _BATCH):
        with fs.transaction():
            for index in range(begin, min(begin + _BATCH, end)):
                directory, name = tree_path(index)
                if index % PER_DIRECTORY == 0 or index == first:
                    fs.mkdir(f"{root}/{directory}", exist_ok=True)
                fs.write(f"{root}/{directory}/{name}", source.randbytes(size))


def small_path(index: int) -> tuple[str, str]:
    """Return a file's directory and path: at most a hundred entries in each directory."""
    number = index // _SMALL_DIRECTORY
    directory = f"tree/d{number // 100:03d}/e{number % 100:02d}"
    return directory, f"{directory}/f{index % _SMALL_DIRECTORY:02d}"


def add_small(fs: AgentFS, host: Path, first: int, end: int, host_end: int) -> None:
    """Add small files to a volume, and to the host's directory as far as `host_end`."""
    for begin in range(first, end, _BATCH):
        with fs.transaction():
            for index in range(begin, min(begin + _BATCH, end)):
                directory, path = small_path(index)
                if index % _SMALL_DIRECTORY == 0:
                    fs.mkdir(f"/{directory}", parents=True, exist_ok=True)
                fs.write(f"/{path}", f"file {index}")
    for index in range(first, min(end, host_end)):
        directory, path = small_path(index)
        (host / directory).mkdir(parents=True, exist_ok=True)
        (host / path).write_text(f"file {index}", encoding="utf-8")


@contextmanager
def twins(home: Path, files: int, size: int, edited: Sequence[str]) -> Iterator[AgentFS]:
    """Make a volume and a git repository with the same tree, and a branch `edit` of both.

    `home/repository` is the working tree; `edited` names what is new on the branch.
    """
    repository = home / "repository"
    host_tree(repository, files, size, 1)
    with AgentFS.open(home / "ours.afs", durability="full") as fs:
        fs.put_tree(repository, "/tree")
        peers.git_repository(repository, home / "store")
        peers.git(repository, "switch", "-q", "-c", "edit")
        edit = fs.fork("edit")
        for path in edited:
            data = os.urandom(size)
            (repository / path).write_bytes(data)
            edit.write(f"/tree/{path}", data)
        peers.git(repository, "commit", "-q", "-a", "-m", "edit")
        peers.git(repository, "switch", "-q", "main")
        yield fs


def file_bytes(path: Path) -> int:
    """Return the bytes of a volume with its write-ahead log."""
    found = [path, path.with_name(path.name + "-wal")]
    return sum(each.stat().st_size for each in found if each.exists())


def _home() -> Path:
    """Return the folder for volumes of this engine, removing those of other ones."""
    assert agentfs.__file__ is not None
    source = Path(agentfs.__file__).parent
    digest = hashlib.sha256()
    for each in sorted([*source.glob("*.py"), *source.glob("*.sql")]):
        digest.update(each.read_bytes())
    home = CACHE / "fixtures" / digest.hexdigest()[:12]
    if not home.exists():
        shutil.rmtree(home.parent, ignore_errors=True)
        home.mkdir(parents=True)
    return home
