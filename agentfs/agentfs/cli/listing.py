"""Commands that look at one place of the tree: ls, stat, cat."""

from __future__ import annotations

import stat as stat_bits
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.render import AtOption, JsonOption, emit_json, emit_lines, emit_rows, safe, utc

if TYPE_CHECKING:
    from agentfs import AgentFS
    from agentfs.types import DirEntry, Stat

_TYPE_BITS = {
    "file": stat_bits.S_IFREG, "directory": stat_bits.S_IFDIR, "symlink": stat_bits.S_IFLNK,
    "fifo": stat_bits.S_IFIFO, "socket": stat_bits.S_IFSOCK, "character": stat_bits.S_IFCHR,
    "block": stat_bits.S_IFBLK,
}  # fmt: skip


def ls(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A directory or file.")] = "/",
    long: Annotated[bool, typer.Option("-l", help="Mode, size, time as well.")] = False,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a directory. JSON: [{name, path, kind, mode, size, mtime_ns, target?}]."""
    with context.obj.look(at) as fs:
        members = _members(fs, path)
        if as_json:
            emit_rows({"name": each.name, **facts(fs, each.path, each.stat)} for each in members)
        elif long:
            emit_lines(_long(fs, each) for each in members)
        else:
            emit_lines(safe(each.name) for each in members)


def stat(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="What to describe.")],
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe one path. JSON: {path, kind, mode, size, mtime_ns, target?}."""
    with context.obj.look(at) as fs:
        found = facts(fs, path, fs.lstat(path))
    if as_json:
        emit_json(found)
    else:
        emit_lines(
            f"{name.removesuffix('_ns'):<6} {_shown(name, value)}" for name, value in found.items()
        )


def cat(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="One or more files.")],
    at: AtOption = None,
) -> None:
    """Write files to stdout, byte for byte."""
    from agentfs.versions import FileVersion  # noqa: PLC0415 - keeps --help fast

    with context.obj.look(at) as fs:
        for path in paths:
            _write_out(FileVersion(fs, path).pieces())
    sys.stdout.buffer.flush()


def _write_out(pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        rest = memoryview(piece)
        while rest:  # with PYTHONUNBUFFERED a write to a pipe may take a part only
            rest = rest[sys.stdout.buffer.write(rest) :]


def _members(fs: AgentFS, path: str) -> list[DirEntry]:
    from agentfs.types import DirEntry  # noqa: PLC0415 - keeps --help fast

    if fs.stat(path).is_dir:
        return fs.scandir(path)
    return [DirEntry(path, path, fs.lstat(path))]


def facts(fs: AgentFS, path: str, found: Stat) -> dict[str, Any]:
    """Return what a JSON form says of one path."""
    said: dict[str, Any] = {
        "path": path,
        "kind": found.kind,
        "mode": found.mode,
        "size": found.size,
        "mtime_ns": found.mtime_ns,
    }
    if found.is_symlink:
        said["target"] = fs.readlink(path)
    return said


def _long(fs: AgentFS, entry: DirEntry) -> str:
    found = entry.stat
    mode = stat_bits.filemode(_TYPE_BITS[found.kind] | found.mode & 0o7777)
    arrow = f" -> {safe(fs.readlink(entry.path))}" if found.is_symlink else ""
    return f"{mode} {found.size:>10} {utc(found.mtime_ns)} {safe(entry.name)}{arrow}"


def _shown(name: str, value: Any) -> str:
    if name == "mode":
        return f"{value & 0o7777:04o}"
    if name == "mtime_ns":
        return utc(value)
    return safe(str(value))


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs ls -l /src --at before-refactor")(ls)
    app.command(epilog="Example:  agentfs stat /src/main.py")(stat)
    app.command(epilog="Example:  agentfs cat /src/main.py --at -2h | wc -c")(cat)
