"""Commands that say what changed: diff, log."""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.failures import EXIT_ERROR, Refusal
from agentfs.cli.render import JsonOption, emit_lines, emit_rows, letter, safe, utc

if TYPE_CHECKING:
    from agentfs import AgentFS
    from agentfs.types import Change, JournalRow


def diff(
    context: typer.Context,
    before: Annotated[
        str | None, typer.Argument(help="A branch, snapshot or moment (see --at).")
    ] = None,
    after: Annotated[
        str | None, typer.Argument(help="Another one; else the current branch.")
    ] = None,
    path: Annotated[str, typer.Option("--path", help="Only what is at or below it.")] = "/",
    host: Annotated[
        bool, typer.Option("--host", help="What the branch changed against its overlay's host.")
    ] = False,
    overlay_at: Annotated[
        str | None, typer.Option("--overlay-at", help="With --host: which overlay.")
    ] = None,
    patch: Annotated[bool, typer.Option("-p", "--patch", help="Lines, as a unified diff.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Leave with 1 when something differs.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what changed from one state to another. JSON: [{path, kind}].

    One line per path: A added, M modified, D deleted, P mode or attributes, T another type.
    """
    if (before is None) != host:
        raise Refusal(
            "name the state to compare with, or --host for the overlay's host directory", 2
        )
    with context.obj.open() as fs:
        if host:
            changes: Iterable[Change] = fs.host_diff(overlay_at, None if path == "/" else path)
        else:
            changes = fs.diff(str(before), after or str(fs.branch), path)
        if patch and not as_json:
            number = _emit_patch(fs, _on_host(fs, overlay_at, changes) if host else changes)
        elif as_json:
            number = emit_rows({"path": each.path, "kind": each.kind} for each in changes)
        else:
            number = emit_lines(f"{letter(each.kind)} {safe(each.path)}" for each in changes)
    if exit_code and number:
        raise typer.Exit(EXIT_ERROR)


def _on_host(fs: AgentFS, at: str | None, changes: Iterable[Change]) -> Iterator[Change]:
    """Name the changes as the host directory does, so that `git apply` there takes the patch."""
    root = at or fs.overlays()[0].at
    for each in changes:
        yield dataclasses.replace(each, path="/" + each.path[len(root) :].lstrip("/"))


def _emit_patch(fs: AgentFS, changes: Iterable[Change]) -> int:
    from agentfs.patch import unified  # noqa: PLC0415 - keeps --help fast

    number = 0
    for change in changes:
        sys.stdout.buffer.writelines(unified(fs, change))
        number += 1
    sys.stdout.buffer.flush()
    return number


def log(
    context: typer.Context,
    since: Annotated[int, typer.Option("--since", min=0, help="Rows after this number.")] = 0,
    until: Annotated[
        int | None, typer.Option("--until", min=0, help="Rows up to this number.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="At most so many rows.")
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", min=1, help="Only the newest rows, so many.")
    ] = None,
    path: Annotated[str | None, typer.Option("--path", help="At or below it.")] = None,
    operation: Annotated[str | None, typer.Option("--operation", help="As `write`.")] = None,
    principal: Annotated[str | None, typer.Option("--principal", help="Who did it.")] = None,
    here: Annotated[bool, typer.Option("--here", help="Only the current branch.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the journal, oldest first. JSON: [{seq, time_ns, principal, operation, path, ...}]."""
    with context.obj.open() as fs:
        rows: Iterable[JournalRow] = fs.journal(
            since=since, limit=limit, operation=operation, until=until, path=path,
            branch=str(fs.branch) if here else None, principal=principal,
        )  # fmt: skip
        if last is not None:
            rows = deque(rows, last)
        if as_json:
            emit_rows(row_facts(row) for row in rows)
        else:
            emit_lines(row_line(row) for row in rows)


def row_facts(row: JournalRow) -> dict[str, Any]:
    """Return the JSON form of a journal row."""
    names = ("seq", "time_ns", "principal", "branch", "operation", "path", "path2", "detail")
    return {name: getattr(row, name) for name in names}


def row_line(row: JournalRow) -> str:
    """Return a journal row on one line."""
    who = safe(row.principal) or "-"
    what = " -> ".join(safe(path) for path in (row.path, row.path2) if path)
    return f"{row.seq} {utc(row.time_ns)} {who} {row.branch} {row.operation} {what}".rstrip()


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs diff main try --patch > try.patch")(diff)
    app.command(epilog="Example:  agentfs log --path /src --last 20")(log)
