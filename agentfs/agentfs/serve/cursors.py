"""Parts of long lists: a walk that ends early, and the cursor with which the next call goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from agentfs.types import DirEntry

from .refusal import ToolRefusal

_WALK_S = 5.0


class Walk:
    """A bounded part of a walk; afterwards `more` says whether it ended early, and where."""

    def __init__(self, walk: Iterator[DirEntry], limit: int, top: str) -> None:
        """Take the walk, the most items, and the directory at which it began."""
        self._walk = walk
        self._limit = limit
        self._skip = 0 if top == "/" else len(top)
        self._until = time.monotonic() + _WALK_S
        self.more = False
        self.cursor: str | None = None
        self.keep: Callable[[str], bool] = lambda path: True

    def __iter__(self) -> Iterator[DirEntry]:
        """Yield what is kept until there is enough, or the time is up."""
        count, last = 0, ""
        for entry in self._walk:
            if count == self._limit or time.monotonic() > self._until:
                self.more = True
                self.cursor = to_cursor(last[self._skip :])
                return
            last = entry.path
            if self.keep(entry.path):
                count += 1
                yield entry


def to_cursor(relative: str, line: int = 0) -> str:
    """Return what names the last item of a part."""
    return json.dumps([relative, line], separators=(",", ":"))


def cursor_names(cursor: str) -> list[str] | None:
    """Return the names of the path in a cursor."""
    return None if not cursor else cursor_place(cursor)[0]


def cursor_place(cursor: str) -> tuple[list[str], int]:
    """Return the names of the path in a cursor, and the line in it.

    Raises:
        ToolRefusal: it is no cursor.
    """
    try:
        path, line = json.loads(cursor)
        return path.split("/")[1:], int(line)
    except (ValueError, TypeError, AttributeError):
        raise ToolRefusal(
            f"{cursor!r} is no cursor; give next_cursor of an earlier call as it was",
            "fs.invalid_argument",
        ) from None
