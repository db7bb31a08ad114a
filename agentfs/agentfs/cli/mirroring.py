"""Commands that make one side like the other, moving only what differs: import, export."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentfs.cli.failures import EXIT_USAGE, Refusal
from agentfs.cli.render import (
    AtOption,
    JsonOption,
    count,
    emit_json,
    emit_lines,
    letter,
    progress,
    safe,
    size,
)
from agentfs.cli.transfer import warn
from agentfs.cli.watching import follow

if TYPE_CHECKING:
    from agentfs.types import MirrorChange, Totals

ExcludeOption = Annotated[
    list[str] | None, typer.Option("--exclude", help="Leave names alone that match; repeatable.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would change, change nothing.")
]


def import_(
    context: typer.Context,
    host: Annotated[Path, typer.Argument(help="A directory of the host.")],
    path: Annotated[str, typer.Argument(help="The directory of the volume that it goes to.")] = "/",
    exclude: ExcludeOption = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what the host does not have.")
    ] = False,
    dry_run: DryRunOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what changes there, until Ctrl-C.")
    ] = False,
    keep_deleted: Annotated[
        bool, typer.Option("--keep-deleted", help="With --watch: let deletions there pass.")
    ] = False,
    poll: Annotated[
        float | None,
        typer.Option(
            "--poll", min=0.01, metavar="SECONDS", help="With --watch: look so often, unnotified."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="With --watch: end after N bursts.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0, metavar="SECONDS", help="With --watch: end when nothing comes."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring in what differs below a host directory, repeatably. JSON: {from, to, changes, ...}.

    Same kind, size and time of change: the file is taken for the same and not read. With --watch
    JSON is an object per line: {time_ns, changes, problems} for each burst of changes (the first
    is the import itself), at the end {from, to, bursts, changed, files, ...}.
    """
    _require_directory(host)
    if watch:
        if dry_run:
            raise Refusal("--watch and --dry-run exclude each other; leave one out", EXIT_USAGE)
        with context.obj.open() as fs:
            follow(
                fs, host, path, exclude=exclude or (), delete=delete, keep_deleted=keep_deleted,
                poll_s=poll, limit=limit, timeout=timeout, as_json=as_json,
            )  # fmt: skip
        return
    only_watching = {"--keep-deleted": keep_deleted, "--poll": poll, "--limit": limit,
                     "--timeout": timeout}  # fmt: skip
    for name, value in only_watching.items():
        if value:
            raise Refusal(f"{name} is for watching; add --watch", EXIT_USAGE)
    with context.obj.open() as fs, progress("import") as report:
        changes, totals = fs.import_tree(
            host, path, exclude=exclude or (), delete=delete, dry_run=dry_run, progress=report
        )
    _say("Imported", str(host), path, changes, totals, dry_run, as_json)


def export(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A directory of the volume.")],
    host: Annotated[Path, typer.Argument(help="The directory of the host that it goes to.")],
    exclude: ExcludeOption = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what the volume does not have.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace (and with --delete remove) host files.")
    ] = False,
    dry_run: DryRunOption = False,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what differs below a directory to the host. JSON: {from, to, changes, ...}."""
    if host.exists():
        _require_directory(host)
    with context.obj.look(at) as fs, progress("export") as report:
        if not force and not dry_run:
            _refuse_losses(fs.export_tree(path, host, exclude=exclude or (), delete=delete,
                                          dry_run=True)[0])  # fmt: skip
        changes, totals = fs.export_tree(
            path, host, exclude=exclude or (), delete=delete, force=force, dry_run=dry_run,
            progress=report,
        )  # fmt: skip
    _say("Exported", path, str(host), changes, totals, dry_run, as_json)


def _require_directory(host: Path) -> None:
    if not host.is_dir():
        what = "is no directory; `put` copies one file" if host.exists() else "does not exist"
        raise Refusal(f"host path {str(host)!r} {what}")


def _refuse_losses(changes: list[MirrorChange]) -> None:
    lost = [each for each in changes if each.kind != "added"]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise Refusal(
            f"host path {lost[0].path!r}{more} would be replaced or removed; look with --dry-run,"
            " then add --force"
        )


def _say(
    verb: str, source: str, target: str, changes: list[MirrorChange], totals: Totals,
    dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    if as_json:
        rows = [{"path": each.path, "kind": each.kind} for each in changes]
        figures = dataclasses.asdict(totals)
        emit_json({"from": source, "to": target, "dry_run": dry_run, "changes": rows, **figures})
    else:
        emit_lines(f"{letter(each.kind)} {safe(each.path)}" for each in changes)
        said = f"Would have {verb.lower()}" if dry_run else verb
        moved = "" if dry_run else f" ({size(totals.bytes)})"
        where = f"from {safe(source)} to {safe(target)}"
        emit_lines([f"{said} {count(len(changes), 'change')}{moved} {where}."])
    warn(totals)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("import", epilog="Example:  agentfs import ./src /src --delete --watch")(import_)
    app.command(epilog="Example:  agentfs export /src ./src --dry-run")(export)
