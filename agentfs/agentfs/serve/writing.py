"""The tools that change files and names: fs_write, fs_edit, fs_move, fs_remove."""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import Field

from agentfs import journal
from agentfs.errors import IsADirectory, NotEmpty, NotFound
from agentfs.filesystem import AgentFS
from agentfs.paths import split
from agentfs.types import Stat

from .area import Area
from .arguments import Branch, IfNode, Path
from .declare import tool
from .refusal import ToolRefusal
from .results import EditResult, MoveResult, RemoveResult, WriteResult

MAX_WRITE_BYTES = 16 * 1024 * 1024
_SNIPPET_LINES = 3
_SNIPPET_BYTES = 4000
_SHOWN = 120
_COMPARED_LINES = 5000


class Writing:
    """Tools that change one path; each is one transaction."""

    def __init__(self, area: Area) -> None:
        """Write to what an area may reach."""
        self._area = area

    @tool("Write a file", destructive=True)
    def fs_write(
        self,
        path: Path,
        content: Annotated[str, Field(description="The whole content, or what is appended.")],
        mode: Annotated[
            Literal["replace", "create", "append"],
            Field(description="'create' fails when the file exists."),
        ] = "replace",
        encoding: Annotated[
            Literal["utf-8", "base64"], Field(description="'base64' for binary content.")
        ] = "utf-8",
        if_node: IfNode = None,
        branch: Branch = "",
    ) -> WriteResult:
        """Write a whole file, or append to one; missing directories are made.

        Use this for new files, and fs_edit to change a part of one. With if_node nothing that
        somebody else wrote meanwhile is lost.
        """
        data = _decoded(content, encoding)
        with self._changing(branch) as (fs, back):
            old = self._stat(fs, path)
            self._check(path, old, mode, if_node)
            if old is None:
                fs.mkdir(split(self._area.path(path))[0], parents=True, exist_ok=True)
            real = self._area.real(fs, path)
            if mode == "append":
                fs.append(real, data)
            else:
                fs.write(real, data)
            info = fs.stat(real)
            return WriteResult(
                path=self._area.shown(real), created=old is None, size_bytes=info.size,
                node=info.node, undo=back,
            )  # fmt: skip

    @contextmanager
    def _changing(self, branch: str) -> Iterator[tuple[AgentFS, str]]:
        """Open a branch for one transaction, and name the moment before it."""
        fs = self._area.handle(branch)
        with fs.transaction():
            yield fs, present(fs)

    def _stat(self, fs: AgentFS, given: str) -> Stat | None:
        try:
            return fs.stat(self._area.real(fs, given))
        except NotFound:
            return None

    def _check(self, path: str, old: Stat | None, mode: str, if_node: int | None) -> None:
        if old is not None and not old.is_file:
            raise ToolRefusal(f"{path!r} is a {old.kind}, not a file", IsADirectory.code)
        if mode == "create" and old is not None:
            raise ToolRefusal(
                f"{path!r} exists; read it first, then use mode='replace' with if_node={old.node}",
                "fs.already_exists",
            )
        _same_version(path, old, if_node)

    @tool("Replace text in a file", destructive=True)
    def fs_edit(
        self,
        path: Path,
        old_text: Annotated[
            str, Field(description="Exactly as in the file, without line numbers.", min_length=1)
        ],
        new_text: str,
        replace_all: Annotated[
            bool, Field(description="Replace each occurrence; else there must be exactly one.")
        ] = False,
        if_node: IfNode = None,
        branch: Branch = "",
    ) -> EditResult:
        """Replace a text that occurs exactly once in a file, or with replace_all each occurrence.

        Use this to change a part of a file after reading it. Give enough of the lines around the
        place to make old_text unique. The file's own line ends are kept.
        """
        with self._changing(branch) as (fs, back):
            real, info = self._editable(fs, path)
            _same_version(path, info, if_node)
            data = fs.read(real)
            old, new = _as_in(data, old_text), _as_in(data, new_text)
            count = data.count(old)
            if count != 1 and not (replace_all and count):
                raise ToolRefusal(_no_single(path, data, old, count), "fs.no_match")
            if old == new:
                raise ToolRefusal("old_text and new_text are the same; nothing would change")
            first = data.index(old)
            changed = data.replace(old, new)
            fs.write(real, changed)
            made = fs.stat(real)
            line, snippet = _around(changed, first, len(new))
            return EditResult(
                path=self._area.shown(real), replacements=count, first_line=line, snippet=snippet,
                size_bytes=made.size, node=made.node, undo=back,
            )  # fmt: skip

    def _editable(self, fs: AgentFS, path: str) -> tuple[str, Stat]:
        info = self._stat(fs, path)
        if info is None:
            raise ToolRefusal(
                f"there is no file {path!r}{self._area.near(fs, path)}; make it with fs_write",
                NotFound.code,
            )
        if not info.is_file:
            raise ToolRefusal(f"{path!r} is a {info.kind}, not a file", IsADirectory.code)
        if info.size > MAX_WRITE_BYTES:
            raise ToolRefusal(
                f"{path!r} has {info.size} bytes, and at most {MAX_WRITE_BYTES} can be edited"
            )
        return self._area.real(fs, path), info

    @tool("Move or rename", destructive=True)
    def fs_move(
        self,
        source: Path,
        target: Path,
        overwrite: Annotated[
            bool, Field(description="Replace a file, or an empty directory, at the target.")
        ] = False,
        branch: Branch = "",
    ) -> MoveResult:
        """Move or rename a file, link or directory; missing directories of the target are made.

        Use this instead of writing a copy and removing the original: it costs nothing.
        """
        with self._changing(branch) as (fs, back):
            old = self._there(fs, source)
            self._keep_root(old, source)
            fs.mkdir(split(self._area.path(target))[0], parents=True, exist_ok=True)
            new = self._area.real(fs, target, follow=False)
            self._keep_root(new, target)
            replaced = _exists(fs, new)
            if replaced and not overwrite:
                raise ToolRefusal(
                    f"{target!r} exists; name another target, or set overwrite=true",
                    "fs.already_exists",
                )
            fs.rename(old, new)
            shown = self._area.shown(old), self._area.shown(new)
            return MoveResult(source=shown[0], target=shown[1], replaced=replaced, undo=back)

    def _there(self, fs: AgentFS, given: str) -> str:
        """Return the place of something that exists; a final link is the place itself."""
        try:
            real = self._area.real(fs, given, follow=False)
            fs.lstat(real)
        except NotFound as error:
            raise ToolRefusal(
                f"there is nothing at {given!r}{self._area.near(fs, given)}", error.code
            ) from None
        return real

    def _keep_root(self, real: str, given: str) -> None:
        if real == self._area.root:
            raise ToolRefusal(f"{given!r} is the directory of this server, and stays")

    @tool("Remove", destructive=True)
    def fs_remove(
        self,
        path: Path,
        recursive: Annotated[
            bool, Field(description="Remove a directory with all that is below it.")
        ] = False,
        if_node: IfNode = None,
        branch: Branch = "",
    ) -> RemoveResult:
        """Remove a file, a link, an empty directory, or with recursive=true a whole directory.

        Use fs_restore with 'undo' of the result, and the path, to bring it back.
        """
        with self._changing(branch) as (fs, back):
            real = self._there(fs, path)
            self._keep_root(real, path)
            info = fs.lstat(real)
            _same_version(path, info, if_node)
            try:
                if info.is_dir and not recursive:
                    fs.rmdir(real)
                else:
                    fs.remove(real, recursive=recursive)
            except NotEmpty:
                raise ToolRefusal(
                    f"{path!r} is not empty; set recursive=true to remove all below it",
                    NotEmpty.code,
                ) from None
            return RemoveResult(path=self._area.shown(real), kind=info.kind, undo=back)


