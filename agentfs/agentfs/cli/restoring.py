"""Commands that bring another state into the current branch: restore, merge."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from agentfs.cli.render import JsonOption, count, emit_json, emit_lines, letter, safe


class Strategy(StrEnum):
    """What a merge does where both sides changed the same path."""

    FAIL = "fail"
    OURS = "ours"
    THEIRS = "theirs"


def restore(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(help="A snapshot or branch.")],
    paths: Annotated[
        list[str] | None, typer.Option("--paths", help="Only this path; repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the branch, or some paths of it, as they were. JSON: {branch, ref, paths}."""
    with context.obj.open() as fs:
        branch = str(fs.branch)
        fs.restore(ref, paths=paths or None)
    if as_json:
        emit_json({"branch": branch, "ref": ref, "paths": paths or []})
    else:
        what = ", ".join(map(safe, paths)) + " on branch" if paths else "branch"
        emit_lines([f"Restored {what} {branch} to {ref}."])


def merge(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The branch to bring in.")],
    strategy: Annotated[
        Strategy, typer.Option("--strategy", help="Where both changed a path.")
    ] = Strategy.FAIL,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Merge another branch into this one. JSON: {branch, from, dry_run, changes, conflicts}."""
    with context.obj.open() as fs:
        branch = str(fs.branch)
        result = fs.merge(name, strategy=strategy.value, dry_run=dry_run)
    changes = list(result.changes)
    if as_json:
        rows = [{"path": each.path, "kind": str(each.kind)} for each in changes]
        conflicts = [{"path": each.path, "kind": each.kind} for each in result.conflicts]
        emit_json(
            {"branch": branch, "from": name, "dry_run": dry_run, "changes": rows,
             "conflicts": conflicts}
        )  # fmt: skip
        return
    emit_lines(f"{letter(str(each.kind))} {safe(each.path)}" for each in changes)
    emit_lines(f"conflict {safe(each.path)} ({each.kind})" for each in result.conflicts)
    verb = "Would merge" if dry_run else "Merged"
    emit_lines([f"{verb} {count(len(changes), 'change')} from {name} into {branch}."])


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs restore before-refactor --paths /src")(restore)
    app.command(epilog="Example:  agentfs merge try --dry-run")(merge)
