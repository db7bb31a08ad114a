"""Commands that follow what happens: timeline, watch."""

from __future__ import annotations

import dataclasses
import json
import sys
from heapq import merge
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.changes import row_facts, row_line
from agentfs.cli.render import JsonOption, emit_json, emit_lines, emit_rows, safe, utc

if TYPE_CHECKING:
    from agentfs.toolcalls import ToolCall, ToolStats


def timeline(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest, so many.")] = 50,
    tool: Annotated[
        str | None, typer.Option("--tool", help="Only the calls of this tool, no operations.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only calls that failed.")] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Per tool: calls, failures, times.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a branch's tool calls and file operations by time. JSON: [{time_ns, type, ...}].

    JSON rows have the type "call" or "operation" and what the library says of it; with --stats:
    [{name, calls, failures, running, mean_ns, p50_ns, p95_ns}].
    """
    with context.obj.open() as fs:
        branch = str(fs.branch)
        if stats:
            _say_stats(fs.toolcalls.stats(tool, branch=branch), as_json)
            return
        status = "error" if failed else None
        calls = fs.toolcalls.list(tool, status, branch=branch, limit=limit)
        only_calls = failed or tool is not None
        rows = [] if only_calls else fs.log(limit)
    events = merge(
        ((each.started_ns, _call_facts(each), _call_line(each)) for each in reversed(calls)),
        ((each.time_ns, _row_event(row_facts(each)), row_line(each)) for each in reversed(rows)),
        key=lambda event: event[0],
    )
    newest = list(events)[-limit:]
    if as_json:
        emit_rows(facts for _, facts, _ in newest)
    else:
        emit_lines(line for _, _, line in newest)


def _row_event(facts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "operation", **facts}


def _call_facts(call: ToolCall) -> dict[str, Any]:
    return {"type": "call", "time_ns": call.started_ns, **dataclasses.asdict(call)}


def _call_line(call: ToolCall) -> str:
    took = "" if call.duration_ns is None else f" {call.duration_ns / 1e6:.1f}ms"
    said = f": {safe(call.error)}" if call.error else ""
    arguments = "" if call.arguments is None else json.dumps(call.arguments)
    what = f"{safe(call.name)}({safe(arguments)})"
    who = safe(call.principal) or "-"
    return f"call {call.id} {utc(call.started_ns)} {who} {what} {call.status}{took}{said}"


def _say_stats(found: list[ToolStats], as_json: bool) -> None:
    if as_json:
        emit_json([dataclasses.asdict(each) for each in found])
        return
    width = max((len(safe(each.name)) for each in found), default=0)
    for each in found:
        mean = "-" if each.mean_ns is None else f"{each.mean_ns / 1e6:.1f}"
        p95 = "-" if each.p95_ns is None else f"{each.p95_ns / 1e6:.1f}"
        emit_lines([
            f"{safe(each.name):<{width}}  {each.calls} calls, {each.failures} failed,"
            f" {each.running} running, mean {mean} ms, 95 % within {p95} ms"
        ])  # fmt: skip


def watch(
    context: typer.Context,
    since: Annotated[
        int | None, typer.Option("--since", min=0, help="Also the rows after this number.")
    ] = None,
    path: Annotated[str, typer.Option("--path", help="Only what is at or below it.")] = "/",
    here: Annotated[bool, typer.Option("--here", help="Only the current branch.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="End after so many rows.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, metavar="SECONDS", help="End when nothing comes."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print each operation when it is done, by any process. JSON: one object per line, as of log.

    Runs until Ctrl-C, --limit or --timeout. Start again with --since and the last number.
    """
    with context.obj.open() as fs:
        rows = fs.watch(since, path, timeout, branch=str(fs.branch) if here else None)
        for number, row in enumerate(rows, 1):
            sys.stdout.write((json.dumps(row_facts(row)) if as_json else row_line(row)) + "\n")
            sys.stdout.flush()
            if number == limit:
                break


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs timeline --failed")(timeline)
    app.command(epilog="Example:  agentfs watch --path /src --json")(watch)
