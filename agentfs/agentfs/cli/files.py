"""Commands that change files and directories: write, rm, mv, cp, mkdir, ln."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from agentfs.cli.failures import EXIT_USAGE, Refusal
from agentfs.cli.render import JsonOption, emit_json, emit_lines, safe, size

if TYPE_CHECKING:
    from agentfs import AgentFS

_PIECE_BYTES = 8 << 20
_IN_MEMORY_BYTES = 64 << 20


class _OnlyTried(Exception):
    """Ends the transaction of a dry run."""


def write(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="The file to write; replaced if it exists.")],
    append: Annotated[bool, typer.Option("--append", "-a", help="Add to its end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write stdin to a file, as one operation. JSON: {path, size, appended}."""
    with context.obj.open() as fs:
        if sys.stdin.isatty():
            raise Refusal(f"nothing to write to {path!r}; pipe the bytes in on stdin", EXIT_USAGE)
        written = _write_all(fs, path, append)
    if as_json:
        emit_json({"path": path, "size": written, "appended": append})
    else:
        verb = "Appended" if append else "Wrote"
        print(f"{verb} {size(written)} to {safe(path)}.", file=sys.stderr)


def _write_all(fs: AgentFS, path: str, append: bool) -> int:
    """Write stdin in one transaction, which begins when all has come: stdin may be slow."""
    written = 0
    with SpooledTemporaryFile(_IN_MEMORY_BYTES) as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept, _PIECE_BYTES)
        kept.seek(0)
        with fs.transaction():
            while (piece := kept.read(_PIECE_BYTES)) or not written:
                if append or written:
                    fs.append(path, piece)
                else:
                    fs.write(path, piece)
                written += len(piece)
                if not piece:
                    break
    return written


def rm(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="What to remove.")],
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Directories with all they hold.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove files, or whole directories with -r. JSON: {removed: [path], dry_run}."""
    with context.obj.open() as fs, suppress(_OnlyTried), fs.transaction():
        for path in paths:
            fs.remove(path, recursive=recursive)
        if dry_run:
            raise _OnlyTried
    if as_json:
        emit_json({"removed": paths, "dry_run": dry_run})
    else:
        verb = "Would remove" if dry_run else "Removed"
        emit_lines(f"{verb} {safe(path)}." for path in paths)


def mv(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="What to move.")],
    target: Annotated[str, typer.Argument(help="Its new path, or a directory to put it in.")],
    as_json: JsonOption = False,
) -> None:
    """Move or rename, at once. JSON: {from, to}."""
    with context.obj.open() as fs:
        target = _inside(fs, source, target)
        fs.rename(source, target)
    if as_json:
        emit_json({"from": source, "to": target})
    else:
        emit_lines([f"Moved {safe(source)} to {safe(target)}."])


def cp(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A file, or a directory with all it holds.")],
    target: Annotated[str, typer.Argument(help="The copy, or a directory to put it in.")],
    _recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Accepted: directories are always whole.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy by sharing: nothing is read, and a directory costs as much as a file. JSON: {from, to}.

    A directory is copied to a place that is free.
    """
    with context.obj.open() as fs:
        target = _inside(fs, source, target)
        fs.copy(source, target)
    if as_json:
        emit_json({"from": source, "to": target})
    else:
        emit_lines([f"Copied {safe(source)} to {safe(target)}."])


def _inside(fs: AgentFS, source: str, target: str) -> str:
    """Return where a thing goes: into a directory that is there, under its own name."""
    fs.lstat(source)
    if not fs.is_dir(target):
        return target
    return f"{target.rstrip('/')}/{source.rstrip('/').rsplit('/', 1)[-1]}"


def ln(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="What the link leads to.")],
    path: Annotated[str, typer.Argument(help="Where the link is made.")],
    symbolic: Annotated[
        bool, typer.Option("-s", "--symbolic", help="A symbolic link; else a second name.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a hard link to a file, or a symbolic link with -s. JSON: {path, target, symbolic}."""
    with context.obj.open() as fs:
        if symbolic:
            fs.symlink(target, path)
        else:
            fs.link(target, path)
    if as_json:
        emit_json({"path": path, "target": target, "symbolic": symbolic})
    else:
        emit_lines([f"Linked {safe(path)} to {safe(target)}."])


def mkdir(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="Directories to make.")],
    parents: Annotated[
        bool, typer.Option("-p", "--parents", help="Parents too; fine if it exists.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make directories. JSON: {made: [path]}."""
    with context.obj.open() as fs, fs.transaction():
        for path in paths:
            fs.mkdir(path, parents=parents, exist_ok=parents)
    if as_json:
        emit_json({"made": paths})
    else:
        emit_lines(f"Made the directory {safe(path)}." for path in paths)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  echo hi | agentfs write /src/new.txt")(write)
    app.command(epilog="Example:  agentfs rm -r /build")(rm)
    app.command(epilog="Example:  agentfs mv /a.txt /docs/b.txt")(mv)
    app.command(epilog="Example:  agentfs cp /src /src-before")(cp)
    app.command(epilog="Example:  agentfs ln -s ../shared /src/shared")(ln)
    app.command(epilog="Example:  agentfs mkdir -p /src/lib")(mkdir)
