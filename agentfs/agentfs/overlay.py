"""Overlays: a host directory as a part of the tree, read through on first use and never written.

The overlay's base, the host's tree as the branch last knew it, is in the same tree at
`/.fmos/overlays/<id>`, so that it follows forks, restores and merges, and what the branch changed
is a diff against it. A `.fmos` folder of the host directory is never part of an overlay.
"""

from __future__ import annotations

import json
import os
import posixpath
import time
from collections.abc import Sequence
from contextlib import suppress

from . import branches, diff, directories, journal, listing, nodes, tree
from .connection import Row
from .directories import Directory, Place
from .errors import AlreadyExists, HostError, InvalidArgument, NotFound
from .hostfiles import HostRef, Identity
from .nodes import DIRECTORY, Node, View
from .paths import LINKS_NAME, OVERLAYS_PATH, SYSTEM_NAME, from_stored, is_inside, join, to_stored
from .types import Change, Overlay

_MODE = 0o700
_ADD = (
    "INSERT INTO overlay(host, at, identity, created_ns, principal) VALUES (?, ?, ?, ?, ?)"
    " RETURNING id"
)
_ALL = "SELECT id, at, host, created_ns FROM overlay ORDER BY id"


def attach(view: View, host: str, at: str) -> Overlay:
    """Lay the branch over a host directory; nothing is copied.

    Raises:
        HostError: the host path is no directory, or not readable.
        AlreadyExists: something is at the path already, or another overlay.
    """
    real = _host_directory(host)
    for each in listing_of(view):
        if is_inside(at, each.at) or is_inside(each.at, at):
            raise AlreadyExists(at, f"{each.at} is laid over {each.host!r} already")
    place = _free_place(view, at)
    if place.path != at:  # a symbolic link of the volume leads elsewhere
        return attach(view, host, place.path)
    session, now = view.session, time.time_ns()
    identity = Identity.of(os.stat(real))
    row = (to_stored(real), to_stored(at), json.dumps(identity), now, view.principal)
    made = Overlay(session.execute(_ADD, row).fetchall()[0][0], at, real, now)
    root = _base_root(view, made, identity)
    if at == "/":
        _lay_at_root(view, made, root)
    else:
        _keep_base(view, made, root)
        before = place.node.id if place.node else None
        directories.forget_below(view, at)
        directories.set_entry(view, place.directory, place.name, root.id, place.node is None)
        journal.append(view, "overlay", at, "", before, root.id, _detail(made))
    return made


def _detail(overlay: Overlay) -> dict[str, object]:
    return {"host": overlay.host, "overlay": overlay.id}


def _host_directory(host: str) -> str:
    real = os.path.realpath(host)
    if not os.path.isdir(real):
        raise HostError(host, "it is no directory" if os.path.exists(real) else "it does not exist")
    try:
        os.listdir(real)
    except OSError as error:
        raise HostError(host, error.strerror or str(error)) from error
    return real


def _free_place(view: View, at: str) -> Place:
    """Return the place of an overlay: nothing, or an empty directory."""
    for above in tree.missing_above(view, at):
        tree.mkdir(view, above, nodes.DIRECTORY_MODE, False, True)
    place = directories.locate(view, at, follow=False, through=False)
    if place.node is None:
        return place
    if place.node.kind != DIRECTORY:
        raise AlreadyExists(at, "an overlay begins at an empty directory or a new one")
    names = set(directories.names(view.session, directories.resolve(view, at)))
    if at == "/":
        names -= {SYSTEM_NAME, LINKS_NAME}
    if names:
        raise AlreadyExists(at, f"it holds {len(names)} names; name another place for the overlay")
    return place


def _base_root(view: View, overlay: Overlay, identity: Identity) -> Node:
    ref = HostRef(overlay.id, "", identity)
    times = (identity.mtime_ns, identity.ctime_ns)
    mode = identity.mode & 0o7777
    made = nodes.add_from_host(
        view.session, DIRECTORY, mode, 0, nodes.ON_HOST, times, ref.encode()
    )  # fmt: skip
    return nodes.get(view.session, made)


def _lay_at_root(view: View, overlay: Overlay, base: Node) -> None:
    """Give the branch's own root what the base holds: the root has the servers' state too."""
    session, state = view.session, view.state
    branches.bump(session, state.name)
    before = state.root
    root = directories.root(view)
    for name, node in directories.scan(session, listing.fill(session, base.id)):
        directories.set_entry(view, root, name, node.id, True)
    directories.own(view, root)
    nodes.set_directory(view, root.id, base.mode, base.mtime_ns, nodes.get(session, root.id).xattrs)
    _set_base(view, overlay, base)
    branches.bump(session, state.name)
    journal.append(view, "overlay", "/", "", before, state.root, _detail(overlay))


def _keep_base(view: View, overlay: Overlay, base: Node) -> None:
    path = _set_base(view, overlay, base)
    journal.append(view, "overlay", path, "", None, base.id, _detail(overlay))


def _set_base(view: View, overlay: Overlay, base: Node) -> str:
    inner = inner_view(view)
    for above in (*tree.missing_above(inner, OVERLAYS_PATH), OVERLAYS_PATH):
        tree.mkdir(inner, above, _MODE, False, True)
    area = directories.resolve(inner, OVERLAYS_PATH)
    directories.set_entry(inner, area, str(overlay.id), base.id, True)
    return base_path(overlay)


