"""Limits on the bytes and names of a branch; only branches that have one pay for counting.

`directories` notes which nodes a name led to before and after; `journal.append`, which ends every
operation, settles the account here. A fork takes the limits along, so that it escapes none.
"""

from __future__ import annotations

from collections import Counter

from . import directories, nodes
from .connection import one
from .errors import InvalidArgument, PermissionDenied, QuotaExceeded
from .nodes import DIRECTORY, FILE, Node, View
from .paths import OVERLAYS_PATH
from .transaction import Session
from .types import Quota

_GET = "SELECT max_bytes, max_files, used_bytes, used_files FROM quota WHERE branch = ?"
_SET = (
    "INSERT OR REPLACE INTO quota(branch, max_bytes, max_files, used_bytes, used_files)"
    " VALUES (?, ?, ?, ?, ?)"
)
_USE = "UPDATE quota SET used_bytes = ?, used_files = ? WHERE branch = ?"
_DROP = "DELETE FROM quota WHERE branch = ?"
_ALL = (
    "SELECT b.name, b.root, q.used_bytes, q.used_files FROM quota q JOIN branch b"
    " ON b.name = q.branch ORDER BY b.name"
)
_LIMIT = 1 << 62


def read(view: View) -> Quota:
    """Return the limits and the use of the view's branch; without limits the tree is counted."""
    row = view.session.execute(_GET, (view.state.name,)).fetchone()
    if row is None:
        return Quota(None, None, *_below(view.session, view.state.root))
    return Quota(*row)


def limit(view: View, max_bytes: int | None, max_files: int | None) -> None:
    """Set the limits of the view's branch; without any it is not counted any more.

    Its journal row must follow.
    """
    if not view.system:
        raise PermissionDenied("quota", "only a handle opened with system=True sets it")
    for value in (max_bytes, max_files):
        if value is not None and not 0 <= value <= _LIMIT:
            raise InvalidArgument(str(value), f"a limit is 0 to {_LIMIT}")
    session, name = view.session, view.state.name
    session.branch(name)
    if max_bytes is None and max_files is None:
        session.execute(_DROP, (name,))
        view.state.replaced = None
        return
    used = _below(session, view.state.root)
    session.execute(_SET, (name, max_bytes, max_files, *used))
    view.state.replaced = []


def forked(view: View, name: str, source: str, root: int) -> None:
    """Give a new branch the limits of the branch it came from, or else of the forking one."""
    session = view.session
    for each in dict.fromkeys((source, view.state.name)):
        row = session.execute(_GET, (each,)).fetchone()
        if row is not None:
            same = session.ref(each).root == root
            used = row[2:] if same else _below(session, root)
            session.execute(_SET, (name, *row[:2], *used))
            return


def drop(session: Session, name: str) -> None:
    """Forget the limits of a branch that is deleted."""
    session.execute(_DROP, (name,))


def recount(view: View) -> None:
    """Count a branch whose whole tree was replaced; its journal row must follow."""
    if view.state.replaced is not None:
        row = one(view.session.execute(_GET, (view.state.name,)), f"quota {view.state.name}")
        _use(view, Quota(*row), *_below(view.session, view.state.root))
        view.state.replaced.clear()


def settle(view: View) -> None:
    """Count what changed since the last time.

    Raises:
        QuotaExceeded: the branch grew beyond a limit; the operation must be undone.
    """
    replaced = view.state.replaced
    if not replaced:
        return
    changes: Counter[int] = Counter()
    for before, after in replaced:
        if before is not None:
            changes[before] -= 1
        if after is not None:
            changes[after] += 1
    replaced.clear()
    quota = Quota(*one(view.session.execute(_GET, (view.state.name,)), f"quota {view.state.name}"))
    used_bytes, used_files = quota.used_bytes, quota.used_files
    for node_id, times in changes.items():
        if times:
            size, count = totals(view.session, nodes.get(view.session, node_id))
            used_bytes, used_files = used_bytes + times * size, used_files + times * count
    _use(view, quota, used_bytes, used_files)


def _use(view: View, quota: Quota, used_bytes: int, used_files: int) -> None:
    for what, maximum, was, now in (
        ("bytes", quota.max_bytes, quota.used_bytes, used_bytes),
        ("files", quota.max_files, quota.used_files, used_files),
    ):
        if maximum is not None and now > max(maximum, was):
            raise QuotaExceeded(
                view.state.name, f"{now} {what} are wanted, the limit is {maximum}, {was} are used"
            )
    view.session.execute(_USE, (used_bytes, used_files, view.state.name))


def totals(session: Session, node: Node) -> tuple[int, int]:
    """Return the bytes of all files and the number of names that a name brings."""
    size, count = (node.size if node.kind == FILE else 0), 1
    waiting = [node] if node.kind == DIRECTORY else []
    while waiting:
        for _, child in directories.scan(session, waiting.pop()):
            count += 1
            if child.kind == DIRECTORY:
                waiting.append(child)
            elif child.kind == FILE:
                size += child.size
    return size, count


def _below(session: Session, root: int) -> tuple[int, int]:
    """Return what a root has; the bases of overlays, the same files once more, do not count."""
    node: Node | None = nodes.get(session, root)
    assert node is not None
    size, count = totals(session, node)
    for name in OVERLAYS_PATH.split("/")[1:]:
        node = node and directories.lookup(session, node, name)
    if node is None:
        return size, count - 1
    base_size, base_count = totals(session, node)
    return size - base_size, count - base_count


def wrong(session: Session) -> list[str]:
    """Return a sentence for each branch whose counters are not what a walk finds."""
    found: list[str] = []
    for name, root, used_bytes, used_files in session.execute(_ALL).fetchall():
        real = _below(session, root)
        if real != (used_bytes, used_files):
            counted = f"counts {used_bytes} bytes in {used_files} names"
            found.append(f"branch {name!r} {counted} and has {real[0]} in {real[1]}")
    return found


def repair(session: Session) -> str:
    """Count every branch with a limit again, and say so."""
    for name, root, *_ in session.execute(_ALL).fetchall():
        session.execute(_USE, (*_below(session, root), name))
    return "it was counted again"
