"""Sizes and counts of branches, of paths and of the volume, exact for one consistent state.

A branch *stores* the bytes of every node and chunk that it reaches, each once and as they are on
disk (compressed, chunk lists included). What no other branch or snapshot reaches is *private*, the
rest *shared*.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from . import acl, chunklists, directories, links, listing, nodes
from .connection import one
from .errors import NotFound
from .nodes import DIRECTORY, FILE, LINK, ON_HOST, SYMLINK, Node, View
from .paths import LINKS_NAME, OVERLAYS_PATH, SYSTEM_NAME
from .transaction import Session
from .types import BranchStats, Stats, Usage

_COUNTS = (
    "SELECT (SELECT count(*) FROM chunk), (SELECT coalesce(sum(length(data)), 0) FROM chunk),"
    " (SELECT coalesce(sum(size), 0) FROM chunk), (SELECT count(*) FROM branch),"
    " (SELECT count(*) FROM snapshot), (SELECT count(*) FROM journal),"
    " (SELECT count(*) FROM node)"
)
_SNAPSHOTS = "SELECT name, root FROM snapshot"
_BRANCHES = "SELECT name, root FROM branch ORDER BY name"
_CHUNKS = "SELECT id, length(data) FROM chunk"
_ITEM = "n.id, n.kind, n.size, n.layout, n.depth, coalesce(length(n.data), 0)"
_NODE = f"SELECT {_ITEM} FROM node n WHERE n.id = ?"
_MEMBERS = f"SELECT {_ITEM} FROM entry e JOIN node n ON n.id = e.node WHERE e.bucket = ?"
_BUCKETS = "SELECT DISTINCT bucket FROM bucket_ref WHERE directory = ?"
_DATA = "SELECT layout, data FROM node WHERE id = ?"
_SHARED = -1
OVERLAYS_NAME = OVERLAYS_PATH.rpartition("/")[2]


class Item(NamedTuple):
    """A node and how many bytes of its own it stores."""

    id: int
    kind: int
    size: int
    layout: int
    depth: int
    stored: int


class Names(NamedTuple):
    """What the names of a tree add up to; a hard-linked file's bytes count once."""

    files: int
    directories: int
    symlinks: int
    logical_bytes: int


class Survey:
    """One look at a state of the volume, from several roots; each directory is read once for all.

    `private` are the stored bytes that only one root leads to; `distinct_bytes` the bytes of files
    before compression, equal pieces once, that the first `counted` roots lead to. What an overlay
    has on the host counts where somebody has listed it, with `lists` everywhere.
    """

    def __init__(
        self, session: Session, roots: list[int], counted: int, lists: bool = False
    ) -> None:
        """Follow all roots."""
        self.session = session
        self.lists = lists
        self.roots = roots
        self.private = [0] * len(roots)
        self.distinct_bytes = 0
        self.links: list[int] = []
        self._chunk_bytes: dict[int, int] = dict(session.execute(_CHUNKS))
        self._of_node: dict[int, int] = {}
        self._of_chunk: dict[int, int] = {}
        self._own: dict[int, Names] = {}
        self._below: dict[int, list[int]] = {}
        self._pieces: set[int] = set()
        for index, root in enumerate(roots):
            self._follow(index, root, index < counted)

    def _follow(self, index: int, root: int, counted: bool) -> None:
        waiting = [self._item(root)]
        while waiting:
            item = waiting.pop()
            is_new = item.id not in self._of_node
            if not self._claim(self._of_node, item.id, index, item.stored):
                continue
            if item.layout > 0:
                for chunk_id in chunklists.chunk_ids(self.session, self._content(item)):
                    self._claim(self._of_chunk, chunk_id, index, self._chunk_bytes.get(chunk_id, 0))
            if is_new and counted and item.kind == FILE:
                self._count_distinct(item)
            if is_new and item.kind == LINK:
                self.links.append(item.id)
            if item.kind == DIRECTORY:
                waiting += self._members(item)

    def _claim(self, owners: dict[int, int], thing: int, owner: int, stored: int) -> bool:
        """Note that a root leads to a thing; say whether what is below must be looked at."""
        known = owners.get(thing)
        if known is None:
            owners[thing] = owner
            self.private[owner] += stored
            return True
        if known in (owner, _SHARED):
            return False
        owners[thing] = _SHARED
        self.private[known] -= stored
        return True

    def _item(self, node_id: int) -> Item:
        if node_id in self.session.unseen.nodes:
            return self._unseen(node_id)
        return Item(*one(self.session.execute(_NODE, (node_id,)), f"node {node_id}"))

    def _unseen(self, node_id: int) -> Item:
        node, data = self.session.unseen.nodes[node_id]
        return Item(node.id, node.kind, node.size, node.layout, 0, len(data or b""))

    def _content(self, item: Item) -> chunklists.ChunkList:
        return chunklists.decode(*one(self.session.execute(_DATA, (item.id,)), f"node {item.id}"))

    def _members(self, directory: Item) -> list[Item]:
        """Return what a directory holds, and note what its own names add up to."""
        if self.lists and directory.layout == ON_HOST:
            listing.fill(self.session, directory.id)
            directory = self._item(directory.id)
        buckets = [(directory.id,)]
        if directory.depth:
            buckets = self.session.execute(_BUCKETS, (directory.id,)).fetchall()
        unseen = self.session.unseen.names.get(directory.id, {})
        found = [self._unseen(node.id) for node in unseen.values()]
        for bucket in buckets:
            found += map(Item._make, self.session.execute(_MEMBERS, bucket))
        if directory.id not in self._own:
            self._own[directory.id] = _names(found)
            self._below[directory.id] = [each.id for each in found if each.kind == DIRECTORY]
        return found

    def _count_distinct(self, item: Item) -> None:
        if item.layout <= 0:
            self.distinct_bytes += 0 if item.layout else item.size
            return
        content = self._content(item)
        self.distinct_bytes += len(content.tail)
        for piece in chunklists.segments(self.session, content):
            if piece.chunk_id != chunklists.HOLE and piece.chunk_id not in self._pieces:
                self._pieces.add(piece.chunk_id)
                self.distinct_bytes += piece.length

    def names(self, root: int, whole: bool = True) -> Names:
        """Return what the names at and below a node add up to, without the link area's.

        `whole` says that it is the root of a state, whose bases of overlays do not count.
        """
        if root not in self._own:
            return _names([self._item(root)])
        node = nodes.get(self.session, root)
        total = self._sum(root)
        area = directories.lookup(self.session, node, LINKS_NAME)
        if area is not None:  # its bytes count, its names are no more than a way to them
            total = _less(total, self._sum(area.id)._replace(logical_bytes=0))
        system = directories.lookup(self.session, node, SYSTEM_NAME)
        bases = whole and system and directories.lookup(self.session, system, OVERLAYS_NAME)
        if bases:
            total = _less(total, self._sum(bases.id))
        return total

    def _sum(self, root: int) -> Names:
        """Add up a tree, a directory with all below it once for all roots."""
        waiting = [root]
        while waiting:
            below = self._below.get(waiting[-1], ())
            missing = [each for each in below if each in self._below]
            if missing:
                waiting += missing
                continue
            directory = waiting.pop()
            if self._below.pop(directory, None) is not None:
                parts = [self._own[directory], *(self._own[each] for each in below)]
                self._own[directory] = Names(*map(sum, zip(*parts, strict=True)))
        return self._own[root]


