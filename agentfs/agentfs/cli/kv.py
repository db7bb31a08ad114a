"""The command kv: keys with JSON values, which follow forks, restores and merges."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from agentfs.cli.failures import EXIT_ERROR, EXIT_USAGE, Refusal
from agentfs.cli.render import AtOption, JsonOption, emit_json, emit_lines, safe

_MISSING = object()
_NO_SUCH_KEY = 3

kv = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keys with JSON values; they follow forks, restores and merges.",
    epilog="Example:  agentfs kv set plan '{\"step\": 1}' && agentfs kv get plan",
)


@kv.command(epilog="Example:  agentfs kv get plan --at before-refactor")
def get(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key.")],
    at: AtOption = None,
) -> None:
    """Print the JSON value of a key; exit code 3: it is not set."""
    with context.obj.look(at) as fs:
        value: Any = fs.kv.get(key, _MISSING)
    if value is _MISSING:
        raise Refusal(f"no such key: {key!r}; list them with `agentfs kv list`", _NO_SUCH_KEY)
    emit_json(value)


@kv.command("set", epilog="Example:  agentfs kv set plan '{\"step\": 1}'")
def set_(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key.")],
    value: Annotated[str, typer.Argument(help="JSON, or - for stdin.")],
    text: Annotated[bool, typer.Option("--text", help="The value is a text, not JSON.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Set a key. JSON: {key}."""
    if value == "-":
        value = sys.stdin.read()
    with context.obj.open() as fs:
        fs.kv.set(key, value if text else _parse(value))
    if as_json:
        emit_json({"key": key})
    else:
        emit_lines([f"Set {safe(key)}."])


def _parse(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise Refusal(
            f"the value is no JSON ({error}); add --text for a text", EXIT_USAGE
        ) from error


@kv.command(epilog="Example:  agentfs kv delete plan")
def delete(
    context: typer.Context,
    keys: Annotated[list[str], typer.Argument(help="Keys.")],
    as_json: JsonOption = False,
) -> None:
    """Delete keys; exit code 1: none of them was set. JSON: {deleted: [key]}."""
    with context.obj.open() as fs, fs.transaction():
        deleted = [key for key in keys if fs.kv.delete(key)]
    if as_json:
        emit_json({"deleted": deleted})
    else:
        emit_lines(f"Deleted {safe(key)}." for key in deleted)
    if not deleted:
        raise typer.Exit(EXIT_ERROR)


@kv.command("list", epilog="Example:  agentfs kv list user. --json")
def list_(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(help="Only keys that begin so.")] = "",
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """List keys. JSON: {key: value}."""
    with context.obj.look(at) as fs:
        keys = fs.kv.list(prefix)
        if as_json:
            emit_json({key: fs.kv.get(key) for key in keys})
        else:
            emit_lines(safe(key) for key in keys)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(kv, name="kv")