def inner_view(view: View) -> View:
    """Return the view as the library itself has it, which sees the bases."""
    return View(view.session, view.state, True, view.principal)


def base_path(overlay: Overlay) -> str:
    """Return where in the tree an overlay's base is."""
    return join(OVERLAYS_PATH, str(overlay.id))


def base_of(view: View, overlay: Overlay) -> Directory:
    """Return the directory of an overlay's base."""
    return directories.resolve(inner_view(view), base_path(overlay))


def relative(overlay: Overlay, path: str) -> str:
    """Return a path of the volume relative to the overlay it is in."""
    return path[len(overlay.at) :].lstrip("/")


def listing_of(view: View) -> list[Overlay]:
    """Return the overlays of the view's branch."""
    rows = view.session.execute(_ALL).fetchall()
    there: set[str] = set()
    if rows:
        try:
            inner = inner_view(view)
            there = set(directories.names(view.session, directories.resolve(inner, OVERLAYS_PATH)))
        except (FileNotFoundError, NotADirectoryError):
            return []
    return [found for row in rows if str((found := _from_row(row)).id) in there]


def _from_row(row: Row) -> Overlay:
    return Overlay(row[0], from_stored(row[1]), from_stored(row[2]), row[3])


def require(view: View, at: str | None) -> Overlay:
    """Return the overlay at a path, or the only one.

    Raises:
        NotFound: there is none.
        InvalidArgument: there are several, and none was named.
    """
    known = listing_of(view)
    found = known if at is None else [each for each in known if each.at == at]
    if len(found) == 1:
        return found[0]
    places = ", ".join(each.at for each in known)
    if found:
        raise InvalidArgument("overlay", f"there are several ({places}); say which one")
    if known:
        raise NotFound(at or "", f"no overlay begins there; there is {places}")
    raise NotFound(
        at or "overlay",
        f"the branch {view.state.name!r} is laid over nothing; `agentfs overlay HOSTDIR` does that",
    )


def host_diff(view: View, at: str | None, path: str | None = None) -> list[Change]:
    """Return what the branch changed against the host's tree, with paths in the volume."""
    overlay = require(view, at)
    session = view.session
    old = nodes.get(session, base_of(view, overlay).id)
    new = None
    with suppress(FileNotFoundError, NotADirectoryError):
        new = directories.locate(view, overlay.at, follow=False, through=False).node
    roots = (old, nodes.get(session, view.state.root))
    found = diff.changes(session, old, new, overlay.at, False, view.limits, roots)
    return found if path is None else [each for each in found if is_inside(each.path, path)]


def discard(view: View, at: str | None, paths: Sequence[str] | None) -> list[Change]:
    """Give paths of an overlay, or all of it, back what the base has; return what was undone.

    Raises:
        NotFound: nothing changed at or below a path, or there is no overlay.
    """
    over = require(view, at)
    changes = host_diff(view, over.at)
    if paths is None:
        wanted = [over.at]
    else:
        wanted = sorted({resolve(over, each) for each in paths})
        for given in paths:
            require_change(changes, resolve(over, given), given)
    gone = [each for each in changes if any(is_inside(each.path, path) for path in wanted)]
    branches.bump(view.session, view.state.name)
    for path in topmost([each.path for each in gone] if over.at in wanted else wanted):
        _discard_one(view, over, path)
    return gone


def _discard_one(view: View, over: Overlay, path: str) -> None:
    below = relative(over, path)
    if not below and over.at == "/":
        root, base = directories.root(view), nodes.get(view.session, base_of(view, over).id)
        directories.own(view, root)
        xattrs = nodes.get(view.session, root.id).xattrs
        nodes.set_directory(view, root.id, base.mode, base.mtime_ns, xattrs)
        return
    for above in tree.missing_above(view, path):
        tree.mkdir(view, above, nodes.DIRECTORY_MODE, False, True)
    origin = join(base_path(over), below) if below else base_path(over)
    branches.bring_back(view, inner_view(view), origin, path)


def topmost(paths: Sequence[str]) -> list[str]:
    """Return the paths that are not inside another one of them; the root counts by itself."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(each != "/" and is_inside(path, each) for each in kept):
            kept.append(path)
    return kept


def require_change(changes: Sequence[Change], path: str, given: str) -> list[Change]:
    """Return the changes at and below a path.

    Raises:
        NotFound: there are none.
    """
    found = [each for each in changes if is_inside(each.path, path)]
    if not found:
        raise NotFound(
            given, "the branch changed nothing at or below it; see `agentfs diff --host`"
        )
    return found


def resolve(within: Overlay, path: str) -> str:
    """Return the path in the volume that somebody means by a path of an overlay.

    It is relative to the overlay's root, or an absolute one of the volume or the host.

    Raises:
        InvalidArgument: a relative path leads out of the overlay.
    """
    normal = posixpath.normpath(path)
    if normal.split("/")[0] == "..":
        raise InvalidArgument(path, "it leads out of the overlay")
    if not normal.startswith("/"):
        return posixpath.normpath(posixpath.join(within.at, normal))
    if is_inside(normal, within.host):
        rest = normal[len(within.host.rstrip("/")) :].lstrip("/")
        return join(within.at, rest) if rest else within.at
    return normal
