"""Commands that change files and directories: write, rm, mv, mkdir."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agentfs.cli.failures import EXIT_USAGE, Refusal
from agentfs.cli.render import JsonOption, emit_json, emit_lines, safe, size


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
        data = sys.stdin.buffer.read()
        if append:
            fs.append(path, data)
        else:
            fs.write(path, data)
    if as_json:
        emit_json({"path": path, "size": len(data), "appended": append})
    else:
        verb = "Appended" if append else "Wrote"
        print(f"{verb} {size(len(data))} to {safe(path)}.", file=sys.stderr)


def rm(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="What to remove.")],
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Directories with all they hold.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove files, or whole directories with -r. JSON: {removed: [path]}."""
    with context.obj.open() as fs, fs.transaction():
        for path in paths:
            fs.remove(path, recursive=recursive)
    if as_json:
        emit_json({"removed": paths})
    else:
        emit_lines(f"Removed {safe(path)}." for path in paths)


def mv(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="What to move.")],
    target: Annotated[str, typer.Argument(help="Its new path, or a directory to put it in.")],
    as_json: JsonOption = False,
) -> None:
    """Move or rename, at once. JSON: {from, to}."""
    with context.obj.open() as fs:
        if fs.exists(target) and fs.stat(target).is_dir:
            target = f"{target.rstrip('/')}/{source.rstrip('/').rsplit('/', 1)[-1]}"
        fs.rename(source, target)
    if as_json:
        emit_json({"from": source, "to": target})
    else:
        emit_lines([f"Moved {safe(source)} to {safe(target)}."])


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
    app.command(epilog="Example:  agentfs mkdir -p /src/lib")(mkdir)
