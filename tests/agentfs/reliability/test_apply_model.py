"""Random trees, edits of both sides and selections: apply does what a rule of four lines says."""

from __future__ import annotations

import os
import posixpath
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from tests.agentfs.hosttree import seen
from tests.agentfs.test_apply import leftovers, of_branch, of_host

from agentfs import AgentFS, AgentFSError
from agentfs.errors import HostChanged
from agentfs.types import Applied

Length = Callable[[int, int], int]
Record = Callable[[str, object], None]
State = dict[str, tuple[object, ...]]
NAMES = ("a", "b", "c\n", os.fsdecode(b"\xff"))


class Host:
    """The calls that a random edit needs, on a host directory."""

    def __init__(self, root: Path) -> None:
        """Begin with a directory."""
        self.root = str(root)

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def write(self, path: str, data: bytes) -> None:
        """Make or rewrite a file."""
        with open(os.open(self._at(path), os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW), "wb") as file:
            file.truncate(0)
            file.write(data)

    def remove(self, path: str) -> None:
        """Remove what is there, with all below it."""
        if os.path.isdir(self._at(path)) and not os.path.islink(self._at(path)):
            shutil.rmtree(self._at(path))
        else:
            os.unlink(self._at(path))

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        os.mkdir(self._at(path), 0o755)

    def symlink(self, target: str, path: str) -> None:
        """Make a link."""
        os.symlink(target, self._at(path))

    def chmod(self, path: str, mode: int) -> None:
        """Set a mode."""
        if not os.path.islink(self._at(path)):
            os.chmod(self._at(path), mode)

    def rename(self, source: str, target: str) -> None:
        """Move something."""
        os.rename(self._at(source), self._at(target))


class Branch(Host):
    """The same on the branch's overlay."""

    def __init__(self, fs: AgentFS) -> None:
        """Begin with the overlay at /p."""
        self.fs = fs

    def _at(self, path: str) -> str:
        return f"/p/{path}"

    def write(self, path: str, data: bytes) -> None:
        """Make or rewrite a file."""
        if self.fs.exists(self._at(path)) and self.fs.lstat(self._at(path)).kind == "symlink":
            raise OSError(path)
        self.fs.write(self._at(path), data)

    def remove(self, path: str) -> None:
        """Remove what is there, with all below it."""
        self.fs.remove(self._at(path), recursive=True)

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        self.fs.mkdir(self._at(path))

    def symlink(self, target: str, path: str) -> None:
        """Make a link."""
        self.fs.symlink(target, self._at(path))

    def chmod(self, path: str, mode: int) -> None:
        """Set a mode."""
        if self.fs.lstat(self._at(path)).kind != "symlink":
            self.fs.chmod(self._at(path), mode)

    def rename(self, source: str, target: str) -> None:
        """Move something."""
        self.fs.rename(self._at(source), self._at(target))


def some_path(chance: random.Random) -> str:
    """Return a path that was probably used before."""
    return "/".join(chance.choice(NAMES) for _ in range(chance.choice((1, 1, 2, 2, 3))))


def edit(chance: random.Random, side: Host, count: int) -> None:
    """Do random calls; those that make no sense there fail, and do nothing."""
    for _ in range(count):
        path, other = some_path(chance), some_path(chance)
        what = chance.choices(
            ("write", "remove", "mkdir", "symlink", "chmod", "rename"), (8, 3, 4, 2, 2, 3)
        )[0]
        data = chance.choice((b"", b"one", b"two", chance.randbytes(9000)))
        mode = chance.choice((0o700, 0o755, 0o750))
        arguments = {
            "write": (path, data), "symlink": ("./" + chance.choice("ab"), path),
            "chmod": (path, mode), "rename": (path, other),
        }.get(what, (path,))  # fmt: skip
        try:
            getattr(side, what)(*arguments)
        except (OSError, AgentFSError):
            continue


def is_directory(entry: tuple[object, ...] | None) -> bool:
    """Say whether an entry of a state is a directory."""
    return entry is not None and entry[0] == stat.S_IFDIR


def is_chosen(path: str, chosen: list[str] | None, ours: State, base: State) -> bool:
    """Say whether a path is selected, or a new directory above one that is."""
    if chosen is None or any(path == each or path.startswith(f"{each}/") for each in chosen):
        return True
    is_new = is_directory(ours.get(path)) and not is_directory(base.get(path))
    return is_new and any(each.startswith(f"{path}/") for each in chosen)


