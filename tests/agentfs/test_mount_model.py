"""Random operations on a mount and on a bare directory say and leave the same."""

import os
import random
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentfs import AgentFS
from agentfs.mount import Mounted, unavailable
from agentfs.posix import TYPES

pytestmark = pytest.mark.skipif(
    unavailable() is not None or os.geteuid() != 0, reason="needs root and /dev/fuse"
)
_STEPS = 20_000 if os.environ.get("AGENTFS_SOAK") else 1500
_NAMES = ["a", "b", "c", "d"]


class Pair:
    """Makes the same call in two directories and compares what comes back."""

    def __init__(self, roots: tuple[str, str], seed: int) -> None:
        """Begin with two empty directories."""
        self.roots = roots
        self.chance = random.Random(seed)
        self.open: list[tuple[int, int]] = []
        self.log: list[str] = []

    def path(self) -> str:
        """Return a random relative path of one to three names."""
        return "/".join(self.chance.choices(_NAMES, k=self.chance.choice([1, 1, 2, 2, 3])))

    def both(self, what: str, call: Callable[[str], Any]) -> list[Any]:
        """Call with each root; errors count as results and must be equal."""
        found: list[Any] = []
        for root in self.roots:
            try:
                found.append(call(root))
            except OSError as error:
                found.append(("error", error.errno))
        self.log.append(f"{what} -> {found}")
        return found

    def same(self, what: str, call: Callable[[str], Any]) -> Any:
        """Call with each root; the results must be equal."""
        one, two = self.both(what, call)
        assert one == two, "\n".join(self.log[-40:])
        return one

    def step(self) -> None:
        """Do something."""
        names = [each for each in dir(self) if each.startswith("do_")]
        getattr(self, self.chance.choice(names))()

    def do_make(self) -> None:
        """Make a file, a directory, a link or a FIFO."""
        path, other = self.path(), self.path()
        kind = self.chance.choice(["mkdir", "mkdir", "symlink", "mkfifo", "link", "link"])
        if kind == "link" and os.path.islink(f"{self.roots[0]}/{other}"):
            return  # the one thing that a volume has not: a second name for a symbolic link
        if kind == "link":
            self.same(f"link {other} {path}", lambda r: os.link(f"{r}/{other}", f"{r}/{path}"))
        elif kind == "symlink":
            self.same(f"symlink {path}", lambda r: os.symlink(other, f"{r}/{path}"))
        else:
            self.same(f"{kind} {path}", lambda r: getattr(os, kind)(f"{r}/{path}"))

    def do_remove(self) -> None:
        """Remove a name."""
        path, call = self.path(), self.chance.choice([os.unlink, os.unlink, os.rmdir])
        self.same(f"{call.__name__} {path}", lambda r: call(f"{r}/{path}"))

    def do_rename(self) -> None:
        """Move a name."""
        one, two = self.path(), self.path()
        self.same(f"rename {one} {two}", lambda r: os.rename(f"{r}/{one}", f"{r}/{two}"))

    def do_open(self) -> None:
        """Open a file and keep it open."""
        path = self.path()
        flags = self.chance.choice([0, os.O_CREAT, os.O_CREAT, os.O_TRUNC, os.O_APPEND])
        found = self.both(
            f"open {path} {flags:o}",
            lambda r: os.open(f"{r}/{path}", os.O_RDWR | os.O_NONBLOCK | flags, 0o640),
        )
        if isinstance(found[0], int) and isinstance(found[1], int):
            self.open.append((found[0], found[1]))
        else:
            assert found[0] == found[1], "\n".join(self.log[-40:])

    def do_write(self) -> None:
        """Write whole files."""
        path, size = self.path(), self.chance.choice([0, 5, 5000, 70_000])
        data = self.chance.randbytes(size)

        def write(root: str) -> None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
            number = os.open(f"{root}/{path}", flags, 0o600)
            try:
                os.write(number, data)
            finally:
                os.close(number)

        self.same(f"write {path} {size}", write)

    def do_use(self) -> None:
        """Read, write, cut, sync or close an open file."""
        if not self.open:
            return
        pair = self.chance.choice(self.open)
        numbers = dict(zip(self.roots, pair, strict=True))
        offset, size = self.chance.randrange(20_000), self.chance.choice([1, 100, 9000])
        data = self.chance.randbytes(size)
        calls: list[tuple[str, Callable[[str], Any]]] = [
            ("pread", lambda r: os.pread(numbers[r], size, offset)),
            ("pwrite", lambda r: os.pwrite(numbers[r], data, offset)),
            ("write", lambda r: os.write(numbers[r], data)),
            ("ftruncate", lambda r: os.ftruncate(numbers[r], offset)),
            ("fsync", lambda r: os.fsync(numbers[r])),
            ("fchmod", lambda r: os.fchmod(numbers[r], size % 512)),
            ("fstat", lambda r: _facts(os.fstat(numbers[r]))),
            ("close", lambda r: os.close(numbers[r])),
        ]
        name, call = self.chance.choice(calls)
        self.same(f"{name} {pair} {offset} {size}", call)
        if name == "close":
            self.open.remove(pair)

    def do_attributes(self) -> None:
        """Change attributes by path."""
        path, number = self.path(), self.chance.randrange(512)
        calls: list[tuple[str, Callable[[str], Any]]] = [
            ("chmod", lambda r: os.chmod(f"{r}/{path}", number)),
            ("chown", lambda r: os.chown(f"{r}/{path}", number, 7, follow_symlinks=False)),
            ("utime", lambda r: os.utime(f"{r}/{path}", ns=(number, 10**18 + number))),
            ("truncate", lambda r: os.truncate(f"{r}/{path}", number * 50)),
            ("xattr", lambda r: os.setxattr(f"{r}/{path}", "user.x", b"%d" % number)),
        ]
        name, call = self.chance.choice(calls)
        self.same(f"{name} {path} {number}", call)

    def do_look(self) -> None:
        """Look at something."""
        path = self.path()
        calls: list[tuple[str, Callable[[str], Any]]] = [
            ("lstat", lambda r: _facts(os.lstat(f"{r}/{path}"))),
            ("listdir", lambda r: sorted(os.listdir(f"{r}/{path}"))),
            ("readlink", lambda r: os.readlink(f"{r}/{path}")),
        ]
        name, call = self.chance.choice(calls)
        self.same(f"{name} {path}", call)

    def compare(self) -> None:
        """Compare everything."""
        one, two = (_everything(each) for each in self.roots)
        assert one == two, "\n".join(self.log[-40:])


