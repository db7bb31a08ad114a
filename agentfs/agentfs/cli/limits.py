"""Commands that limit a branch or a principal: quota, rules."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from agentfs.cli.failures import EXIT_ERROR, EXIT_USAGE, Refusal
from agentfs.cli.render import JsonOption, emit_json, emit_lines, safe, size
from agentfs.cli.searching import byte_count

if TYPE_CHECKING:
    from agentfs.types import Quota

_DENIED = 6


def quota(
    context: typer.Context,
    max_bytes: Annotated[
        str | None, typer.Option("--bytes", metavar="SIZE", help="At most 500k, 10M, 2G, or none.")
    ] = None,
    max_files: Annotated[
        str | None, typer.Option("--files", metavar="N", help="At most so many names, or none.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show or set the limits of a branch. JSON: {max_bytes, max_files, used_bytes, used_files}.

    Setting needs --system. What is not named stays as it is; `none` takes a limit away.
    """
    with context.obj.open() as fs:
        if max_bytes is not None or max_files is not None:
            _require_system(context, "setting a quota")
            with fs.transaction():
                now = fs.quota()
                fs.set_quota(
                    now.max_bytes if max_bytes is None else _bytes(max_bytes),
                    now.max_files if max_files is None else _files(max_files),
                )
        found = fs.quota()
        branch = str(fs.branch)
    if as_json:
        emit_json(dataclasses.asdict(found))
    else:
        emit_lines(_quota_lines(branch, found))


def _require_system(context: typer.Context, what: str) -> None:
    if not context.obj.system:
        command = context.command_path.replace("agentfs", "agentfs --system", 1)
        raise Refusal(f"permission denied: {what} needs --system, as in `{command} ...`", _DENIED)


def _bytes(text: str) -> int | None:
    return None if text == "none" else byte_count(text)


def _files(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise Refusal(f"{text!r} is no number of files; write it as 1000 or none", EXIT_USAGE)
    return int(text)


def _quota_lines(branch: str, found: Quota) -> list[str]:
    most = "no limit" if found.max_bytes is None else f"of {size(found.max_bytes)}"
    most_files = "no limit" if found.max_files is None else f"of {found.max_files}"
    return [
        f"branch {safe(branch)}",
        f"bytes  {size(found.used_bytes)} {most}",
        f"files  {found.used_files} {most_files}",
    ]


class Access(StrEnum):
    """What a rule allows."""

    READ = "read"
    WRITE = "write"
    NONE = "none"


rules = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Who may read or write what, by path prefix and principal; they hold for all branches.",
    epilog="Example:  agentfs rules && agentfs --system rules set /secrets '*' none",
)


@rules.callback()
def _list_when_alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_(context)


@rules.command("list", epilog="Example:  agentfs rules list --json")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the rules. JSON: [{prefix, principal, access}]."""
    with context.obj.open() as fs:
        found = fs.rules.list()
    if as_json:
        emit_json([dataclasses.asdict(each) for each in found])
    else:
        emit_lines(f"{each.access:<5} {safe(each.principal)} {safe(each.prefix)}" for each in found)


@rules.command("set", epilog="Example:  agentfs --system rules set /secrets '*' none")
def set_(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(help="A path; the rule holds for all below it too.")],
    principal: Annotated[str, typer.Argument(help="A principal, or * for any.")],
    access: Annotated[Access, typer.Argument(help="What it may do there.")],
    as_json: JsonOption = False,
) -> None:
    """Set a rule; needs --system. JSON: {prefix, principal, access}."""
    _require_system(context, "setting a rule")
    with context.obj.open() as fs:
        fs.rules.set(prefix, principal, access.value)
    if as_json:
        emit_json({"prefix": prefix, "principal": principal, "access": access.value})
    else:
        emit_lines([f"{safe(principal)} has {access.value} access at {safe(prefix)} now."])


@rules.command("remove", epilog="Example:  agentfs --system rules remove /secrets '*'")
def remove(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(help="The path of the rule.")],
    principal: Annotated[str, typer.Argument(help="The principal of the rule.")],
    as_json: JsonOption = False,
) -> None:
    """Take a rule back; needs --system; exit code 1: there is none. JSON: {removed}."""
    _require_system(context, "removing a rule")
    with context.obj.open() as fs:
        removed = fs.rules.remove(prefix, principal)
    if as_json:
        emit_json({"removed": removed})
    elif removed:
        emit_lines([f"Removed the rule of {safe(principal)} at {safe(prefix)}."])
    if not removed:
        raise typer.Exit(EXIT_ERROR)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs --system -b try quota --bytes 100M --files 5000")(quota)
    app.add_typer(rules, name="rules")
