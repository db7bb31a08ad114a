"""Commands that look at the tree: ls, stat, cat."""

from __future__ import annotations

import stat as stat_bits
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.render import JsonOption, emit_json, emit_lines, safe, utc

if TYPE_CHECKING:
    from agentfs import AgentFS

_TYPE_BITS = {
    "file": stat_bits.S_IFREG,
    "directory": stat_bits.S_IFDIR,
    "symlink": stat_bits.S_IFLNK,
}


def ls(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A directory or file.")] = "/",
    long: Annotated[bool, typer.Option("-l", help="Mode, size, time as well.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List a directory. JSON: [{name, path, kind, mode, size, mtime_ns}]."""
    with context.obj.open() as fs:
        if as_json:
            emit_json([{"name": name, **_facts(fs, full)} for name, full in _members(fs, path)])
        elif long:
            emit_lines(_long(fs, name, full) for name, full in _members(fs, path))
        else:
            emit_lines(safe(name) for name, _ in _members(fs, path))


def stat(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="What to describe.")],
    as_json: JsonOption = False,
) -> None:
    """Describe one path. JSON: {path, kind, mode, size, mtime_ns, target?}."""
    with context.obj.open() as fs:
        facts = _facts(fs, path)
    if as_json:
        emit_json(facts)
    else:
        emit_lines(
            f"{name.removesuffix('_ns'):<6} {_shown(name, value)}" for name, value in facts.items()
        )


def cat(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="One or more files.")],
) -> None:
    """Write files to stdout, byte for byte."""
    out = sys.stdout.buffer
    with context.obj.open() as fs:
        for path in paths:
            rest = memoryview(fs.read(path))
            while rest:  # with PYTHONUNBUFFERED a write to a pipe may take a part only
                rest = rest[out.write(rest) :]
    out.flush()


def _members(fs: AgentFS, path: str) -> Iterator[tuple[str, str]]:
    if not fs.stat(path).is_dir:
        yield path, path
        return
    for name in sorted(fs.listdir(path)):
        yield name, f"{path.rstrip('/')}/{name}"


def _facts(fs: AgentFS, path: str) -> dict[str, Any]:
    found = fs.lstat(path)
    facts: dict[str, Any] = {
        "path": path,
        "kind": found.kind,
        "mode": found.mode,
        "size": found.size,
        "mtime_ns": found.mtime_ns,
    }
    if found.is_symlink:
        facts["target"] = fs.readlink(path)
    return facts


def _long(fs: AgentFS, name: str, path: str) -> str:
    facts = _facts(fs, path)
    mode = _mode(facts["kind"], facts["mode"])
    arrow = f" -> {safe(facts['target'])}" if "target" in facts else ""
    return f"{mode} {facts['size']:>10} {utc(facts['mtime_ns'])} {safe(name)}{arrow}"


def _mode(kind: str, mode: int) -> str:
    return stat_bits.filemode(_TYPE_BITS[kind] | mode & 0o7777)


def _shown(name: str, value: Any) -> str:
    if name == "mode":
        return f"{value & 0o7777:04o}"
    if name == "mtime_ns":
        return utc(value)
    return safe(str(value))


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs ls -l /src")(ls)
    app.command(epilog="Example:  agentfs stat /src/main.py")(stat)
    app.command(epilog="Example:  agentfs cat /src/main.py | wc -c")(cat)
