"""Merges a branch or snapshot into a branch, against the state that both came from."""

from __future__ import annotations

from collections.abc import Sequence

from . import acl, branches, diff, journal, lineage, links, nodes
from .errors import Corrupt, InvalidArgument, MergeConflict
from .lineage import BOTH, FILES, SYSTEM
from .nodes import Node, View
from .transaction import RefState, Session
from .treemerge import TreeMerge
from .types import MergeResult, Strategy

STRATEGIES = ("fail", "ours", "theirs")
# How deep bases are merged where branches were merged crosswise, each time after the last.
_MAX_CROSSED = 8


def merge(view: View, name: str, strategy: Strategy, dry_run: bool = False) -> MergeResult:
    """Merge a branch or snapshot into the view's branch; the caller undoes a dry run.

    Raises:
        MergeConflict: both sides changed the same thing and the strategy is "fail".
    """
    session, state = view.session, view.state
    if strategy not in STRATEGIES:
        raise InvalidArgument(strategy, "a strategy is 'fail', 'ours' or 'theirs'")
    if name == state.name:
        raise InvalidArgument(name, "a branch cannot be merged into itself")
    source = session.ref(name)
    # What is taken from the source, and what was there before, must not change any more.
    for each in (source, state):
        if each.generation:
            branches.bump(session, each.name)
    ours, theirs = lineage.mark(session, state.name), lineage.mark(session, name)
    before, their_root = nodes.get(session, state.root), nodes.get(session, source.root)
    work = TreeMerge(view, strategy)
    brought = 0
    for area in (FILES, SYSTEM) if view.system else (FILES,):
        shared = lineage.common(session, [ours], theirs, area)
        if shared != [theirs]:
            work.bring(_base(view, shared, area), their_root, area)
            brought |= area
    _settle_links(view, before, their_root)
    found = links.named(session, (before, their_root), work.conflicts)
    conflicts = tuple(sorted(found, key=lambda each: (each.path, each.kind)))
    if conflicts and strategy == "fail" and not dry_run:
        raise MergeConflict(name, conflicts)
    if brought:
        point = lineage.add(session, None, {ours: BOTH, theirs: brought})
        lineage.continue_from(session, state.name, point)
    now = nodes.get(session, state.root)
    changed = diff.changes(session, before, now, "/", view.system)
    acl.require_changes(view, changed)
    detail = {"changes": len(changed), "conflicts": len(conflicts)}
    journal.append(view, "merge", "/", name, before.id, now.id, detail)
    return MergeResult(tuple(changed), conflicts, not dry_run)


def _settle_links(view: View, before: Node, theirs: Node) -> None:
    now = nodes.get(view.session, view.state.root)
    if any(links.has_any(view.session, each) for each in (theirs, now)):
        links.reconcile(view, before, theirs, list(diff.new_links(view.session, before, now)))


def _base(view: View, points: Sequence[int], area: int, crossed: int = 0) -> Node | None:
    """Return the root of what both sides have in common, or None where that is nothing.

    Where they were merged crosswise there are several common states; these are merged with each
    other. What is in conflict between them becomes what neither side has, so that it is in conflict
    again unless both sides agree on it.
    """
    if not points:
        return None
    session = view.session
    found = _state(session, points[0])
    for index, other in enumerate(points[1 : None if crossed < _MAX_CROSSED else 1], 1):
        shared = lineage.common(session, points[:index], other, area)
        below = _base(view, shared, area, crossed + 1)
        scratch = RefState("", found.id, session.new_generation())
        crosswise = View(session, scratch, True, view.principal)
        TreeMerge(crosswise, "neither").bring(below, _state(session, other), area)
        found = nodes.get(session, scratch.root)
    return found


def _state(session: Session, point: int) -> Node:
    root = lineage.root(session, point)
    if root is None:
        raise Corrupt(f"point {point}", "a merge needs its state")
    return nodes.get(session, root)