def present(fs: AgentFS) -> str:
    """Return the moment that a transaction begins from; call before it writes."""
    with fs.view_for_reading() as view:
        return f"@{journal.bounds(view.session)[1]}"


def _exists(fs: AgentFS, real: str) -> bool:
    try:
        fs.lstat(real)
    except NotFound:
        return False
    return True


def _decoded(content: str, encoding: str) -> bytes:
    try:
        if encoding == "base64":
            data = base64.b64decode(content, validate=True)
        else:
            data = content.encode()
    except (binascii.Error, ValueError) as error:
        raise ToolRefusal(f"content is not {encoding}: {error}", "fs.invalid_argument") from None
    if len(data) > MAX_WRITE_BYTES:
        raise ToolRefusal(
            f"content has {len(data)} bytes, and at most {MAX_WRITE_BYTES} go in one call; write"
            " the first part and append the others"
        )
    return data


def _same_version(path: str, info: Stat | None, if_node: int | None) -> None:
    if if_node is None or (info is not None and info.node == if_node):
        return
    now = "it is gone" if info is None else f"it is version {info.node} now"
    raise ToolRefusal(
        f"{path!r} was changed since version {if_node} ({now}); read it again and redo the change",
        "fs.changed",
    )


def _as_in(data: bytes, text: str) -> bytes:
    r"""Return text with the file's line ends: a model sees and writes \n only."""
    raw = text.encode()
    if b"\r\n" in data and b"\r\n" not in raw:
        return raw.replace(b"\n", b"\r\n")
    return raw


def _no_single(path: str, data: bytes, old: bytes, count: int) -> str:
    """Say why a text cannot be replaced, and what would help."""
    if count:
        places: list[int] = []
        start = data.find(old)
        while start >= 0 and len(places) < 10:
            places.append(data.count(b"\n", 0, start) + 1)
            start = data.find(old, start + len(old))
        lines = ", ".join(map(str, places))
        return (
            f"old_text occurs {count} times in {path!r} (lines {lines}); add lines around the one"
            " you mean, or set replace_all=true"
        )
    return f"old_text is not in {path!r}{_nearest(data, old)}; read the file and copy it exactly"


def _nearest(data: bytes, old: bytes) -> str:
    """Return what in the file is most like the first line that is looked for."""
    wanted = next((each for each in old.decode("utf-8", "replace").split("\n") if each.strip()), "")
    lines = data.decode("utf-8", "replace").split("\n")[:_COMPARED_LINES]
    exact = [number for number, each in enumerate(lines, 1) if wanted in each]
    if exact:
        return f" (its first line is in line {exact[0]}, but what follows there differs)"
    stripped = {each.strip()[:_SHOWN]: number for number, each in enumerate(lines, 1)}
    near = difflib.get_close_matches(wanted.strip()[:_SHOWN], stripped, n=1, cutoff=0.7)
    return f" (nearest is line {stripped[near[0]]}: {near[0]!r})" if near else ""


def _around(data: bytes, start: int, length: int) -> tuple[int, str]:
    """Return the number of the line at a place, and the lines around it, numbered."""
    first = data.count(b"\n", 0, start) + 1
    last = first + data.count(b"\n", start, start + length)
    lines = data.split(b"\n")
    low, high = max(first - 1 - _SNIPPET_LINES, 0), last + _SNIPPET_LINES
    shown = "".join(
        f"{number:6}\t{line.decode('utf-8', 'replace')[:_SHOWN]}\n"
        for number, line in enumerate(lines[low:high], low + 1)
    )
    return first, shown[:_SNIPPET_BYTES]
