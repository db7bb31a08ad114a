"""Hard links: several names of one file, kept in the link area, a hidden part of the same tree.

The root has a directory with the name `/links`, which no path can lead to. In it each hard-linked
file has a directory, named by its number, with the node `file` and, for each of its names, a
symbolic link that holds the name's path. The name's own entry leads to a node of kind 4 that holds
"number/token". Reading and writing go through `directories.locate`, so that they change `file`.

As part of the tree the area is forked, restored, compared and merged with it: a merge treats it as
any other directory and calls `reconcile` at its end. A copied or restored subtree gets its own
links (`adopt`); the paths of names follow what is moved or removed (`moved`, `dropped`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from . import acl, directories, journal, nodes, quota
from .directories import LINKED_FILE, Directory, Place
from .errors import AlreadyExists, Corrupt, InvalidArgument, IsADirectory, NotFound
from .nodes import DIRECTORY, LINK, SYMLINK, Node, View
from .paths import LINKS_NAME, LINKS_PATH, from_stored, is_inside, join, to_stored
from .transaction import Session
from .types import Conflict, Stat

_MODE = 0o700


class Name(NamedTuple):
    """One name of a hard-linked file: the link's number, the name's own one, and the path."""

    link: str
    token: str
    path: str


def link(view: View, source: str, target: str) -> None:
    """Give a file one more name."""
    old = directories.locate(view, source, follow=False, through=False)
    node = old.node
    if node is None:
        raise NotFound(source)
    if node.kind == DIRECTORY:
        raise IsADirectory(source, "a hard link leads to a file")
    if node.kind == SYMLINK:
        raise InvalidArgument(source, "a hard link leads to a file, and this is a symbolic link")
    acl.require_write(view, old.path)
    new = directories.locate(view, target, follow=False, through=False)
    if new.node is not None:
        raise AlreadyExists(target)
    acl.require_write(view, new.path)
    inner, was = _inner(view), state(view)
    if node.kind == LINK:
        number = directories.link_target(view.session, node)[0]
    else:
        number = _begin(inner, node)
        _add_name(inner, number, old)
    _add_name(inner, number, new)
    journal.append(view, "link", old.path, new.path, None, node.id, was)


def state(view: View) -> dict[str, int | None]:
    """Return what a journal row keeps of the area, so that time travel can set it back.

    The branch must have a new generation (`branches.bump`), or the area could change in place.
    """
    area = directories.lookup(view.session, directories.root(view), LINKS_NAME)
    return {"links": area.id if area is not None else None}


def any_at(view: View, path: str, node: Node | None) -> bool:
    """Say whether what is at a path is a hard link, or a directory with one below it."""
    if node is None or node.kind not in (DIRECTORY, LINK):
        return False
    return node.kind == LINK or bool(_inside(_inner(view), path))


def _inner(view: View) -> View:
    return view if view.system else View(view.session, view.state, True, view.principal)


def _area(view: View) -> Directory | None:
    root = directories.root(view)
    node = directories.lookup(view.session, root, LINKS_NAME)
    return directories.resolve(view, LINKS_PATH) if node is not None else None


def _begin(view: View, file: Node) -> str:
    """Make the directory of a hard-linked file and return its number."""
    area = _area(view)
    if area is None:
        made = nodes.make_directory(view, _MODE)
        directories.set_entry(view, directories.root(view), LINKS_NAME, made, True)
        quota.settle(view)
        area = directories.resolve(view, LINKS_PATH)
    number = str(view.session.new_id("next_node"))
    directories.set_entry(view, area, number, nodes.make_directory(view, _MODE), True)
    quota.settle(view)
    directories.set_entry(view, _directory(view, number), LINKED_FILE, file.id, True)
    return number


def _directory(view: View, number: str) -> Directory:
    return directories.resolve(view, join(LINKS_PATH, number))


def _add_name(view: View, number: str, place: Place) -> None:
    token = str(view.session.new_id("next_node"))
    _note_path(view, Name(number, token, place.path), True)
    made = nodes.make_link(view, f"{number}/{token}".encode("ascii"))
    directories.set_entry(view, place.directory, place.name, made, place.node is None)


def _note_path(view: View, name: Name, is_new: bool) -> None:
    stored = to_stored(name.path)
    raw = stored.encode() if isinstance(stored, str) else stored
    made = nodes.make_symlink(view, raw)
    directories.set_entry(view, _directory(view, name.link), name.token, made, is_new)


# -- reading ----------------------------------------------------------------------------------


def stat_at(view: View, path: str, follow: bool = True) -> Stat:
    """Return the public record of what is at a path.

    Raises:
        NotFound: nothing is there.
    """
    place = directories.locate(view, path, follow)
    if place.node is None:
        raise NotFound(path)
    count = place.directory.entries - 1 if place.shown is not None else 1
    return nodes.to_stat(place.node, count)


def stat(view: View, node: Node) -> Stat:
    """Return the public record of the file that a hard link's node leads to."""
    return nodes.to_stat(*require_file(view.session, directories.root(view), node))


