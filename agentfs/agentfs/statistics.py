"""Sizes and counts of a branch and its volume."""

from __future__ import annotations

import os

from . import directories, nodes
from .connection import one
from .nodes import DIRECTORY, FILE, View
from .types import Stats

_COUNTS = (
    "SELECT (SELECT count(*) FROM chunk), (SELECT coalesce(sum(length(data)), 0) FROM chunk),"
    " (SELECT count(*) FROM branch), (SELECT count(*) FROM snapshot),"
    " (SELECT count(*) FROM journal)"
)


def collect(view: View, path: str) -> Stats:
    """Walk the branch and count; the volume's own numbers are for all branches."""
    counts = {FILE: 0, DIRECTORY: 1, nodes.SYMLINK: 0}
    size = 0
    waiting = [nodes.get(view.session, view.state.root)]
    while waiting:
        for _, node in directories.scan(view.session, waiting.pop()):
            counts[node.kind] += 1
            if node.kind == DIRECTORY:
                waiting.append(node)
            elif node.kind == FILE:
                size += node.size
    stored = one(view.session.execute(_COUNTS), path)
    chunks, chunk_bytes, branches, snapshots, journal_rows = stored
    return Stats(
        files=counts[FILE],
        directories=counts[DIRECTORY],
        symlinks=counts[nodes.SYMLINK],
        logical_bytes=size,
        chunks=chunks,
        chunk_bytes=chunk_bytes,
        branches=branches,
        snapshots=snapshots,
        journal_rows=journal_rows,
        file_bytes=_file_bytes(path),
    )


def _file_bytes(path: str) -> int:
    """Return the size of the volume's file and its write-ahead log."""
    return sum(os.path.getsize(each) for each in (path, path + "-wal") if os.path.exists(each))
