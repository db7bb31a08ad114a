"""Commands that copy between the host and the volume: put, get."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.failures import EXIT_ERROR, Refusal
from agentfs.cli.render import (
    AtOption,
    JsonOption,
    count,
    emit_json,
    emit_lines,
    progress,
    safe,
    size,
)

if TYPE_CHECKING:
    from agentfs import AgentFS
    from agentfs.types import Totals

_SHOWN = 10


def put(
    context: typer.Context,
    host: Annotated[Path, typer.Argument(help="A file or directory of the host.")],
    path: Annotated[str, typer.Argument(help="Where it goes; a directory's contents go in.")],
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Leave out names that match; repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy one file or a tree into the volume. JSON: {host, path, files, ..., skipped, failed}."""
    if not os.path.lexists(host):
        raise Refusal(f"no host path {str(host)!r}; check the name from {os.getcwd()!r}")
    if not os.access(host, os.R_OK):
        raise Refusal(f"no permission to read host path {str(host)!r}; change its mode first")
    with context.obj.open() as fs, progress("put") as report:
        if not host.is_dir() and _is_directory(fs, path):
            path = f"{path.rstrip('/')}/{host.name}"
        totals = fs.put_tree(host, path, exclude=tuple(exclude or ()), progress=report)
    _say("Put", f"{host} at {safe(path)}", {"host": str(host), "path": path}, totals, as_json)
    warn(totals)


def get(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A file or directory of the volume.")],
    host: Annotated[Path, typer.Argument(help="Where it goes on the host.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace host files that are there.")
    ] = False,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy one file or a tree out of the volume. JSON: {path, host, files, ...}."""
    with context.obj.look(at) as fs:
        fs.lstat(path)
        if not _is_directory(fs, path) and host.is_dir():
            host = host / path.rsplit("/", 1)[-1]
        occupied = host.is_dir() and any(host.iterdir()) if host.is_dir() else host.exists()
        if occupied and not force:
            raise Refusal(f"host path {str(host)!r} exists; add --force to write over it")
        totals = fs.get_tree(path, host)
    _say("Got", f"{safe(path)} at {host}", {"path": path, "host": str(host)}, totals, as_json)


def _is_directory(fs: AgentFS, path: str) -> bool:
    return fs.exists(path) and fs.stat(path).is_dir


def _say(verb: str, what: str, names: dict[str, str], totals: Any, as_json: bool) -> None:
    figures: dict[str, Any] = dataclasses.asdict(totals)
    if as_json:
        emit_json({**names, **figures})
        return
    number = f"{count(figures['files'], 'file')}, {size(figures['bytes'])}"
    emit_lines([f"{verb} {what}: {number}."])


def warn(totals: Totals) -> None:
    """Name what did not come along; what could not be read makes the exit code 1."""
    for label, items in (("left out", totals.skipped), ("could not read", totals.failed)):
        for item in items[:_SHOWN]:
            typer.echo(f"agentfs: {label} {item}", err=True)
        if len(items) > _SHOWN:
            typer.echo(f"agentfs: {label} {len(items) - _SHOWN} more; see --json", err=True)
    if totals.failed:
        raise typer.Exit(EXIT_ERROR)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs put ./src /src --exclude '*.pyc'")(put)
    app.command(epilog="Example:  agentfs get /src ./copy")(get)
