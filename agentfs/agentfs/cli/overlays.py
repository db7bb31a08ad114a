"""Commands for a host directory under the branch: overlay, apply, discard."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.failures import Refusal
from agentfs.cli.render import (
    JsonOption,
    count,
    emit_json,
    emit_lines,
    emit_rows,
    letter,
    progress,
    safe,
    utc,
)

if TYPE_CHECKING:
    from agentfs import AgentFS
    from agentfs.types import Applied, HostChange, Overlay

EXIT_CONFLICT = 7
PlaceOption = Annotated[
    str | None,
    typer.Option("--at", metavar="PATH", help="The overlay's place, where there are several."),
]
PathsArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Only what is at or below these, relative to the overlay's root."),
]
PathsOption = Annotated[
    list[str] | None, typer.Option("--paths", help="As the arguments; repeatable.")
]


def overlay(
    context: typer.Context,
    host: Annotated[Path | None, typer.Argument(help="The host directory.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="PATH", help="Where in the volume; else /.")
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Say what the host changed underneath.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Take over what the host changed.")
    ] = False,
    keep_ours: Annotated[
        bool,
        typer.Option("--keep-ours", help="With --refresh: where both changed, keep the branch's."),
    ] = False,
    paths: PathsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lay the branch over a host directory; without one, list the branch's overlays.

    Nothing is copied: files are read from the host on first use, and what changes is kept in the
    volume. The host is not written until `agentfs apply`. JSON: {id, at, host} or a list of them,
    [{path, kind}] with --status, {taken, disputed} with --refresh.
    """
    if host is not None and (status or refresh):
        raise Refusal("--status and --refresh are for an overlay that is there; name no HOST", 2)
    with context.obj.open() as fs:
        if refresh:
            _refresh(fs, at, paths, keep_ours, as_json)
        elif status:
            _status(fs, at, as_json)
        elif host is None:
            _list(fs.overlays(), as_json)
        else:
            _made(fs.overlay(host, at or "/"), as_json)


def _made(made: Overlay, as_json: bool) -> None:
    if as_json:
        emit_json(_facts(made))
    else:
        where = f"{safe(made.at)} is laid over {safe(made.host)}"
        emit_lines([f"{where}; the host stays as it is until `agentfs apply`."])


def _facts(made: Overlay) -> dict[str, Any]:
    return {"id": made.id, "at": made.at, "host": made.host, "created_ns": made.created_ns}


def _list(found: list[Overlay], as_json: bool) -> None:
    if as_json:
        emit_rows(_facts(each) for each in found)
    else:
        emit_lines(
            f"{safe(each.at)}\t{safe(each.host)}\tsince {utc(each.created_ns)}" for each in found
        )


def _rows(changes: list[HostChange]) -> list[dict[str, str]]:
    return [dataclasses.asdict(each) for each in changes]


def _status(fs: AgentFS, at: str | None, as_json: bool) -> None:
    found = fs.host_status(at)
    if as_json:
        emit_rows(_rows(found))
    elif found:
        emit_lines(f"{letter(each.kind)} {safe(each.path)}" for each in found)
    else:
        emit_lines(["The host is as this branch saw it."])


def _refresh(
    fs: AgentFS, at: str | None, paths: list[str] | None, keep_ours: bool, as_json: bool
) -> None:
    taken, disputed = fs.refresh_overlay(paths, at, keep_ours=keep_ours)
    if as_json:
        emit_json({"taken": _rows(taken), "disputed": _rows(disputed)})
    else:
        emit_lines(f"{letter(each.kind)} {safe(each.path)}" for each in taken)
        emit_lines([f"Took over {count(len(taken), 'change')} of the host."])
    if disputed:
        names = ", ".join(safe(each.path) for each in disputed[:5])
        raise Refusal(
            f"{count(len(disputed), 'path')} changed on both sides: {names}; `--keep-ours` keeps"
            " the branch's, `agentfs discard` gives them up",
            EXIT_CONFLICT,
        )


def apply(
    context: typer.Context,
    paths: PathsArgument = None,
    more: PathsOption = None,
    at: PlaceOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written, write nothing.")
    ] = False,
    outside_links: Annotated[
        bool,
        typer.Option(
            "--outside-links", help="Write links that lead out of the host directory too."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write what the branch changed in its overlay to the host directory.

    Each file is replaced atomically, and only where the host still has what the branch saw; what
    changed underneath is a conflict: it is listed, nothing is written for it, and the exit code is
    7. A run that was killed is finished by the next one. JSON: {host, dry_run, applied, conflicts}.
    """
    with context.obj.open() as fs, progress("apply") as report:
        result = fs.apply(
            _chosen(paths, more), at, dry_run=dry_run, outside_links=outside_links,
            progress=lambda what, done: report.report(done, what),
        )  # fmt: skip
    _say(result, as_json)
    if result.conflicts:
        raise typer.Exit(EXIT_CONFLICT)


def _chosen(paths: list[str] | None, more: list[str] | None) -> list[str] | None:
    return [*(paths or ()), *(more or ())] or None


def _say(result: Applied, as_json: bool) -> None:
    host = result.overlay.host
    if as_json:
        emit_json({
            "host": host,
            "at": result.overlay.at,
            "dry_run": result.dry_run,
            "applied": [{"path": each.path, "kind": each.kind} for each in result.changes],
            "conflicts": [dataclasses.asdict(each) for each in result.conflicts],
        })  # fmt: skip
        return
    emit_lines(f"{letter(each.kind)} {safe(each.path)}" for each in result.changes)
    emit_lines(f"conflict {safe(each.path)}: {safe(each.reason)}" for each in result.conflicts)
    verb = "Would write" if result.dry_run else "Wrote"
    left = f"; {count(len(result.conflicts), 'conflict')} left alone" if result.conflicts else ""
    emit_lines([f"{verb} {count(len(result.changes), 'change')} to {safe(host)}{left}."])


def discard(
    context: typer.Context,
    paths: PathsArgument = None,
    more: PathsOption = None,
    at: PlaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Undo what the branch changed in its overlay, or only at some paths. JSON: [{path, kind}].

    `agentfs restore` brings it back from the history while that is kept.
    """
    with context.obj.open() as fs:
        gone = fs.discard(_chosen(paths, more), at)
    if as_json:
        emit_rows({"path": each.path, "kind": each.kind} for each in gone)
    else:
        emit_lines(f"{letter(each.kind)} {safe(each.path)}" for each in gone)
        emit_lines([f"Discarded {count(len(gone), 'change')}."])


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs overlay ~/project && agentfs ls /")(overlay)
    app.command(epilog="Example:  agentfs apply src/main.py --dry-run")(apply)
    app.command(epilog="Example:  agentfs discard src/generated")(discard)
