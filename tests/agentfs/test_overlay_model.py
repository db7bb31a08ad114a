"""Random work on an overlay agrees with the same work on a plain copy, and the host stays as it is.

`AGENTFS_SOAK` makes the runs longer.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agentfs.hosttree import seen

from agentfs import AgentFS

SOAK = bool(os.environ.get("AGENTFS_SOAK"))
STEPS, SEEDS = (120, 150) if SOAK else (60, 5)
NAMES = ["a", "b", "c", "d", "é", "new\nline", os.fsdecode(b"\xff")]
SIZES = [0, 3, 4096, 4097, 70_000]
Found = dict[str, tuple[object, ...]]


def make_host(root: Path, chance: random.Random) -> None:
    """Make a random host tree with files, directories, symbolic links and hard links."""
    directories = [root]
    root.mkdir()
    for _ in range(chance.randint(5, 40)):
        path = chance.choice(directories) / chance.choice(NAMES)
        if os.path.lexists(path):
            continue
        kind = chance.random()
        if kind < 0.35:
            path.mkdir()
            directories.append(path)
        elif kind < 0.45:
            path.symlink_to(chance.choice(NAMES))
        else:
            path.write_bytes(chance.randbytes(chance.choice(SIZES)))
            path.chmod(chance.choice([0o644, 0o755, 0o600]))
    big = chance.choice(directories) / "many"
    big.mkdir()
    for number in range(chance.choice([1, 130])):
        (big / f"f{number}").write_bytes(b"%d" % number)


def on_disk(root: Path) -> Found:
    """Return what is below a directory of the host: kinds, modes, bytes, targets."""
    found: Found = {}
    waiting = [str(root)]
    while waiting:
        here = waiting.pop()
        for name in os.listdir(here):
            path = os.path.join(here, name)
            info = os.lstat(path)
            shown = path[len(str(root)) :]
            if stat.S_ISLNK(info.st_mode):
                found[shown] = ("symlink", os.readlink(path))
            elif stat.S_ISDIR(info.st_mode):
                found[shown] = ("directory", stat.S_IMODE(info.st_mode))
                waiting.append(path)
            else:
                body = Path(path).read_bytes()
                found[shown] = ("file", stat.S_IMODE(info.st_mode), body, info.st_nlink)
    return found


def in_volume(fs: AgentFS, top: str) -> Found:
    """Return what is below a directory of a volume, in the same form; "" is the root."""
    found: Found = {}
    waiting = [top or "/"]
    while waiting:
        for entry in fs.scandir(waiting.pop()):
            shown = entry.path[len(top) :]
            if entry.stat.kind == "symlink":
                found[shown] = ("symlink", fs.readlink(entry.path))
            elif entry.stat.is_dir:
                found[shown] = ("directory", entry.stat.mode)
                waiting.append(entry.path)
            else:
                body = fs.read(entry.path)
                found[shown] = ("file", entry.stat.mode, body, entry.stat.links)
    return found


class Pair:
    """A branch over a host directory, and a plain copy of that directory."""

    def __init__(self, fs: AgentFS, top: str, plain: Path, chance: random.Random) -> None:
        """Begin with equal trees; `top` is the overlay's place, "" at the root."""
        self.fs = fs
        self.top = top
        self.plain = plain
        self.chance = chance

    def path(self) -> str:
        """Return a random path: of something that is there, or beside it."""
        here, path = self.plain, ""
        while True:
            names = sorted(os.listdir(here))
            name = self.chance.choice(names if names and self.chance.random() < 0.7 else NAMES)
            path, here = f"{path}/{name}", here / name
            is_directory = here.is_dir() and not here.is_symlink()
            if not is_directory or self.chance.random() < 0.4:
                return path

    def step(self) -> str:
        """Do one random thing on both sides; both succeed, or neither does."""
        name = self.chance.choice(list(ACTIONS))
        ours, theirs, told = ACTIONS[name](self)
        outcomes: list[str] = []
        for act in (ours, theirs):
            try:
                act()
                outcomes.append("done")
            except OSError as error:
                outcomes.append("refused")
                told += f" [{error}]"
        assert outcomes[0] == outcomes[1], (name, told, outcomes)
        return f"{name} {told} {outcomes[0]}"


Acts = tuple[Callable[[], object], Callable[[], object], str]


def opened(path: Path, mode: str, data: bytes, at: int | None = None) -> None:
    """Write to a plain file; a new one has the mode that a volume gives it."""
    is_new = not path.exists()
    with open(path, mode) as file:
        if at is not None:
            file.seek(at)
        file.write(data)
    if is_new:
        path.chmod(0o644)