def file_of(session: Session, root: Node | Directory, node: Node) -> tuple[Node, int] | None:
    """Return the file that a hard link leads to below a root, and how many names it has."""
    number = directories.link_target(session, node)[0]
    area = directories.lookup(session, root, LINKS_NAME)
    home = None if area is None else directories.lookup(session, area, number)
    file = None if home is None else directories.lookup(session, home, LINKED_FILE)
    return None if home is None or file is None else (file, home.entries - 1)


def require_file(session: Session, root: Node | Directory, node: Node) -> tuple[Node, int]:
    """Return the file that a hard link leads to, and how many names it has.

    Raises:
        Corrupt: it is missing.
    """
    found = file_of(session, root, node)
    if found is None:
        raise Corrupt(f"node {node.id}", "the file of this hard link is missing")
    return found


def names(session: Session, root: Node | Directory) -> Iterator[Name]:
    """Yield every name of every hard-linked file below a root."""
    area = directories.lookup(session, root, LINKS_NAME)
    for number, home in [] if area is None else directories.scan(session, area):
        yield from names_of(session, number, home)


def names_of(session: Session, number: str, home: Node | Directory) -> Iterator[Name]:
    """Yield every name of one hard-linked file."""
    for token, node in directories.scan(session, home):
        if token != LINKED_FILE:
            yield Name(number, token, from_stored(nodes.data(session, node.id)))


def _inside(view: View, path: str) -> list[Name]:
    root = directories.root(view)
    return [each for each in names(view.session, root) if is_inside(each.path, path)]


# -- names that go, move or are copied -------------------------------------------------------


def same_file(view: View, node: Node, other: Node | None) -> bool:
    """Say whether two names are hard links to the same file."""
    if other is None or node.kind != LINK or other.kind != LINK:
        return False
    one, two = (directories.link_target(view.session, each)[0] for each in (node, other))
    return one == two


def release(view: View, node: Node | None) -> None:
    """Take one name from a file's names; the last one takes the file along."""
    if node is not None and node.kind == LINK:
        _release(_inner(view), *directories.link_target(view.session, node))


def _release(view: View, number: str, token: str) -> None:
    area = _area(view)
    home = _directory(view, number)
    directories.drop_entry(view, home, token)
    if home.entries > 1 or area is None:
        return
    directories.drop_entry(view, area, number)
    directories.forget_below(view, home.path)
    if not area.entries:
        directories.drop_entry(view, directories.root(view), LINKS_NAME)
        directories.forget_below(view, LINKS_PATH)


def dropped(view: View, path: str) -> None:
    """Release every name at and below a path that is removed or replaced."""
    inner = _inner(view)
    for name in _inside(inner, path):
        _release(inner, name.link, name.token)


def moved(view: View, source: str, target: str) -> None:
    """Let the names at and below a path that was moved follow it."""
    inner = _inner(view)
    for name in _inside(inner, source):
        _note_path(inner, name._replace(path=_rebased(name.path, source, target)), False)


def adopt(view: View, past: View, source: str, target: str) -> None:
    """Give what was copied from a path of a state to a path of the branch its own links."""
    inner, origin = _inner(view), directories.root(past)
    numbers: dict[str, str] = {}
    for name in [each for each in names(past.session, origin) if is_inside(each.path, source)]:
        place = directories.locate(
            inner, _rebased(name.path, source, target), follow=False, through=False
        )
        if place.node is None or place.node.kind != LINK:
            continue
        if name.link not in numbers:
            numbers[name.link] = _begin(inner, require_file(past.session, origin, place.node)[0])
        _add_name(inner, numbers[name.link], place)


