"""Commands that bring another state into the current branch: restore, merge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.render import JsonOption, count, emit_json, emit_lines, letter, safe

if TYPE_CHECKING:
    from agentfs.types import Change, Conflict


class Strategy(StrEnum):
    """What a merge does where both sides changed the same path."""

    FAIL = "fail"
    OURS = "ours"
    THEIRS = "theirs"


DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would change, change nothing.")
]


def restore(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(help="A snapshot or branch.")],
    paths: Annotated[
        list[str] | None, typer.Option("--paths", help="Only this path; repeatable.")
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the branch, or some paths of it, as they were. JSON: {branch, ref, paths, dry_run}."""
    with context.obj.open() as fs:
        branch = str(fs.branch)
        if dry_run:
            changes = [each for path in paths or ["/"] for each in fs.diff(branch, ref, path)]
        else:
            changes = []
            fs.restore(ref, paths=paths or None)
    if as_json:
        rows = {"changes": _rows(changes)} if dry_run else {}
        emit_json({"branch": branch, "ref": ref, "paths": paths or [], "dry_run": dry_run, **rows})
        return
    emit_lines(f"{letter(each.kind)} {safe(each.path)}" for each in changes)
    what = ", ".join(map(safe, paths)) + " on branch" if paths else "branch"
    verb = "Would restore" if dry_run else "Restored"
    emit_lines([f"{verb} {what} {branch} to {ref}."])


def _rows(found: Iterable[Change | Conflict]) -> list[dict[str, str]]:
    return [{"path": each.path, "kind": each.kind} for each in found]


def merge(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The branch to bring in.")],
    strategy: Annotated[
        Strategy, typer.Option("--strategy", help="Where both changed a path.")
    ] = Strategy.FAIL,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Merge another branch into this one. JSON: {branch, from, merged, changes, conflicts, ...}.

    Exit code 7: there are conflicts and no strategy; nothing was merged.
    """
    from agentfs.errors import MergeConflict  # noqa: PLC0415 - keeps --help fast

    with context.obj.open() as fs:
        branch = str(fs.branch)
        facts = {"branch": branch, "from": name, "dry_run": dry_run}
        try:
            result = fs.merge(name, strategy=strategy.value, dry_run=dry_run)
        except MergeConflict as error:
            _say_merge(facts, False, [], error.conflicts, as_json)
            raise
    merged = not dry_run
    _say_merge(facts, merged, result.changes, result.conflicts, as_json)
    if not as_json:
        verb = "Would merge" if dry_run else "Merged"
        emit_lines([f"{verb} {count(len(result.changes), 'change')} from {name} into {branch}."])
    if dry_run and result.conflicts and strategy is Strategy.FAIL:
        raise typer.Exit(MergeConflict.exit_code)


def _say_merge(
    facts: dict[str, Any], merged: bool, changes: Sequence[Change],
    conflicts: Sequence[Conflict], as_json: bool,
) -> None:  # fmt: skip
    if as_json:
        found = {"changes": _rows(changes), "conflicts": _rows(conflicts)}
        emit_json({**facts, "merged": merged, **found})
        return
    emit_lines(f"{letter(each.kind)} {safe(each.path)}" for each in changes)
    emit_lines(f"conflict {safe(each.path)} ({each.kind})" for each in conflicts)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs restore before-refactor --paths /src")(restore)
    app.command(epilog="Example:  agentfs merge try --dry-run")(merge)