def in_volume_at(fs: AgentFS, path: str, data: bytes, at: int) -> None:
    """Write at an offset through a file object."""
    with fs.open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def write(pair: Pair) -> Acts:
    """Replace or make a file."""
    path, data = pair.path(), pair.chance.randbytes(pair.chance.choice(SIZES))
    ours = lambda: pair.fs.write(pair.top + path, data)  # noqa: E731
    return ours, lambda: opened(at(pair, path), "wb", data), path


def append(pair: Pair) -> Acts:
    """Add to a file or make it."""
    path, data = pair.path(), pair.chance.randbytes(pair.chance.choice(SIZES))
    ours = lambda: pair.fs.append(pair.top + path, data)  # noqa: E731
    return ours, lambda: opened(at(pair, path), "ab", data), path


def edit(pair: Pair) -> Acts:
    """Write inside a file."""
    path, data, offset = pair.path(), pair.chance.randbytes(9), pair.chance.choice([0, 5, 5000])
    ours = lambda: in_volume_at(pair.fs, pair.top + path, data, offset)  # noqa: E731
    return ours, lambda: opened(at(pair, path), "r+b", data, offset), path


def truncate(pair: Pair) -> Acts:
    """Cut or extend a file."""
    path, size = pair.path(), pair.chance.choice(SIZES)
    ours = lambda: pair.fs.truncate(pair.top + path, size)  # noqa: E731
    return ours, lambda: os.truncate(at(pair, path), size), path


def mkdir(pair: Pair) -> Acts:
    """Make a directory; through a dangling link agentfs makes what the link leads to."""
    path = pair.path()
    if at(pair, path).is_symlink():
        return stat_of(pair)
    return lambda: pair.fs.mkdir(pair.top + path), lambda: at(pair, path).mkdir(0o755), path


def rmdir(pair: Pair) -> Acts:
    """Remove an empty directory."""
    path = pair.path()
    return lambda: pair.fs.rmdir(pair.top + path), lambda: at(pair, path).rmdir(), path


def remove(pair: Pair) -> Acts:
    """Remove a file or link."""
    path = pair.path()
    return lambda: pair.fs.remove(pair.top + path), lambda: at(pair, path).unlink(), path


def remove_tree(pair: Pair) -> Acts:
    """Remove a directory and all below it, now and then."""
    path = pair.path()
    real = at(pair, path)
    if real.is_symlink() or not real.is_dir() or pair.chance.random() < 0.7:
        return stat_of(pair)
    return lambda: pair.fs.remove(pair.top + path, True), lambda: shutil.rmtree(real), path


def rename(pair: Pair) -> Acts:
    """Move a name."""
    source, target = pair.path(), pair.path()
    ours = lambda: pair.fs.rename(pair.top + source, pair.top + target)  # noqa: E731
    theirs = lambda: os.rename(at(pair, source), at(pair, target))  # noqa: E731
    return ours, theirs, f"{source} {target}"


def copy(pair: Pair) -> Acts:
    """Copy a file, or a directory without hard links, to a new name."""
    source, target = pair.path(), pair.path()
    one, other = at(pair, source), at(pair, target)
    shared = any(each[0] == "file" and each[3] != 1 for each in on_disk(one).values()) \
        if one.is_dir() else False  # fmt: skip
    inside = f"{other}/".startswith(f"{one}/")
    if one.is_symlink() or os.path.lexists(other) or shared or inside or not one.exists():
        return stat_of(pair)
    ours = lambda: pair.fs.copy(pair.top + source, pair.top + target)  # noqa: E731
    theirs = lambda: shutil.copytree(one, other, symlinks=True)  # noqa: E731
    if one.is_file():
        theirs = lambda: shutil.copy2(one, other)  # noqa: E731
    return ours, theirs, f"{source} {target}"


def link(pair: Pair) -> Acts:
    """Give a file one more name."""
    source, target = pair.path(), pair.path()
    if at(pair, source).is_symlink():
        return stat_of(pair)
    ours = lambda: pair.fs.link(pair.top + source, pair.top + target)  # noqa: E731
    return ours, lambda: os.link(at(pair, source), at(pair, target)), f"{source} {target}"


def symlink(pair: Pair) -> Acts:
    """Make a link to a name in the same directory."""
    path, target = pair.path(), pair.chance.choice(NAMES)
    ours = lambda: pair.fs.symlink(target, pair.top + path)  # noqa: E731
    return ours, lambda: os.symlink(target, at(pair, path)), path


