"""Compares one host file with what a branch knows of it: its base, or what should be there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from blake3 import blake3

from . import copyup, files, nodes
from .errors import AgentFSError
from .hostfiles import HostRef, Identity
from .hostwrite import HostTree
from .nodes import DIRECTORY, FILE, LINK, ON_HOST, SYMLINK, Node
from .paths import from_stored
from .transaction import Session
from .types import Kind

_NAMES: tuple[tuple[Callable[[int], bool], Kind], ...] = (
    (stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "symlink"),
)  # fmt: skip
_KINDS = {DIRECTORY: stat.S_ISDIR, FILE: stat.S_ISREG, LINK: stat.S_ISREG}


def kind_of(info: os.stat_result) -> Kind | None:
    """Return the kind of a host file, or None for what an overlay does not hold."""
    for test, kind in _NAMES:
        if test(info.st_mode):
            return kind
    return None


def same_kind(info: os.stat_result, node: Node) -> bool:
    """Say whether a host file is of a node's kind."""
    return _KINDS.get(node.kind, stat.S_ISLNK)(info.st_mode)


def changed(session: Session, host: HostTree, overlay: int, path: str, base: Node | None) -> str:
    """Say how the host differs from the base at a path; empty when it does not."""
    info = host.look(path)
    if base is None:
        return "" if info is None else "the host has it meanwhile"
    if info is None:
        return "it is gone on the host"
    if not same_kind(info, base):
        return "it is of another kind on the host"
    if base.kind != SYMLINK and (info.st_mode ^ base.mode) & 0o777:
        return "its mode was changed on the host"
    if base.kind == DIRECTORY:
        return ""
    if base.kind == SYMLINK:
        same = host.target(path) == from_stored(nodes.data(session, base.id))
        return "" if same else "it leads elsewhere on the host"
    if base.layout == ON_HOST:
        return moved_on(session, host, overlay, path, HostRef.decode(nodes.data(session, base.id)))
    known, now = copyup.noted(session, overlay, path), Identity.of(info)
    if known is not None and not known[0].difference(now) and hash_of(session, base) == known[1]:
        return ""
    return "" if same_content(session, host, path, info, base) else "it was written to"


def moved_on(session: Session, host: HostTree, overlay: int, path: str, ref: HostRef) -> str:
    """Say how a host file differs from what was seen of it; empty when its bytes are the same.

    Another time alone is no difference where the hash of what was seen is known.
    """
    info = host.look(path)
    if info is None or not stat.S_ISREG(info.st_mode):
        return "it is gone on the host"
    why = ref.identity.difference(Identity.of(info))
    known = seen_hash(session, overlay, path, ref)
    if not why or known is None or ref.identity.size != info.st_size:
        return why
    return "" if _hash_blocks(host.blocks(path)) == known else why


def seen_hash(session: Session, overlay: int, path: str, ref: HostRef) -> bytes | None:
    """Return the hash of what was seen of a host file, if it was ever read whole."""
    known = copyup.noted(session, overlay, path)
    return None if known is None or known[0].difference(ref.identity) else known[1]


def reached(
    session: Session, host: HostTree, path: str, wanted: Node | None, modes: bool = False
) -> bool:
    """Say whether the host has at a path what is wanted there, so that nothing is to do.

    Of a directory the mode counts with `modes` alone, and what is in it never.
    """
    info = host.look(path)
    if wanted is None or info is None:
        return wanted is None and info is None
    if not same_kind(info, wanted):
        return False
    has_mode = not (info.st_mode ^ wanted.mode) & 0o777
    if wanted.kind == DIRECTORY:
        return has_mode or not modes
    if wanted.kind == SYMLINK:
        return host.target(path) == from_stored(nodes.data(session, wanted.id))
    return has_mode and same_content(session, host, path, info, wanted)


def only_mode(session: Session, host: HostTree, path: str, base: Node) -> bool:
    """Say whether a host file that changed has another mode and nothing else."""
    info = host.look(path)
    if info is None or not (info.st_mode ^ base.mode) & 0o777:
        return False
    if base.kind == DIRECTORY:
        return True
    if base.layout == ON_HOST:
        ref = HostRef.decode(nodes.data(session, base.id))
        return not ref.identity.difference(Identity.of(info))
    return same_content(session, host, path, info, base)


def same_content(
    session: Session, host: HostTree, path: str, info: os.stat_result, node: Node
) -> bool:
    """Say whether a host file has the content of a file version."""
    if info.st_size != node.size:
        return False
    try:
        return _hash_blocks(host.blocks(path)) == hash_of(session, node)
    except AgentFSError:  # the version's own content was on the host, and is no more
        return False


def hash_of(session: Session, node: Node) -> bytes:
    """Return the BLAKE3 hash of a file version's content."""
    return _hash_blocks(files.pieces_of(session, node))


def _hash_blocks(blocks: Iterator[bytes]) -> bytes:
    found = blake3()
    for block in blocks:
        found.update(block)
    return found.digest()
