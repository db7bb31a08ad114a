"""The tool that looks into files: fs_grep."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from agentfs.errors import AgentFSError, NotFound, VolumeError
from agentfs.filesystem import AgentFS
from agentfs.types import DirEntry

from .area import Area
from .arguments import Branch, Cursor, Path, limit
from .cursors import cursor_place, to_cursor
from .declare import tool
from .matching import Matcher, Query, TimeUp
from .refusal import ToolRefusal
from .results import GrepMatch, GrepResult
from .walking import Pattern, entries

SEARCH_S = 10.0
_MAX_FILE_BYTES = 16 * 1024 * 1024
_BATCH_BYTES = 1024 * 1024
_BATCH_FILES = 200
_PROBE_BYTES = 8192
_MAX_SKIPPED = 20


_File = tuple[str, bytes]
"""The path of a file and its content."""


class Searching:
    """The search, with the process that does it."""

    def __init__(self, area: Area, seconds: float = SEARCH_S) -> None:
        """Search what an area may reach, for so long at a time."""
        self._area = area
        self._seconds = seconds
        self._matcher = Matcher()

    def close(self) -> None:
        """Stop the process."""
        self._matcher.close()

    def kill(self) -> None:
        """Stop the process at once, also from a signal handler."""
        self._matcher.kill()

    @tool("Search in files", read_only=True)
    def fs_grep(
        self,
        pattern: Annotated[
            str, Field(description="A Python regular expression.", min_length=1, max_length=1000)
        ],
        path: Path = "/",
        glob: Annotated[
            str, Field(description="Only files whose path below 'path' matches, as fs_glob.")
        ] = "",
        fixed: Annotated[bool, Field(description="Take the pattern as plain text.")] = False,
        ignore_case: bool = False,
        output: Annotated[
            Literal["lines", "files"], Field(description="Lines that match, or only their files.")
        ] = "lines",
        limit: Annotated[int, limit(1000)] = 100,
        cursor: Cursor = "",
        branch: Branch = "",
    ) -> GrepResult:
        """Find lines of text files that match, with path and line number, in the order of paths.

        Use this to find where something is written, then fs_read around the line. Binary files are
        passed over. A search ends after ten seconds; next_cursor then goes on.
        """
        fs = self._area.handle(branch)
        query = Query(pattern, fixed, ignore_case, output == "files")
        search = _Search(self._area, fs, self._matcher, query, limit, self._seconds)
        with self._area.looking(fs):
            try:
                real = self._area.real(fs, path)
                if fs.is_file(real):
                    search.one(real, cursor)
                else:
                    search.below(real, Pattern(glob) if glob else None, cursor)
            except NotFound as error:
                raise ToolRefusal(
                    f"there is nothing at {path!r}{self._area.near(fs, path)}", error.code
                ) from None
        return search.result()


class _Search:
    """One call of fs_grep."""

    def __init__(
        self, area: Area, fs: AgentFS, matcher: Matcher, query: Query, limit: int, seconds: float
    ) -> None:
        self._area = area
        self._fs = fs
        self._matcher = matcher
        self._query = query
        self._limit = limit
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._top = ""
        self._found: list[GrepMatch] = []
        self._files: list[str] = []
        self._searched = 0
        self._skipped: list[str] = []
        self._cursor: str | None = None
        self._last: str | None = None  # behind the last match that is returned
        self._done: str | None = None  # behind the last file that was searched to its end
        self._timed_out = False

    def one(self, path: str, cursor: str) -> None:
        """Search one file."""
        self._top = path
        text = self._text(path, self._fs.stat(path).size)
        if text is not None:
            self._batch([(path, text)], _line(cursor))

    def below(self, top: str, pattern: Pattern | None, cursor: str) -> None:
        """Search the files below a directory, from where an earlier call ended."""
        self._top = "" if top == "/" else top
        names, line = ([], 0) if not cursor else cursor_place(cursor)
        if names and line:
            self._batch(list(self._rest_of(names)), line)
        waiting: list[_File] = []
        size = 0
        for entry in entries(self._fs, top, None, names):
            if self._cursor is not None:
                return
            if time.monotonic() > self._deadline:
                self._give_up(entry.path)
                return
            text = self._wanted(entry, pattern)
            if text is not None:
                waiting.append((entry.path, text))
                size += len(text)
            elif not waiting:
                self._done = to_cursor(entry.path[len(self._top) :])
            if size >= _BATCH_BYTES or len(waiting) >= _BATCH_FILES:
                self._batch(waiting)
                waiting, size = [], 0
        if self._cursor is None:
            self._batch(waiting)

    def _wanted(self, entry: DirEntry, pattern: Pattern | None) -> bytes | None:
        """Return the text of a file that is searched."""
        relative = entry.path[len(self._top) :].split("/")[1:]
        if not entry.stat.is_file or (pattern is not None and not pattern.matches(relative)):
            return None
        return self._text(entry.path, entry.stat.size)

    def _rest_of(self, names: list[str]) -> Iterator[_File]:
        """Yield the file in the middle of which an earlier call ended, if it is still there."""
        path = self._top + "".join(f"/{each}" for each in names)
        if self._fs.is_file(path) and self._fs.lstat(path).is_file:
            text = self._text(path, self._fs.stat(path).size)
            if text is not None:
                yield path, text

    def _text(self, path: str, size: int) -> bytes | None:
        """Return what is searched in a file; nothing of one that is no text, or too large."""
        if size > _MAX_FILE_BYTES:
            self._skip(path)
            return None
        try:
            if b"\0" in self._fs.read(path, 0, _PROBE_BYTES):
                return None
            return self._fs.read(path)
        except VolumeError:
            raise
        except AgentFSError:  # not readable, or gone or changed in the host of an overlay
            self._skip(path)
            return None

    def _skip(self, path: str) -> None:
        if len(self._skipped) < _MAX_SKIPPED:
            self._skipped.append(self._area.shown(path))

    def _batch(self, texts: list[_File], after: int = 0) -> None:
        """Search some files; with `after` only what is behind that line of the first one."""
        if not texts:
            return
        sent = [_behind(text, after) for _, text in texts]
        try:
            # One more than fit, to know whether there is more.
            answer = self._matcher.search(
                self._query, sent, self._limit + 1 - self._count(), self._deadline
            )
        except TimeUp:
            self._give_up(texts[0][0])
            return
        for (path, _), lines in zip(texts, answer, strict=True):
            self._searched += 1
            for number, text in lines:
                if self._count() == self._limit:
                    self._cursor = self._last
                    return
                self._take(path, number + after, text)
            self._done, after = to_cursor(path[len(self._top) :]), 0

    def _count(self) -> int:
        return len(self._files) if self._query.files else len(self._found)

    def _take(self, path: str, number: int, text: str) -> None:
        shown = self._area.shown(path)
        if self._query.files:
            self._files.append(shown)
        else:
            self._found.append(GrepMatch(path=shown, line=number, text=text))
        self._last = to_cursor(path[len(self._top) :], 0 if self._query.files else number)

    def _give_up(self, path: str) -> None:
        """End for want of time: with what there is, or in a sentence when there is nothing."""
        if self._done is None:
            raise ToolRefusal(
                f"the search took more than {self._seconds:g} s at or behind"
                f" {self._area.shown(path)!r}; use a simpler pattern (no repetition inside a"
                " repetition, as in '(a+)+'), fixed=true, or a smaller 'path'",
                "fs.timeout",
            )
        self._timed_out = True
        self._cursor = self._done

    def result(self) -> GrepResult:
        """Return what was found."""
        return GrepResult(
            matches=self._found, files=self._files, files_searched=self._searched,
            skipped=self._skipped, truncated=self._cursor is not None, next_cursor=self._cursor,
            timed_out=self._timed_out,
        )  # fmt: skip


def _line(cursor: str) -> int:
    return 0 if not cursor else cursor_place(cursor)[1]


def _behind(text: bytes, line: int) -> bytes:
    """Return what is behind a line."""
    place = 0
    for _ in range(line):
        place = text.find(b"\n", place) + 1
        if not place:
            return b""
    return text[place:]
