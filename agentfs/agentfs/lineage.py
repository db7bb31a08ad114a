"""Which states two branches have in common: points, their parents, and the best common ones.

A point marks a state that was forked, kept as a snapshot, restored or merged. Points form a graph
as commits do elsewhere, with one difference: a parent says which area came along, because a handle
without `system` merges the files and leaves the system area behind. `prune`, which gc calls, lets
go of the points that no merge can need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from heapq import heapify, heappop, heappush

from .connection import one
from .transaction import Session

FILES, SYSTEM = 1, 2
BOTH = FILES | SYSTEM
_AREAS = (FILES, SYSTEM)
_OURS, _THEIRS, _COMMON, _STALE = 1, 2, 3, 4
_OF_BRANCH = "SELECT point FROM branch WHERE name = ?"
_OF_SNAPSHOT = "SELECT point FROM snapshot WHERE name = ?"
_SET_BRANCH = "UPDATE branch SET point = ? WHERE name = ?"
_SET_SNAPSHOT = "UPDATE snapshot SET point = ? WHERE name = ?"
_ROOT = "SELECT root FROM point WHERE id = ?"
_ADD = "INSERT INTO point(root) VALUES (?) RETURNING id"
_ADD_PARENT = "INSERT OR REPLACE INTO point_parent(point, parent, area) VALUES (?, ?, ?)"
_PARENTS = "SELECT parent FROM point_parent WHERE point = ? AND area & ?"
_HEADS = "SELECT point FROM branch UNION ALL SELECT point FROM snapshot"
_POINTS = "SELECT id, root FROM point"
_EDGES = "SELECT point, parent, area FROM point_parent"
_RELEASE = "UPDATE point SET root = NULL WHERE id = ?"
_DELETE = "DELETE FROM point WHERE id = ?"
_DELETE_PARENT = "DELETE FROM point_parent WHERE point = ? AND parent = ?"
# The roots that gc must keep for later merges.
ROOTS = "SELECT root FROM point WHERE root IS NOT NULL"


def mark(session: Session, ref: str) -> int:
    """Return the point of a branch's or snapshot's present state, made where there is none yet.

    The state must be shared already (see `branches.bump`), so that it cannot change any more.
    """
    state = session.ref(ref)
    found, store = (_OF_BRANCH, _SET_BRANCH) if state.generation else (_OF_SNAPSHOT, _SET_SNAPSHOT)
    last: int | None = one(session.execute(found, (ref,)), f"ref {ref}")[0]
    if last is not None and root(session, last) == state.root:
        return last
    point = add(session, state.root, {} if last is None else {last: BOTH})
    session.execute(store, (point, ref))
    return point


def add(session: Session, root: int | None, parents: Mapping[int, int]) -> int:
    """Make a point for a state that came from others, in these areas, and return its id."""
    point: int = one(session.execute(_ADD, (root,)), "point")[0]
    for parent, area in parents.items():
        session.execute(_ADD_PARENT, (point, parent, area))
    return point


def root(session: Session, point: int) -> int | None:
    """Return the root of a point's state, or None when no merge can need it."""
    return one(session.execute(_ROOT, (point,)), f"point {point}")[0]


def continue_from(session: Session, branch: str, point: int) -> None:
    """Let a branch's state be one that came from a point."""
    session.execute(_SET_BRANCH, (point, branch))


def common(session: Session, ours: Collection[int], theirs: int, area: int) -> list[int]:
    """Return the newest points that an area of both sides came from, none before another.

    Costs the points that are newer than the answer: ids grow from a point to those after it.
    """
    flags = dict.fromkeys(ours, _OURS)
    flags[theirs] = flags.get(theirs, 0) | _THEIRS
    waiting = [-point for point in flags]
    heapify(waiting)
    found: list[int] = []
    while any(not flags[-each] & _STALE for each in waiting):
        point = -heappop(waiting)
        below = flags[point]
        if below == _COMMON:
            found.append(point)
            below |= _STALE
        for (parent,) in session.execute(_PARENTS, (point, area)).fetchall():
            if parent not in flags:
                heappush(waiting, -parent)
            flags[parent] = flags.get(parent, 0) | below
    return found


def prune(session: Session) -> int:
    """Let go of the points that no merge can need; return how many states were let go.

    A point on which no branch or snapshot stands, and from which at most one other kept point came,
    cannot be the newest common one: what came from it all came from that other one too. Where one
    branch stands alone on a point, only its root goes.
    """
    heads = Counter(point for (point,) in session.execute(_HEADS) if point is not None)
    roots: dict[int, int | None] = dict(session.execute(_POINTS).fetchall())
    before: dict[tuple[int, int], int] = {
        (point, parent): area for point, parent, area in session.execute(_EDGES)
    }
    kept: set[int] = set()
    more = set(heads)
    # What one area keeps may make the other keep more.
    while more != kept:
        kept = more
        more = set[int]().union(*(_contract(roots, before, each, kept)[0] for each in _AREAS))
    after: dict[tuple[int, int], int] = {}
    for area in _AREAS:
        for edge in _contract(roots, before, area, kept)[1]:
            after[edge] = after.get(edge, 0) | area
    bases = {parent for _, parent in after} | {each for each, count in heads.items() if count > 1}
    released = [point for point, held in roots.items() if held and point not in bases]
    session.connection.executemany(_RELEASE, [(each,) for each in released])
    session.connection.executemany(_DELETE, [(each,) for each in roots if each not in kept])
    session.connection.executemany(_DELETE_PARENT, before.keys() - after.keys())
    changed = after.items() - before.items()
    session.connection.executemany(_ADD_PARENT, [(*edge, area) for edge, area in changed])
    return len(released)


def _contract(
    points: Collection[int], edges: Mapping[tuple[int, int], int], area: int, wanted: set[int]
) -> tuple[set[int], list[tuple[int, int]]]:
    """Return the points that stay in an area, and what each of them came from among these.

    The wanted points stay, and those that several others came from on separate ways. A set of
    points is an integer with a bit for each.
    """
    above: dict[int, list[int]] = {}
    for (point, parent), areas in edges.items():
        if areas & area:
            above.setdefault(parent, []).append(point)
    bits: dict[int, int] = {}
    later: dict[int, int] = {}
    nearest: dict[int, set[int]] = {}
    kept_edges: list[tuple[int, int]] = []
    for point in sorted(points, reverse=True):
        ups = set[int]().union(*(nearest[each] for each in above.get(point, ())))
        further = 0
        for up in ups:
            further |= later[up]
        ups = {up for up in ups if not further & bits[up]}
        nearest[point] = ups
        if point in wanted or len(ups) > 1:
            kept_edges += [(up, point) for up in ups]
            later[point] = further | sum(bits[up] for up in ups)
            bits[point] = 1 << len(bits)
            nearest[point] = {point}
    return set(bits), kept_edges