def _less(total: Names, part: Names) -> Names:
    return Names(*(whole - each for whole, each in zip(total, part, strict=True)))


def _names(items: list[Item]) -> Names:
    """Add up the names of one directory."""
    kinds = [each.kind for each in items]
    return Names(
        kinds.count(FILE) + kinds.count(LINK),
        1,
        kinds.count(SYMLINK),
        sum(each.size for each in items if each.kind == FILE),
    )


def stored(session: Session, root: int) -> int:
    """Return the stored bytes of everything that a node leads to, each once."""
    return Survey(session, [root], 0).private[0]


def collect(view: View, path: str, every_branch: bool = False) -> Stats:
    """Return the figures of the view's branch and of the volume."""
    session, state = view.session, view.state
    branches: dict[str, int] = dict(session.execute(_BRANCHES).fetchall())
    refs = branches | dict(session.execute(_SNAPSHOTS).fetchall())
    refs.setdefault(state.name, state.root)
    survey = Survey(session, list(refs.values()), len(branches))
    wanted = list(branches) if every_branch else []
    figures = {name: _branch(survey, name, refs) for name in {*wanted, state.name}}
    mine, names = figures[state.name], survey.names(state.root)
    counts = one(session.execute(_COUNTS), path)
    chunks, chunk_bytes, raw_bytes, branch_count, snapshots, journal_rows, node_count = counts
    logical = sum(survey.names(root).logical_bytes for root in branches.values())
    return Stats(
        files=names.files,
        directories=names.directories,
        symlinks=names.symlinks,
        logical_bytes=names.logical_bytes,
        stored_bytes=mine.stored_bytes,
        shared_bytes=mine.shared_bytes,
        private_bytes=mine.private_bytes,
        nodes=node_count,
        chunks=chunks,
        chunk_bytes=chunk_bytes,
        branches=branch_count,
        snapshots=snapshots,
        journal_rows=journal_rows,
        file_bytes=file_bytes(path),
        free_bytes=_free_bytes(session),
        dedup_ratio=logical / survey.distinct_bytes if survey.distinct_bytes else 1.0,
        compression_ratio=raw_bytes / chunk_bytes if chunk_bytes else 1.0,
        per_branch=tuple(figures[name] for name in wanted),
    )


def _branch(survey: Survey, name: str, refs: dict[str, int]) -> BranchStats:
    private = survey.private[list(refs).index(name)]
    total = private if len(refs) == 1 else stored(survey.session, refs[name])
    logical = survey.names(refs[name]).logical_bytes
    return BranchStats(name, logical, total, total - private, private)


def usage(view: View, path: str) -> Usage:
    """Return what a path and all below it take."""
    place = directories.locate(view, path, follow=False)
    node = place.node
    if node is None:
        raise NotFound(path)
    acl.require_tree(view, place.path, "read")
    survey = Survey(view.session, [node.id], 0, lists=True)
    linked = _linked(view, survey, node)
    names = survey.names(node.id, node.id == view.state.root)
    return Usage(
        names.files,
        names.directories if node.kind == DIRECTORY else 0,
        names.symlinks,
        names.logical_bytes + sum(each.size for each in linked),
        survey.private[0] + sum(stored(view.session, each.id) for each in linked),
    )


def _linked(view: View, survey: Survey, node: Node) -> list[Node]:
    """Return the hard-linked files with names below a path that is not the root, each once."""
    if node.id == view.state.root:
        return []
    session = view.session
    root = nodes.get(session, view.state.root)
    files = [links.require_file(session, root, nodes.get(session, each)) for each in survey.links]
    return list({file.id: file for file, _ in files}.values())


def _free_bytes(session: Session) -> int:
    free = session.execute("PRAGMA freelist_count").get
    return free * session.execute("PRAGMA page_size").get


def file_bytes(path: str) -> int:
    """Return the size of the volume's file and its write-ahead log."""
    return sum(os.path.getsize(each) for each in (path, path + "-wal") if os.path.exists(each))
