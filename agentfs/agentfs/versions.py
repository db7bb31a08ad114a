"""One version of a file, read in ranges: what a long reader sees does not change under it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import directories, files, nodes
from .errors import NotFound
from .paths import PathLike, normalise

if TYPE_CHECKING:
    from .filesystem import AgentFS

PIECE_BYTES = 1 << 20


class FileVersion:
    """The bytes that a file had when this was made, even after others replace or remove it.

    A `gc` that lets the version go ends it with `NotFound`.
    """

    def __init__(self, fs: AgentFS, path: PathLike) -> None:
        """Find the file.

        Raises:
            NotFound, IsADirectory.
        """
        self._fs = fs
        self._path = os.fspath(path)
        normal = normalise(path, fs.system)
        with fs.view_for_reading() as view:
            self._node = files.require_file(directories.locate(view, normal), normal)
        self.size = self._node.size

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes from `start` to `stop`."""
        with self._fs.view_for_reading() as view:
            if not nodes.exists(view.session, self._node.id):
                raise NotFound(self._path, "gc let this version go; open the file again")
            return files.content(view, self._node, start, stop)

    def pieces(self, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
        """Yield all bytes in order, at most so many at a time."""
        for start in range(0, self.size, piece_bytes):
            yield self.read(start, start + piece_bytes)