def _facts(found: os.stat_result) -> tuple[Any, ...]:
    size = found.st_size if stat.S_ISREG(found.st_mode) else 0
    return found.st_mode, found.st_nlink, size, found.st_uid, found.st_gid


def _everything(root: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    numbers: dict[int, str] = {}
    for folder, directories, files in os.walk(root):
        for name in sorted([*directories, *files]):
            path = os.path.join(folder, name)
            facts = os.lstat(path)
            content: object = None
            if stat.S_ISREG(facts.st_mode):
                content = Path(path).read_bytes()
            elif stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path)
            short = os.path.relpath(path, root)
            found[short] = (_facts(facts), content, _xattrs(path))
            if not stat.S_ISDIR(facts.st_mode):
                same = numbers.setdefault(facts.st_ino, short)
                assert (same == short) or facts.st_nlink > 1
    return found


def _xattrs(path: str) -> list[tuple[str, bytes]]:
    names = os.listxattr(path, follow_symlinks=False)
    return [(each, os.getxattr(path, each, follow_symlinks=False)) for each in names]


def test_a_mount_does_what_a_disk_does() -> None:
    """The same calls give the same results, errors and trees, with files open across them."""
    seed = int(os.environ.get("AGENTFS_SEED", random.randrange(1 << 30)))
    print("AGENTFS_SEED", seed)
    with tempfile.TemporaryDirectory() as bare, tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        with AgentFS.open(Path(place) / "v.afs") as fs, Mounted(fs) as where:
            pair = Pair((bare, where), seed)
            try:
                for index in range(_STEPS):
                    pair.step()
                    if index % 250 == 0:
                        pair.compare()
                pair.compare()
            finally:
                for numbers in pair.open:
                    for number in numbers:
                        os.close(number)
            pair.compare()
            assert fs.fsck(read_data=True) == []
        with AgentFS.open(Path(place) / "v.afs") as fs, Mounted(fs) as where:
            assert _everything(where) == _everything(bare)


