"""A volume as plain dictionaries: what agentfs must do, written without any of its code.

Errors carry the name of the class that agentfs raises, so that a test can compare both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FOLLOWED = 40


class Refused(Exception):
    """What the model raises; the text is the name of an agentfs error."""


class Unpredictable(Exception):
    """The model does not say what happens here, so the step is left out."""


@dataclass
class Node:
    """A file, directory or symbolic link."""

    kind: str
    mode: int
    data: bytes = b""
    children: dict[str, Node] = field(default_factory=dict)
    xattrs: dict[str, bytes] = field(default_factory=dict)

    def clone(self, known: dict[int, Node] | None = None) -> Node:
        """Return a copy that shares nothing; what is one file in here is one file in the copy."""
        known = {} if known is None else known
        if id(self) not in known:
            below = {name: child.clone(known) for name, child in self.children.items()}
            copy = Node(self.kind, self.mode, self.data, below, dict(self.xattrs))
            known[id(self)] = copy
        return known[id(self)]

    def has_hard_links(self) -> bool:
        """Say whether some file below has more than one name."""
        seen: set[int] = set()
        waiting = [self]
        while waiting:
            for child in waiting.pop().children.values():
                if id(child) in seen:
                    return True
                seen.add(id(child))
                waiting.append(child)
        return False


@dataclass
class Line:
    """A branch or snapshot, with the point of history it stands on."""

    root: Node
    point: int | None = None


@dataclass
class Point:
    """A state that was forked, kept, restored or merged, and the points that it came from."""

    root: Node | None
    parents: frozenset[int]


@dataclass
class Place:
    """Where a path leads."""

    directory: Node
    name: str
    node: Node | None
    path: str


def names_of(path: str) -> list[str]:
    """Return the names of a path without `.` and empty ones, `..` removed from the text."""
    if "\0" in path or not path.startswith("/"):
        raise Refused("InvalidName")
    found: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del found[-1:]
        elif name not in ("", "."):
            if len(name.encode()) > 255:
                raise Refused("NameTooLong")
            found.append(name)
    if found[:1] == [".fmos"]:
        raise Refused("PermissionDenied")
    return found


class Tree:
    """The calls on one branch."""

    def __init__(self, root: Node) -> None:
        """Work on a root directory."""
        self.root = root

    def directory(self, names: list[str], followed: int = 0) -> tuple[Node, list[str]]:
        """Return the directory at some names and its real path."""
        if followed > FOLLOWED:
            raise Refused("TooManyLinks")
        here, path = self.root, []
        for index, name in enumerate(names):
            below = here.children.get(name)
            if below is None:
                raise Refused("NotFound")
            if below.kind == "symlink":
                rest = "/".join(names[index + 1 :])
                target = self.target(path, below)
                return self.directory(names_of(f"{target}/{rest}"), followed + 1)
            if below.kind != "directory":
                raise Refused("NotADirectory")
            here, path = below, [*path, name]
        return here, path

    def target(self, path: list[str], link: Node) -> str:
        """Return the absolute target of a link in the directory `path`."""
        text = link.data.decode()
        names = names_of(text if text.startswith("/") else "/" + "/".join([*path, text]))
        return "/" + "/".join(names)

    def locate(self, path: str, follow: bool = True) -> Place:
        """Return where a path leads."""
        names = names_of(path)
        for _ in range(FOLLOWED + 1):
            if not names:
                return Place(self.root, "", self.root, "/")
            directory, above = self.directory(names[:-1])
            name = names[-1]
            node = directory.children.get(name)
            if node is None or node.kind != "symlink" or not follow:
                return Place(directory, name, node, "/" + "/".join([*above, name]))
            names = names_of(self.target(above, node))
        raise Refused("TooManyLinks")

    def existing(self, path: str, follow: bool = True) -> Node:
        """Return what is at a path."""
        node = self.locate(path, follow).node
        if node is None:
            raise Refused("NotFound")
        return node

    def file(self, path: str) -> Node:
        """Return the file at a path."""
        node = self.existing(path)
        if node.kind == "directory":
            raise Refused("IsADirectory")
        return node

    # -- the calls, named as in AgentFS --------------------------------------------------

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        return self.file(path).data

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory."""
        return sorted(self.directory(names_of(path))[0].children)

    def lstat(self, path: str) -> tuple[str, int, int]:
        """Return kind, mode and size."""
        node = self.existing(path, follow=False)
        return node.kind, node.mode, len(node.data)

    def readlink(self, path: str) -> str:
        """Return a link's target."""
        node = self.existing(path, follow=False)
        if node.kind != "symlink":
            raise Refused("InvalidArgument")
        return node.data.decode()

    def write(self, path: str, data: bytes) -> None:
        """Replace or make a file."""
        place = self.locate(path)
        if place.node is None:
            place.directory.children[place.name] = Node("file", 0o644, data)
        elif place.node.kind == "directory":
            raise Refused("IsADirectory")
        else:
            place.node.data = data

    def append(self, path: str, data: bytes) -> None:
        """Add to a file or make it."""
        node = self.locate(path).node
        if node is not None and node.kind == "directory":
            raise Refused("IsADirectory")
        self.write(path, data if node is None else node.data + data)

    def truncate(self, path: str, size: int) -> None:
        """Cut or extend a file."""
        if size < 0:
            names_of(path)
            raise Refused("InvalidArgument")
        node = self.file(path)
        node.data = node.data[:size] + bytes(max(size - len(node.data), 0))

    def patch(self, path: str, offset: int, data: bytes) -> None:
        """Write inside a file through an open handle."""
        node = self.file(path)
        if data:
            old = node.data + bytes(max(offset - len(node.data), 0))
            node.data = old[:offset] + data + old[offset + len(data) :]

    def mkdir(self, path: str, parents: bool, exist_ok: bool) -> None:
        """Make a directory."""
        names = names_of(path)
        if parents:
            for above in self._missing("/".join(names[:end]) for end in range(len(names))):
                self.mkdir(above, False, True)
        place = self.locate(path)
        if place.node is None:
            place.directory.children[place.name] = Node("directory", 0o755)
        elif not exist_ok or place.node.kind != "directory":
            raise Refused("AlreadyExists")

    def _missing(self, prefixes: Any) -> list[str]:
        missing: list[str] = []
        for above in reversed(["/" + each for each in prefixes if each]):
            try:
                if self.locate(above).node is not None:
                    break
            except Refused as error:
                if str(error) != "NotFound":
                    raise
            missing.append(above)
        return missing[::-1]

    def _named(self, path: str) -> Place:
        place = self.locate(path, follow=False)
        if place.node is None:
            raise Refused("NotFound")
        if not place.name:
            raise Refused("PermissionDenied")
        return place

    def remove(self, path: str, recursive: bool) -> None:
        """Remove a name."""
        place = self._named(path)
        if place.node is not None and place.node.kind == "directory" and not recursive:
            raise Refused("IsADirectory")
        del place.directory.children[place.name]

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        place = self._named(path)
        assert place.node is not None
        if place.node.kind != "directory":
            raise Refused("NotADirectory")
        if place.node.children:
            raise Refused("NotEmpty")
        del place.directory.children[place.name]

    def rename(self, source: str, target: str) -> None:
        """Move a name."""
        for each in (source, target):
            names_of(each)
        old, new = self._named(source), self.locate(target, follow=False)
        if not new.name:
            raise Refused("PermissionDenied")
        if old.path == new.path or old.node is new.node:
            return
        if f"{new.path}/".startswith(f"{old.path}/"):
            raise Refused("InvalidArgument")
        assert old.node is not None
        _check_replaceable(old.node, new.node)
        del old.directory.children[old.name]
        new.directory.children[new.name] = old.node

    def copy(self, source: str, target: str) -> None:
        """Copy a file or directory."""
        for each in (source, target):
            names_of(each)
        old, new = self.locate(source), self.locate(target)
        if old.node is None:
            raise Refused("NotFound")
        if not new.name:
            raise Refused("PermissionDenied")
        if old.path == new.path:
            return
        inside = f"{new.path}/".startswith(old.path.rstrip("/") + "/")
        if old.node.kind == "directory" and inside:
            raise Refused("InvalidArgument")
        _check_replaceable(old.node, new.node)
        copy = old.node.clone()
        if new.node is not None and new.node.kind == "file":
            # All names of a file that is there already see the copy.
            new.node.data, new.node.mode, new.node.xattrs = copy.data, copy.mode, copy.xattrs
        else:
            new.directory.children[new.name] = copy

    def symlink(self, target: str, path: str) -> None:
        """Make a symbolic link."""
        place = self.locate(path, follow=False)
        if place.node is not None:
            raise Refused("AlreadyExists")
        if not target:
            raise Refused("InvalidArgument")
        place.directory.children[place.name] = Node("symlink", 0o777, target.encode())

    def link(self, source: str, target: str) -> None:
        """Give a file one more name: in here, the same object."""
        for each in (source, target):
            names_of(each)
        old = self.locate(source, follow=False).node
        if old is None:
            raise Refused("NotFound")
        if old.kind != "file":
            raise Refused("IsADirectory" if old.kind == "directory" else "InvalidArgument")
        new = self.locate(target, follow=False)
        if new.node is not None:
            raise Refused("AlreadyExists")
        new.directory.children[new.name] = old

    def chmod(self, path: str, mode: int) -> None:
        """Set permission bits."""
        self.existing(path).mode = mode & 0o7777

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        """Set an extended attribute."""
        self.existing(path).xattrs[name] = value

    def removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        if self.existing(path).xattrs.pop(name, None) is None:
            raise Refused("NoAttribute")


