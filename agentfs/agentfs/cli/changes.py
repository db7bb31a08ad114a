"""Commands that say what changed: diff, log."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentfs.cli.render import JsonOption, emit_json, emit_lines, letter, safe, utc


def diff(
    context: typer.Context,
    before: Annotated[str, typer.Argument(help="A branch or snapshot.")],
    after: Annotated[
        str | None, typer.Argument(help="Another one; else the current branch.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what changed from one state to another. JSON: [{path, kind}].

    One line per path: A added, M modified, D deleted.
    """
    with context.obj.open() as fs:
        changes = fs.diff(before, after or str(fs.branch))
        if as_json:
            emit_json([{"path": each.path, "kind": str(each.kind)} for each in changes])
        else:
            emit_lines(f"{letter(str(each.kind))} {safe(each.path)}" for each in changes)


def log(
    context: typer.Context,
    since: Annotated[int, typer.Option("--since", min=0, help="Rows after this number.")] = 0,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="At most so many rows.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the journal, oldest first. JSON: [{seq, time_ns, operation, path, ...}]."""
    with context.obj.open() as fs:
        rows = fs.journal(since=since, limit=limit)
        if as_json:
            emit_json([_facts(row) for row in rows])
        else:
            emit_lines(_line(row) for row in rows)


def _facts(row: Any) -> dict[str, Any]:
    names = ("seq", "time_ns", "principal", "branch", "operation", "path", "path2", "detail")
    return {name: getattr(row, name) for name in names}


def _line(row: Any) -> str:
    who = safe(row.principal) or "-"
    what = " -> ".join(safe(path) for path in (row.path, row.path2) if path)
    return f"{row.seq} {utc(row.time_ns)} {who} {row.branch} {row.operation} {what}".rstrip()


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs diff main try")(diff)
    app.command(epilog="Example:  agentfs log --since 100 --limit 20")(log)
