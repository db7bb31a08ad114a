"""File objects: ranges are read when they are needed, writes commit in bounded portions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import directories, files, nodes
from .edits import Overlay
from .errors import AlreadyExists, Corrupt, InvalidArgument
from .files import Patch
from .nodes import Node, View

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from .filesystem import AgentFS

BUFFER_BYTES = 128 * 1024
COMMIT_BYTES = 8 * 1024 * 1024
_MODES = {"r", "w", "a", "x"}


def parse_mode(mode: str) -> tuple[str, bool, bool]:
    """Return the kind of an open mode (r, w, a or x), whether `+`, and whether text.

    Raises:
        InvalidArgument: the mode is none that `open` knows.
    """
    kinds = [each for each in mode if each in _MODES]
    if len(kinds) != 1 or set(mode) - _MODES - set("+bt") or len(mode) != len(set(mode)):
        raise InvalidArgument(mode, "an open mode is r, w, a or x, with + and with b or t")
    if "b" in mode and "t" in mode:
        raise InvalidArgument(mode, "a file is opened as binary or as text, not both")
    return kinds[0], "+" in mode, "b" not in mode


class _File(io.RawIOBase):
    """The unbuffered part: reads ranges of one version, and collects writes for a commit.

    What others commit meanwhile is not seen until this handle commits; its writes are applied to
    the file as it is then, so that what others wrote elsewhere in the file stays.
    """

    def __init__(self, fs: AgentFS, path: str, node: Node, can_write: bool, appends: bool) -> None:
        super().__init__()
        self.name = path
        self._fs = fs
        self._node = node
        self._can_write = can_write
        self._appends = appends
        self._written = Overlay()
        self._size = node.size
        self._position = node.size if appends else 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return self._can_write

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = (0, self._position, self._size)[whence]
        if start + offset < 0:
            raise InvalidArgument(self.name, "a position cannot be negative")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        start = self._position
        target = target[: max(self._size - start, 0)]
        found = self._read(start, start + len(target))
        target[: len(found)] = found
        target[len(found) :] = bytes(len(target) - len(found))
        self._written.read_into(target, start)
        self._position += len(target)
        return len(target)

    def _read(self, start: int, stop: int) -> bytes:
        if start >= self._node.size or start >= stop:
            return b""
        with self._fs.view_for_reading() as view:
            try:
                return files.content(view, self._node, start, stop)
            except Corrupt:
                # gc may have let an old version go; then the file as it is now takes its place.
                now = files.require_file(directories.locate(view, self.name), self.name)
                if now.id == self._node.id:
                    raise
                self._node = now
                return files.content(view, now, start, stop)

    def write(self, data: ReadableBuffer, /) -> int:
        if not self._can_write:
            raise io.UnsupportedOperation("not writable")
        if self._appends:
            self._position = self._size
        raw = memoryview(data).cast("B")
        self._written.write(self._position, raw)
        self._position += len(raw)
        self._size = max(self._size, self._position)
        if self._written.size_bytes >= COMMIT_BYTES:
            self.commit()
        return len(raw)

    def truncate(self, size: int | None = None, /) -> int:
        if not self._can_write:
            raise io.UnsupportedOperation("not writable")
        size = self._position if size is None else size
        self._apply([*self._written.take(), (size, None)])
        return size

    def commit(self) -> None:
        """Write what was collected in one operation."""
        patches = self._written.take()
        if patches:
            self._apply(patches)

    def _apply(self, patches: Sequence[Patch]) -> None:
        with self._fs.view_for_writing() as view:
            if self._appends and all(data is not None for _, data in patches):
                made = files.append(view, self.name, b"".join(data or b"" for _, data in patches))
            else:
                made = files.patch(view, self.name, patches)
            self._node = nodes.get(view.session, made)
        self._size = self._node.size

    def close(self) -> None:
        if not self.closed:
            try:
                self.commit()
            finally:
                super().close()


class Reader(io.BufferedReader):
    """A binary file object for reading; it holds a buffer, never the file."""


class Writer(io.BufferedWriter):
    """A binary file object for writing; a flush, the close and every 8 MiB are one operation."""

    def flush(self) -> None:
        """Commit what was written since the last flush."""
        super().flush()
        _commit(self.raw)


class Editor(io.BufferedRandom):
    """A binary file object for reading and writing; see Writer."""

    def flush(self) -> None:
        """Commit what was written since the last flush."""
        super().flush()
        _commit(self.raw)


FileHandle = Reader | Writer | Editor


def _commit(raw: object) -> None:
    if isinstance(raw, _File) and not raw.closed:
        raw.commit()


def open_file(
    fs: AgentFS, path: str, mode: str, encoding: str, newline: str | None
) -> FileHandle | io.TextIOWrapper:
    """Return a file object; modes are those of the builtin `open`.

    Raises:
        InvalidArgument, NotFound, AlreadyExists, IsADirectory.
    """
    kind, plus, text = parse_mode(mode)
    if kind == "r":
        with fs.view_for_reading() as view:
            node = files.require_file(directories.locate(view, path), path)
    else:
        with fs.view_for_writing() as view:
            node = _made(view, path, kind)
    raw = _File(fs, path, node, kind != "r" or plus, kind == "a")
    handle = (Editor if plus else Reader if kind == "r" else Writer)(raw, BUFFER_BYTES)
    return as_text(handle, encoding, newline) if text else handle


def _made(view: View, path: str, kind: str) -> Node:
    """Return the file that an open for writing begins with."""
    place = directories.locate(view, path)
    if kind == "x" and place.node is not None:
        raise AlreadyExists(path)
    if kind == "a" and place.node is not None:
        return files.require_file(place, path)
    return nodes.get(view.session, files.write_at(view, place, b"", None, "write"))


def as_text(handle: FileHandle, encoding: str, newline: str | None) -> io.TextIOWrapper:
    """Return a text file object over a binary one."""
    return io.TextIOWrapper(handle, encoding=encoding, newline=newline)