def _check_replaceable(node: Node, there: Node | None) -> None:
    if there is None:
        return
    if there.kind == "directory":
        if node.kind != "directory":
            raise Refused("IsADirectory")
        if there.children:
            raise Refused("NotEmpty")
    elif node.kind == "directory":
        raise Refused("NotADirectory")


class Model:
    """All branches and snapshots of a volume."""

    def __init__(self) -> None:
        """Begin as a fresh volume."""
        self.lines: dict[str, Line] = {"main": Line(Node("directory", 0o755))}
        self.snapshots: dict[str, Line] = {}
        self.points: list[Point] = []
        self.made = 0

    def clone(self) -> Model:
        """Return a copy that shares nothing but points, which never change."""
        other = Model()
        for ours, copy in ((self.lines, other.lines), (self.snapshots, other.snapshots)):
            copy.update({name: Line(line.root.clone(), line.point) for name, line in ours.items()})
        other.points = list(self.points)
        other.made = self.made
        return other

    def _ref(self, name: str) -> Line:
        found = self.lines.get(name) or self.snapshots.get(name)
        if found is None:
            raise Refused("BranchNotFound")
        return found

    def _add(self, root: Node | None, *parents: int | None) -> int:
        self.points.append(Point(root, frozenset(each for each in parents if each is not None)))
        return len(self.points) - 1

    def _mark(self, line: Line) -> int:
        """Return the point of a line's state."""
        if line.point is None or self.points[line.point].root != line.root:
            line.point = self._add(line.root.clone(), line.point)
        return line.point

    def _before(self, point: int) -> set[int]:
        """Return a point and all that it came from."""
        found, waiting = set(), [point]
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += self.points[each].parents
        return found

    def _common(self, ours: int, theirs: int) -> set[int]:
        """Return the points that both came from and that no other such point came from."""
        both = self._before(ours) & self._before(theirs)
        older = set().union(*(self._before(each) - {each} for each in both))
        return both - older

    def call(self, branch: str, name: str, arguments: tuple[Any, ...]) -> Any:
        """Run one call on a branch."""
        own: Callable[..., Any] | None = getattr(self, f"do_{name}", None)
        if own is not None:
            return own(branch, *arguments)
        return getattr(Tree(self.lines[branch].root), name)(*arguments)

    def _free(self, name: str) -> None:
        if name in self.lines or name in self.snapshots:
            raise Refused("RefExists")

    def do_fork(self, branch: str, name: str, source: str) -> None:
        """Make a branch."""
        self._free(name)
        line = self._ref(source)
        self.lines[name] = Line(line.root.clone(), self._mark(line))
        self.made += 1

    def do_snapshot(self, branch: str, name: str) -> None:
        """Name a state."""
        self._free(name)
        line = self.lines[branch]
        self.snapshots[name] = Line(line.root.clone(), self._mark(line))
        self.made += 1

    def do_restore(self, branch: str, ref: str) -> None:
        """Set a branch back."""
        line = self._ref(ref)
        self.lines[branch] = Line(line.root.clone(), self._mark(line))

    def do_restore_paths(self, branch: str, ref: str, path: str) -> None:
        """Set one path back."""
        past = Tree(self._ref(ref).root)
        names = names_of(path)
        if past.root.has_hard_links() or self.lines[branch].root.has_hard_links():
            raise Unpredictable  # which names stay one file: the tests of links say it
        if not names:
            raise Refused("InvalidArgument")
        try:
            old = past.locate(path, follow=False).node
        except Refused as error:
            if str(error) not in ("NotFound", "NotADirectory"):
                raise
            old = None
        place = Tree(self.lines[branch].root).locate(path, follow=False)
        if old is not None:
            place.directory.children[place.name] = old.clone()
        elif place.node is not None:
            del place.directory.children[place.name]

    def do_delete_branch(self, branch: str, name: str) -> None:
        """Forget a branch."""
        if name in (branch, "main"):
            raise Refused("BranchInUse")
        if name not in self.lines:
            raise Refused("BranchNotFound")
        del self.lines[name]

    def do_merge(self, branch: str, name: str, strategy: str) -> None:
        """Bring in what another branch or snapshot changed since both were one."""
        if name == branch:
            raise Refused("InvalidArgument")
        source, line = self._ref(name), self.lines[branch]
        ours, theirs = self._mark(line), self._mark(source)
        common = self._common(ours, theirs)
        if common == {theirs}:
            return
        if len(common) != 1:
            raise Unpredictable  # merged crosswise: the tests of merge say what happens
        base = self.points[common.pop()].root
        trees = [each for each in (base, line.root, source.root) if each is not None]
        if any(each.has_hard_links() for each in trees):
            raise Unpredictable  # the tests of merge and of links say what happens
        work = Merge(strategy)
        work.directory(line.root, base, source.root)
        if work.conflicts and strategy == "fail":
            raise Refused("MergeConflict")
        line.point = self._add(None, ours, theirs)

    def do_gc(self, branch: str, retention: float | None) -> None:
        """Change nothing that can be seen."""

    def states(self) -> dict[str, Any]:
        """Return what each branch and snapshot holds."""
        return {name: flat(line.root) for name, line in (self.lines | self.snapshots).items()}