def chmod(pair: Pair) -> Acts:
    """Set permission bits."""
    path, mode = pair.path(), pair.chance.choice([0o700, 0o755, 0o777])
    return lambda: pair.fs.chmod(pair.top + path, mode), lambda: at(pair, path).chmod(mode), path


def stat_of(pair: Pair) -> Acts:
    """Look at what is there."""
    path = pair.path()
    return lambda: pair.fs.stat(pair.top + path), lambda: at(pair, path).stat(), path


def read(pair: Pair) -> Acts:
    """Read a file."""
    path = pair.path()
    return lambda: pair.fs.read(pair.top + path), lambda: at(pair, path).read_bytes(), path


def listdir(pair: Pair) -> Acts:
    """List a directory."""
    path = pair.path()
    return lambda: pair.fs.listdir(pair.top + path), lambda: os.listdir(at(pair, path)), path


ACTIONS: dict[str, Callable[[Pair], Acts]] = {
    each.__name__: each
    for each in (
        write, append, edit, truncate, mkdir, rmdir, remove, remove_tree, rename, copy, link,
        symlink, chmod, stat_of, read, listdir,
    )
}  # fmt: skip


def at(pair: Pair, path: str) -> Path:
    """Return the plain copy's path."""
    return pair.plain / path.lstrip("/")


def clone(source: Path, target: Path) -> Path:
    """Copy a tree with its links, hard ones too."""
    subprocess.run(["cp", "-a", source, target], check=True)
    return target


def changes(before: Found, after: Found) -> set[tuple[str, str]]:
    """Return the kinds and paths of what a comparison of two trees must report."""
    found: set[tuple[str, str]] = set()
    for path in before.keys() | after.keys():
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            found.add(("added" if old is None else "removed", path))
        elif old[0] != new[0]:
            found.add(("type", path))
        elif old[0] == "symlink" or old[0] == "file":
            if old[-1 if old[0] == "symlink" else 2] != new[-1 if new[0] == "symlink" else 2]:
                found.add(("modified", path))
            elif old[0] == "file" and old[1] != new[1]:
                found.add(("mode", path))
        elif old[1] != new[1]:
            found.add(("mode", path))
    return found


def run(tmp_path: Path, seed: int) -> None:
    """Do random work on both sides; compare now and then, and everything at the end."""
    chance = random.Random(seed)
    host = tmp_path / "host"
    make_host(host, chance)
    untouched, base = seen(host), on_disk(host)
    kept: dict[str, Path] = {}
    with AgentFS.open(tmp_path / "a.afs") as fs:
        top = chance.choice(["", "/p", "/p/q"])
        fs.overlay(host, top or "/")
        pair = Pair(fs, top, clone(host, tmp_path / "plain"), chance)
        done: list[str] = []
        for number in range(STEPS):
            action = chance.random()
            if action < 0.03:
                wrecked = fs.fork(f"wreck{number}")
                Wrecker(wrecked, top, pair.plain, chance).wreck()
                fs.delete_branch(wrecked.branch)
            elif action < 0.06:
                pair.fs.snapshot(f"s{number}")
                kept[f"s{number}"] = clone(pair.plain, tmp_path / f"s{number}")
            elif action < 0.09 and kept:
                name = chance.choice(sorted(kept))
                pair.fs.restore(name)
                shutil.rmtree(pair.plain)
                clone(kept[name], pair.plain)
            elif action < 0.11:
                pair.fs = pair.fs.fork(f"b{number}")
            elif action < 0.13:
                fs.gc(retention=0)
            elif action < 0.2:
                assert in_volume(pair.fs, top) == on_disk(pair.plain), (seed, done)
            else:
                done.append(pair.step())
        assert in_volume(pair.fs, top) == on_disk(pair.plain), (seed, done)
        for name, copied in kept.items():
            assert in_volume(fs.at(name), top) == on_disk(copied), (seed, name)
        reported = {(each.kind, each.path[len(top) :]) for each in pair.fs.host_diff()}
        assert reported == changes(base, on_disk(pair.plain)), (seed, done)
        assert fs.fsck(read_data=True) == []
    assert seen(host) == untouched


class Wrecker(Pair):
    """Does random work on a branch only."""

    def wreck(self) -> None:
        """Try many things; what is refused does not matter."""
        for _ in range(15):
            ours, _, _ = self.chance.choice(list(ACTIONS.values()))(self)
            try:
                ours()
            except OSError:
                continue


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_work_agrees_with_a_plain_copy(tmp_path: Path, seed: int) -> None:
    """Each call succeeds on both or neither; trees, snapshots and differences agree."""
    run(tmp_path, seed)
