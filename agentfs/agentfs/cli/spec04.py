"""Commands for Turso AgentFS 0.4 volumes: import-spec04, export-spec04."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.failures import EXIT_ERROR
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
    from agentfs.spec04.outcome import Spec04Totals

_SHOWN = 10


def import_spec04(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="An AgentFS 0.4 volume; it may be in use.")],
    path: Annotated[str, typer.Argument(help="The directory that its tree goes to.")] = "/",
    as_json: JsonOption = False,
) -> None:
    """Bring in a Turso AgentFS 0.4 volume: files, links, keys, tool calls, an overlay's deletions.

    It may be repeated: what is here already stays. JSON: {from, to, files, ..., removed, failed}.
    """
    with context.obj.open() as fs, progress("import") as report:
        totals = fs.import_spec04(file, path, progress=report)
    _say("Imported", f"{file} to {safe(path)}", {"from": str(file), "to": path}, totals, as_json)


def export_spec04(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The AgentFS 0.4 volume to make.")],
    path: Annotated[str, typer.Argument(help="The directory that becomes its tree.")] = "/",
    at: AtOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="The whole tree at an overlay, not its changes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a Turso AgentFS 0.4 volume with the tree, the keys and the tool calls.

    At an overlay it holds what the branch changed, with whiteouts for what it removed.
    JSON: {from, to, files, ..., removed, failed}.
    """
    with context.obj.look(at) as fs, progress("export") as report:
        totals = fs.export_spec04(path, file, force=force, full=full, progress=report)
    _say("Exported", f"{safe(path)} to {file}", {"from": path, "to": str(file)}, totals, as_json)


def _say(verb: str, what: str, names: dict[str, str], totals: Spec04Totals, as_json: bool) -> None:
    figures: dict[str, Any] = dataclasses.asdict(totals)
    if as_json:
        emit_json({**names, **figures})
    else:
        numbers = [
            count(totals.files, "file"), size(totals.bytes), count(totals.keys, "key"),
            count(totals.calls, "tool call"),
        ]  # fmt: skip
        if totals.removed:
            numbers.append(f"{count(len(totals.removed), 'path')} removed")
        emit_lines([f"{verb} {what}: {', '.join(numbers)}."])
    for label, items in (("left out", totals.failed), ("note:", totals.notes)):
        for item in items[:_SHOWN]:
            typer.echo(f"agentfs: {label} {safe(item)}", err=True)
        if len(items) > _SHOWN:
            typer.echo(f"agentfs: {label} {len(items) - _SHOWN} more; see --json", err=True)
    if totals.failed:
        raise typer.Exit(EXIT_ERROR)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(
        "import-spec04", epilog="Example:  agentfs import-spec04 .agentfs/my-agent.db /old"
    )(import_spec04)
    app.command("export-spec04", epilog="Example:  agentfs export-spec04 copy.db /src --at before")(
        export_spec04
    )
