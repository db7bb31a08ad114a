"""File objects: a buffer that commits what was written when it is flushed or closed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .errors import InvalidArgument
from .files import Patch

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

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


class FileHandle(io.BytesIO):
    """A binary file object; its writes reach the volume in one operation per flush.

    The writes are kept as patches and applied to the file as it is at the flush, so that what
    others wrote elsewhere in the file stays.
    """

    def __init__(
        self, path: str, data: bytes, can_read: bool, appends: bool,
        commit: Callable[[list[Patch]], None] | None,
    ) -> None:  # fmt: skip
        """Begin with the file's bytes; without `commit` the handle is read-only."""
        super().__init__(data)
        self.name = path
        self._can_read = can_read
        self._appends = appends
        self._commit = commit
        self._patches: list[Patch] = []
        if appends:
            self.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        """Say whether the mode allows reading."""
        return self._can_read

    def writable(self) -> bool:
        """Say whether the mode allows writing."""
        return self._commit is not None

    def _require_readable(self) -> None:
        if not self._can_read:
            raise io.UnsupportedOperation("not readable")

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes from the position."""
        self._require_readable()
        return super().read(size)

    def read1(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes from the position."""
        self._require_readable()
        return super().read1(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line."""
        self._require_readable()
        return super().readline(size)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write at the position, or at the end for an appending handle."""
        if self._commit is None:
            raise io.UnsupportedOperation("not writable")
        if self._appends:
            self.seek(0, io.SEEK_END)
        offset = self.tell()
        written = super().write(data)
        self._patches.append((offset, bytes(data)))
        return written

    def writelines(self, lines: Iterable[ReadableBuffer], /) -> None:
        """Write each of some byte strings."""
        for line in lines:
            self.write(line)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut or extend to a size, by default to the position."""
        if self._commit is None:
            raise io.UnsupportedOperation("not writable")
        size = self.tell() if size is None else size
        if size > len(self.getbuffer()):
            position = self.seek(0, io.SEEK_CUR)
            self.seek(0, io.SEEK_END)
            super().write(bytes(size - self.tell()))
            self.seek(position)
        else:
            super().truncate(size)
        self._patches.append((size, None))
        return size

    def flush(self) -> None:
        """Commit what was written since the last flush."""
        if self._patches and self._commit is not None and not self.closed:
            patches, self._patches = self._patches, []
            self._commit(patches)

    def close(self) -> None:
        """Commit and close; a second close does nothing."""
        if not self.closed:
            try:
                self.flush()
            finally:
                super().close()

    def __exit__(self, *exc: object) -> None:
        """Close; what was written before an exception is kept, as with a host file."""
        self.close()


def as_text(handle: FileHandle, encoding: str, newline: str | None) -> io.TextIOWrapper:
    """Return a text file object over a binary one."""
    return io.TextIOWrapper(handle, encoding=encoding, newline=newline)