def is_hindered(path: str, base: State, ours: State, found: State) -> bool:
    """Say whether the host's tree around a path leaves no way to write it."""
    above = posixpath.dirname(path)
    if path in ours and above and not is_directory(found.get(above)):
        return True
    is_going = is_directory(base.get(path)) and not is_directory(ours.get(path))
    return is_going and any(each.startswith(f"{path}/") for each in found)


def is_half_done(was: object, mine: object, host: object) -> bool:
    """Say whether something is gone that becomes or was a directory, as after a kill."""
    entries = [each for each in (was, mine) if isinstance(each, tuple)]
    if len(entries) < 2 or host is not None:
        return False
    return is_directory(entries[0]) or (entries[0][0] == stat.S_IFLNK and is_directory(entries[1]))


def check(
    base: State, ours: State, theirs: State, found: State, chosen: list[str] | None,
    left: set[str], unreadable: set[str],
) -> None:  # fmt: skip
    """Compare the host after apply with what the three trees say it should be."""
    for path in base.keys() | ours.keys() | theirs.keys() | found.keys():
        was, mine, host, now = (each.get(path) for each in (base, ours, theirs, found))
        if mine == was or not is_chosen(path, chosen, ours, base):
            assert (path, now) == (path, host)
            assert path not in left or host != was or path in unreadable
        elif mine == host or (is_directory(mine) and is_directory(host) and was is None):
            assert (path, now) == (path, mine)
        elif host == was and not (path in unreadable or is_hindered(path, base, ours, found)):
            assert (path, now) == (path, mine)
            assert path not in left
        elif path in left or not (path in unreadable or is_half_done(was, mine, host)):
            assert path in left, (path, was, mine, host, now)
            assert (path, now) == (path, host)
        else:
            assert (path, now) == (path, mine)


def lost(fs: AgentFS, ours: State) -> set[str]:
    """Return the files of the branch that need something of the host which is no more."""
    found: set[str] = set()
    for path, entry in ours.items():
        try:
            if entry[0] == stat.S_IFREG:
                fs.read(f"/p/{path}")
        except HostChanged:
            found.add(path)
    return found


def shown(result: Applied) -> tuple[object, ...]:
    """Return what a result says."""
    changes = [(each.kind, each.path) for each in result.changes]
    return changes, [(each.kind, each.path) for each in result.conflicts]


def play(place: Path, seed: int) -> tuple[int, int]:
    """Play one round; return how many paths were written, and how many were left."""
    chance = random.Random(seed)
    host = place / "host"
    host.mkdir(parents=True)
    (place / "canary").write_text("canary")
    edit(chance, Host(host), 25)
    with AgentFS.open(place / "a.afs") as fs:
        fs.overlay(host, "/p")
        base = of_branch(fs)
        assert base == of_host(host)
        fs.write("/beside", "the hashes that the reads learned are written with this")
        edit(chance, Branch(fs), chance.randrange(1, 25))
        ours = of_branch(fs)
        edit(chance, Host(host), chance.randrange(0, 12))
        changed = [each.path[3:] for each in fs.host_diff()]
        several = sorted(chance.sample(changed, min(len(changed), 3)))
        chosen = several if several and chance.random() < 0.4 else None
        theirs, before, unreadable = of_host(host), seen(host), lost(fs, ours)
        said = fs.apply(chosen, dry_run=True)
        assert seen(host) == before
        result = fs.apply(chosen)
        assert shown(said) == shown(result)
        left = {each.path[3:] for each in result.conflicts}
        check(base, ours, theirs, of_host(host), chosen, left, unreadable)
        assert lost(fs, ours) <= unreadable
        if chosen is None:
            assert {each.path[3:] for each in fs.host_diff()} == left
        assert leftovers(place) == []
        assert fs.fsck(read_data=True) == []
    return len(result.changes), len(left)


def test_apply_agrees_with_a_model(tmp_path: Path, length: Length, record_property: Record) -> None:
    """Only the branch changed a path: written; only the host: kept; both: kept, and a conflict."""
    written = conflicts = 0
    rounds = length(40, 4000)
    for seed in range(rounds):
        place = tmp_path / str(seed)
        try:
            more = play(place, seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        written, conflicts = written + more[0], conflicts + more[1]
        shutil.rmtree(place)
    assert written > rounds, "the rounds did too little"
    assert conflicts > rounds / 4
    record_property("figures", f"{rounds} rounds, {written} written, {conflicts} conflicts")