def _by_api(fs: AgentFS, chance: random.Random) -> None:
    """Do something through the other door."""
    one, two = ("/" + "/".join(chance.choices(_NAMES, k=chance.choice([1, 2, 3]))) for _ in "ab")
    calls: list[Callable[[], Any]] = [
        lambda: fs.write(one, chance.randbytes(chance.choice([0, 10, 9000]))),
        lambda: fs.append(one, b"more"),
        lambda: fs.mkdir(one),
        lambda: fs.remove(one, recursive=chance.random() < 0.5),
        lambda: fs.rename(one, two),
        lambda: fs.copy(one, two),
        lambda: fs.link(one, two),
        lambda: fs.chmod(one, chance.randrange(512)),
        lambda: fs.chown(one, chance.randrange(9), None),
        lambda: fs.symlink(two, one),
        lambda: fs.truncate(one, chance.randrange(9000)),
    ]
    with suppress(OSError):
        chance.choice(calls)()
    if chance.random() < 0.02:
        name = f"s{chance.randrange(1 << 30)}"
        fs.snapshot(name)
    elif chance.random() < 0.02 and fs.snapshots():
        fs.restore(chance.choice(fs.snapshots()).name)


def _tree(fs: AgentFS) -> dict[str, Any]:
    """Return what the volume holds, in the form of `_everything`."""
    found: dict[str, Any] = {}
    for folder, directories, files in fs.walk("/"):
        for name in [*directories, *files]:
            path = f"{folder.rstrip('/')}/{name}"
            facts = fs.lstat(path)
            content: object = None
            if facts.is_file:
                content = fs.read(path)
            elif facts.is_symlink:
                content = fs.readlink(path)
            size = facts.size if facts.is_file else 0
            links = None if facts.is_dir else facts.links
            kind = TYPES[facts.kind] | facts.mode
            found[path[1:]] = ((kind, links, size, facts.uid, facts.gid), content)
    return found


def _without_counts(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a tree of `_everything` without what `_tree` has not."""
    found: dict[str, Any] = {}
    for path, ((mode, links, *rest), content, _) in tree.items():
        found[path] = ((mode, None if stat.S_ISDIR(mode) else links, *rest), content)
    return found


def _settled(where: str, expected: dict[str, Any]) -> dict[str, Any]:
    """Return what the mount shows when it is what is expected, or after 5 seconds."""
    deadline = time.monotonic() + 5
    found: dict[str, Any] = {}
    while found != expected and time.monotonic() < deadline:
        time.sleep(0.02)
        with suppress(OSError):  # names that were listed may be gone a moment later
            found = _without_counts(_everything(where))
    return found


def test_what_others_change_is_what_the_mount_shows() -> None:
    """After any operations through both doors, the mount has what the volume has."""
    seed = int(os.environ.get("AGENTFS_SEED", random.randrange(1 << 30)))
    print("AGENTFS_SEED", seed)
    with tempfile.TemporaryDirectory() as bare, tempfile.TemporaryDirectory() as place:
        with AgentFS.open(Path(place) / "v.afs") as fs, Mounted(fs, cache_s=0.04) as where:
            pair = Pair((where, where), seed)
            pair.roots = (where,)  # type: ignore[assignment]
            pair.same = pair.both  # type: ignore[method-assign]
            for _ in range(_STEPS // 100):
                for _ in range(10):
                    for door in (pair.do_make, pair.do_remove, pair.do_rename, pair.do_write,
                                 pair.do_attributes, pair.do_look):  # fmt: skip
                        if pair.chance.random() < 0.5:
                            door()
                        else:
                            _by_api(fs, pair.chance)
                expected = _tree(fs)
                found = _settled(where, expected)
                assert found == expected, (found, pair.log[-30:])
            assert fs.fsck(read_data=True) == []
        assert os.listdir(bare) == []