def _rebased(path: str, source: str, target: str) -> str:
    return target + path[len(source) :]


# -- after a merge ----------------------------------------------------------------------------


def reconcile(view: View, before: Node, theirs: Node, brought: Iterable[tuple[str, Node]]) -> None:
    """Let names and link area agree again after a merge.

    `brought` are the hard links that the merge took over, with their paths. A name that was
    replaced is released; one that is missing comes back where its directory exists; one that only
    the area lost is noted there again, or becomes a file of its own when its file is gone.
    """
    inner = _inner(view)
    for name in list(names(inner.session, directories.root(inner))):
        place = _place(inner, name.path)
        if place is None or (place.node is not None and not _leads(inner, place.node, name)):
            _release(inner, name.link, name.token)
        elif place.node is None:
            made = nodes.make_link(inner, f"{name.link}/{name.token}".encode("ascii"))
            directories.set_entry(inner, place.directory, place.name, made, True)
    paths = {path for path, _ in brought}
    paths |= {each.path for each in names(inner.session, before)}
    for path in sorted(paths):
        place = _place(inner, path)
        if place is not None and place.node is not None and place.node.kind == LINK:
            _keep(inner, place, place.node, (theirs, before))
    _drop_nameless(inner)


def _drop_nameless(view: View) -> None:
    """Drop the files of which each side removed other names, and the area when it is empty."""
    area = _area(view)
    if area is None:
        return
    for number, home in directories.scan(view.session, area):
        if not any(names_of(view.session, number, home)):
            directories.drop_entry(view, area, number)
            directories.forget_below(view, join(LINKS_PATH, number))
    if not area.entries:
        directories.drop_entry(view, directories.root(view), LINKS_NAME)
        directories.forget_below(view, LINKS_PATH)


def _place(view: View, path: str) -> Place | None:
    try:
        return directories.locate(view, path, follow=False, through=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _leads(view: View, node: Node | None, name: Name) -> bool:
    if node is None or node.kind != LINK:
        return False
    return directories.link_target(view.session, node) == (name.link, name.token)


def _keep(view: View, place: Place, node: Node, sides: tuple[Node, Node]) -> None:
    """Note a name that the area lost, or make it a plain file when its file is gone."""
    number, token = directories.link_target(view.session, node)
    if file_of(view.session, directories.root(view), node) is not None:
        noted = directories.lookup(view.session, _directory(view, number), token)
        if noted is None:
            _note_path(view, Name(number, token, place.path), True)
        elif from_stored(nodes.data(view.session, noted.id)) != place.path:
            _add_name(view, number, place)  # both sides kept the name, under different paths
        return
    found = (file_of(view.session, side, node) for side in sides)
    file = next((each for each in found if each is not None), None)
    if file is None:
        directories.drop_entry(view, place.directory, place.name)
    else:
        directories.set_entry(view, place.directory, place.name, file[0].id, False)


def wrong(session: Session, root: Node, found: Iterable[tuple[str, Node]]) -> Iterator[str]:
    """Yield a sentence for each disagreement of the link area and the hard links of a tree."""
    expected = {(each.link, each.token): each.path for each in names(session, root)}
    for path, node in found:
        if expected.pop(directories.link_target(session, node), None) != path:
            yield f"the hard link {path!r} is not in the link area"
        elif file_of(session, root, node) is None:
            yield f"the hard link {path!r} has no file"
    for path in expected.values():
        yield f"the link area has {path!r}, which is no hard link"


def has_any(session: Session, root: Node) -> bool:
    """Say whether a tree has hard links."""
    return directories.lookup(session, root, LINKS_NAME) is not None


def named(session: Session, roots: Iterable[Node], conflicts: Iterable[Conflict]) -> list[Conflict]:
    """Return conflicts with a path that users know in the place of one in the link area."""
    return [
        replace(each, path=_shown(session, roots, each.path))
        if each.path.startswith(LINKS_PATH)
        else each
        for each in conflicts
    ]


def _shown(session: Session, roots: Iterable[Node], path: str) -> str:
    number = path[len(LINKS_PATH) + 1 :].split("/")[0]
    for root in roots:
        found = [each.path for each in names(session, root) if each.link == number]
        if found:
            return min(found)
    return path
