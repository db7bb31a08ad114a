"""Changes of text files as a unified diff, in the form that `git apply` and `patch -p1` read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import files, nodes, textmerge
from .types import Change, Stat

if TYPE_CHECKING:
    from .filesystem import AgentFS

CONTEXT_LINES = 3
MAX_BYTES = 8 << 20
"""Larger files are named, not compared by line."""
_GIT_TYPE = {"file": 0o100000, "symlink": 0o120000}
Span = tuple[int, int, int, int]
"""Lines of one version from, to, and of the other from, to, that replace each other."""


def unified(fs: AgentFS, change: Change) -> Iterator[bytes]:
    """Yield the lines of the patch for one change, with their line ends.

    Directories have none. What is not text, or is above 8 MiB, is only said to differ.
    """
    old, new = _version(change.before), _version(change.after)
    if old is None and new is None:
        return
    if old is not None and new is not None and old.kind != new.kind:
        yield from _file(change.path, old, None, _read(fs, old), b"")
        old = None
    was, now = _read(fs, old), _read(fs, new)
    yield from _file(change.path, old, new, was, now)


def _version(found: Stat | None) -> Stat | None:
    return None if found is None or found.is_dir else found


def _read(fs: AgentFS, found: Stat | None) -> bytes | None:
    """Return the bytes to compare, or None where there are too many."""
    if found is None:
        return b""
    if found.size > MAX_BYTES:
        return None
    with fs.view_for_reading() as view:
        node = nodes.get(view.session, found.node)
        if found.is_symlink:
            return nodes.data(view.session, node.id)
        return files.content(view, node)


def _file(
    path: str, old: Stat | None, new: Stat | None, was: bytes | None, now: bytes | None
) -> Iterator[bytes]:
    names = [_name("a", path), _name("b", path)]
    yield b"diff --git %s %s\n" % tuple(names)
    yield from _modes(old, new)
    if was is None or now is None or b"\0" in was or b"\0" in now:
        yield b"Binary files %s and %s differ\n" % tuple(names)
    elif was != now:
        yield b"--- %s\n" % (names[0] if old else b"/dev/null")
        yield b"+++ %s\n" % (names[1] if new else b"/dev/null")
        yield from _hunks(was.splitlines(keepends=True), now.splitlines(keepends=True))


def _name(side: str, path: str) -> bytes:
    """Return a name as git writes it: quoted where a byte could be taken for something else."""
    raw = f"{side}{path}".encode("utf-8", "surrogateescape")
    if all(32 <= each < 127 and each not in b'"\\' for each in raw):
        return raw
    return b'"%s"' % b"".join(_escaped(each) for each in raw)


def _escaped(byte: int) -> bytes:
    if byte in b'"\\':
        return b"\\%c" % byte
    return b"%c" % byte if 32 <= byte < 127 else b"\\%03o" % byte


def _modes(old: Stat | None, new: Stat | None) -> Iterator[bytes]:
    was, now = (_git_mode(each) if each else None for each in (old, new))
    if was is None and now is not None:
        yield b"new file mode %o\n" % now
    elif was is not None and now is None:
        yield b"deleted file mode %o\n" % was
    elif was is not None and now is not None and was != now:
        yield b"old mode %o\nnew mode %o\n" % (was, now)


def _git_mode(found: Stat) -> int:
    # Git has no FIFOs, sockets and device nodes: they look like empty files.
    kind = _GIT_TYPE.get(found.kind, _GIT_TYPE["file"])
    return kind | (0 if found.is_symlink else found.mode & 0o7777)


def _hunks(was: list[bytes], now: list[bytes]) -> Iterator[bytes]:
    for group in _groups(_spans(was, now)):
        start, stop = (
            max(group[0][0] - CONTEXT_LINES, 0),
            min(group[-1][1] + CONTEXT_LINES, len(was)),
        )
        start2 = group[0][2] - (group[0][0] - start)
        stop2 = group[-1][3] + (stop - group[-1][1])
        yield b"@@ -%s +%s @@\n" % (_range(start, stop), _range(start2, stop2))
        at = start
        for low, high, low2, high2 in group:
            yield from _marked(b" ", was[at:low])
            yield from _marked(b"-", was[low:high])
            yield from _marked(b"+", now[low2:high2])
            at = high
        yield from _marked(b" ", was[at:stop])


def _spans(was: list[bytes], now: list[bytes]) -> list[Span]:
    """Return what differs between the lines that both versions have."""
    spans: list[Span] = []
    at = at2 = 0
    for line, line2 in [*textmerge.matches(was, now), (len(was), len(now))]:
        if line > at or line2 > at2:
            spans.append((at, line, at2, line2))
        at, at2 = line + 1, line2 + 1
    return spans


def _groups(spans: list[Span]) -> Iterator[list[Span]]:
    """Yield the differences that share their lines of context."""
    group: list[Span] = []
    for span in spans:
        if group and span[0] - group[-1][1] > 2 * CONTEXT_LINES:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _range(start: int, stop: int) -> bytes:
    length = stop - start
    first = start + 1 if length else start
    return b"%d" % first if length == 1 else b"%d,%d" % (first, length)


def _marked(mark: bytes, lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield mark + line
        if not line.endswith(b"\n"):
            yield b"\n\\ No newline at end of file\n"