def flat(root: Node) -> dict[str, tuple[Any, ...]]:
    """Return a tree as paths with kind, mode, bytes and attributes."""
    found: dict[str, tuple[Any, ...]] = {}
    waiting = [("", root)]
    while waiting:
        path, node = waiting.pop()
        found[path or "/"] = (node.kind, node.mode, node.data, node.xattrs)
        waiting += [(f"{path}/{name}", child) for name, child in node.children.items()]
    return found


class Merge:
    """Three-way merge of trees; conflicts are counted."""

    def __init__(self, strategy: str) -> None:
        """Begin without conflicts."""
        self.strategy = strategy
        self.conflicts = 0

    def directory(self, ours: Node, base: Node | None, theirs: Node) -> None:
        """Bring into `ours` what `theirs` changed since `base`."""
        _merge_attributes(ours, base, theirs)
        before = base.children if base else {}
        for name in sorted(before.keys() | theirs.children.keys()):
            self._name(ours, name, before.get(name), theirs.children.get(name))

    def _name(self, ours: Node, name: str, base: Node | None, theirs: Node | None) -> None:
        mine = ours.children.get(name)
        if theirs in (base, mine):
            return
        if mine == base:
            _take(ours, name, theirs)
        elif mine and theirs and mine.kind == theirs.kind == "directory":
            self.directory(mine, base if base and base.kind == "directory" else None, theirs)
        else:
            if mine and theirs and mine.kind == theirs.kind:
                _only_bytes_differ(mine, base, theirs)
            self.conflicts += 1
            if self.strategy == "theirs":
                _take(ours, name, theirs)


def _merge_attributes(ours: Node, base: Node | None, theirs: Node) -> None:
    mine, new = (ours.mode, ours.xattrs), (theirs.mode, theirs.xattrs)
    old = (base.mode, base.xattrs) if base else mine
    if new in (mine, old):
        return
    if base is None or mine != old:
        raise Unpredictable
    ours.mode, ours.xattrs = theirs.mode, dict(theirs.xattrs)


def _only_bytes_differ(mine: Node, base: Node | None, theirs: Node) -> None:
    """Refuse to predict a file whose attributes differ too: they are merged one by one."""
    trees = [each for each in (mine, base, theirs) if each is not None]
    if len({(each.mode, tuple(sorted(each.xattrs.items()))) for each in trees}) > 1:
        raise Unpredictable


def _take(ours: Node, name: str, theirs: Node | None) -> None:
    if theirs is None:
        del ours.children[name]
    else:
        ours.children[name] = theirs.clone()
