"""The tools that look at files and names: fs_read, fs_list, fs_glob, fs_stat."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from agentfs.errors import IsADirectory, NotFound
from agentfs.filesystem import AgentFS
from agentfs.types import Stat

from .area import Area, printable
from .arguments import Branch, Cursor, Path, limit
from .cursors import Walk, cursor_names
from .declare import tool
from .parts import PROBE_BYTES, FileParts, Image, image_type, mime_of
from .refusal import ToolRefusal
from .results import Entry, GlobResult, ListResult, ReadResult, StatResult
from .walking import Pattern, entries

READ_BYTES = 48 * 1024
MAX_READ_BYTES = 256 * 1024


class Reading:
    """Tools that change nothing."""

    def __init__(self, area: Area) -> None:
        """Read from what an area may reach."""
        self._area = area

    @tool("Read a file", read_only=True)
    def fs_read(
        self,
        path: Path,
        start_line: Annotated[int, Field(description="First line, from 1.", ge=1)] = 1,
        line_count: Annotated[int, Field(description="The most lines to return.", ge=1)] = 2000,
        start_byte: Annotated[
            int | None, Field(description="Read bytes from here instead of lines.", ge=0)
        ] = None,
        byte_count: Annotated[
            int | None, Field(description="With start_byte: how many bytes.", ge=1)
        ] = None,
        numbered: Annotated[
            bool, Field(description="Put the line number and a tab before each line.")
        ] = True,
        max_bytes: Annotated[
            int, Field(description="The most content to return.", ge=256, le=MAX_READ_BYTES)
        ] = READ_BYTES,
        branch: Branch = "",
    ) -> ReadResult | Image:
        """Read a text file by lines or bytes, a binary file as base64, or look at an image.

        Use this before you change a file: 'node' in the result says which version you saw. A long
        file comes in parts; 'next_start_line' or 'next_start_byte' says where to go on.
        """
        fs = self._area.handle(branch)
        with self._area.looking(fs):
            real = self._file(fs, path)
            file = FileParts(fs, real, self._area.shown(real))
            if start_byte is not None or byte_count is not None:
                return file.by_bytes(start_byte or 0, min(byte_count or max_bytes, max_bytes))
            head = fs.read(real, 0, PROBE_BYTES)
            image = image_type(head)
            if image is not None:
                return file.as_image(image)
            if b"\0" in head:
                return file.by_bytes(0, max_bytes)
            return file.by_lines(start_line, line_count, max_bytes, numbered)

    def _file(self, fs: AgentFS, given: str) -> str:
        """Return where a file is, with near names where nothing is."""
        try:
            real = self._area.real(fs, given)
            info = fs.stat(real)
        except NotFound as error:
            raise ToolRefusal(
                f"there is no file {given!r}{self._area.near(fs, given)}", error.code
            ) from None
        if info.is_dir:
            raise ToolRefusal(
                f"{given!r} is a directory; look at it with fs_list", IsADirectory.code
            )
        if not info.is_file:
            raise ToolRefusal(f"{given!r} is a {info.kind}, which has no content")
        return real

    @tool("List a directory", read_only=True)
    def fs_list(
        self,
        path: Path = "/",
        depth: Annotated[int, Field(description="Levels below; 1 is the directory's own names.",
                                    ge=1, le=20)] = 1,
        limit: Annotated[int, limit(1000)] = 200,
        cursor: Cursor = "",
        branch: Branch = "",
    ) -> ListResult:  # fmt: skip
        """List the names in a directory, in order, with kind, size and time.

        Use this to find your way. For names by pattern use fs_glob, for content fs_grep.
        """
        fs = self._area.handle(branch)
        with self._area.looking(fs):
            real = self._directory(fs, path)
            walk = Walk(entries(fs, real, depth, cursor_names(cursor)), limit, real)
            found = [self._entry(each.path, each.stat) for each in walk]
        return ListResult(
            path=self._area.shown(real), entries=found, truncated=walk.more,
            next_cursor=walk.cursor,
        )  # fmt: skip

    @tool("Find names", read_only=True)
    def fs_glob(
        self,
        pattern: Annotated[
            str,
            Field(
                description="Such as '*.py' (at any depth), 'src/**/test_*.py' or '/docs/*.md'; *,"
                " ? and [...] stay within a name, ** is any number of directories.",
                min_length=1,
                max_length=1000,
            ),
        ],
        path: Path = "/",
        limit: Annotated[int, limit(2000)] = 500,
        cursor: Cursor = "",
        branch: Branch = "",
    ) -> GlobResult:
        """Find files and directories below a path by a pattern for their names, in order.

        Use this when you know something of a name; fs_grep looks into files.
        """
        fs = self._area.handle(branch)
        wanted = Pattern(pattern)
        with self._area.looking(fs):
            real = self._directory(fs, path)
            skip = 0 if real == "/" else len(real)
            walk = Walk(entries(fs, real, None, cursor_names(cursor)), limit, real)
            walk.keep = lambda found: wanted.matches(found[skip:].split("/")[1:])
            paths = [self._area.shown(each.path) for each in walk]
        return GlobResult(
            pattern=pattern, paths=paths, truncated=walk.more, next_cursor=walk.cursor
        )

    def _directory(self, fs: AgentFS, given: str) -> str:
        """Return where a directory is, with near names where none is."""
        try:
            real = self._area.real(fs, given)
            info = fs.stat(real)
        except NotFound as error:
            raise ToolRefusal(
                f"there is no directory {given!r}{self._area.near(fs, given)}", error.code
            ) from None
        if not info.is_dir:
            raise ToolRefusal(
                f"{given!r} is no directory; read it with fs_read", "fs.not_a_directory"
            )
        return real

    @tool("Look at one path", read_only=True)
    def fs_stat(self, path: Path, branch: Branch = "") -> StatResult:
        """Return kind, size, mode, time and version of a path; of a link also its target.

        Use this to see whether something exists or has changed ('node') without reading it. Of a
        directory it says how many files and bytes are below.
        """
        fs = self._area.handle(branch)
        with self._area.looking(fs):
            try:
                real = self._area.real(fs, path, follow=False)
                info = fs.lstat(real)
            except NotFound as error:
                raise ToolRefusal(
                    f"there is nothing at {path!r}{self._area.near(fs, path)}", error.code
                ) from None
            below = fs.du(real) if info.is_dir else None
            return StatResult(
                path=self._area.shown(real), kind=info.kind, size_bytes=info.size,
                mode=f"{info.mode:04o}", mtime=when(info.mtime_ns), node=info.node,
                names=info.links, target=printable(fs.readlink(real)) if info.is_symlink else None,
                mime_type=mime_of(real, fs.read(real, 0, 16)) if info.is_file else None,
                files_below=None if below is None else below.files,
                bytes_below=None if below is None else below.logical_bytes,
            )  # fmt: skip

    def _entry(self, path: str, info: Stat) -> Entry:
        return Entry(
            path=self._area.shown(path), kind=info.kind, size_bytes=info.size,
            mtime=when(info.mtime_ns),
        )  # fmt: skip


def when(time_ns: int) -> str:
    """Return a time as ISO 8601 in UTC, to the second."""
    try:
        moment = datetime.fromtimestamp(time_ns // 1_000_000_000, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return f"ns:{time_ns}"
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
