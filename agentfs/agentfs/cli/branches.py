"""Commands on named states: snapshot, snapshots, fork, branches, checkout, rm-branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.render import JsonOption, count, emit_json, emit_lines, safe, utc

if TYPE_CHECKING:
    from agentfs import AgentFS


def snapshot(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name that no branch or snapshot has.")],
    message: Annotated[str, typer.Option("-m", "--message", help="Why it was taken.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Name the branch's state for ever. JSON: {name, branch, created_ns, message}."""
    with context.obj.open() as fs:
        made = fs.snapshot(name, message=message)
        branch = str(fs.branch)
    if as_json:
        emit_json(_snapshot_facts(made))
    else:
        emit_lines([f"Took snapshot {name} of branch {branch}."])


def snapshots(context: typer.Context, as_json: JsonOption = False) -> None:
    """List snapshots, oldest first. JSON: [{name, branch, created_ns, message}]."""
    with context.obj.open() as fs:
        found = list(fs.snapshots())
    if as_json:
        emit_json([_snapshot_facts(each) for each in found])
        return
    width = max((len(each.name) for each in found), default=0)
    emit_lines(
        "  ".join(
            (f"{each.name:<{width}}", utc(each.created_ns), each.branch, safe(each.message))
        ).rstrip()
        for each in found
    )


def fork(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The new branch.")],
    source: Annotated[
        str | None, typer.Option("--from", help="A branch or snapshot; else the current branch.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a branch from another state, without copying. JSON: {branch, from}."""
    with context.obj.open() as fs:
        origin = source or str(fs.branch)
        fs.fork(name, source=source)
    if as_json:
        emit_json({"branch": name, "from": origin})
    else:
        emit_lines([f"Forked branch {name} from {origin}."])


def branches(context: typer.Context, as_json: JsonOption = False) -> None:
    """List branches; * marks the current one. JSON: [{name, current, parent}]."""
    with context.obj.open() as fs:
        current = str(fs.branch)
        found = list(fs.branches())
    if as_json:
        emit_json(
            [
                {"name": each.name, "current": each.name == current, "parent": each.parent}
                for each in found
            ]
        )
    else:
        emit_lines(f"{'*' if each.name == current else ' '} {each.name}" for each in found)


def checkout(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The branch.")],
    as_json: JsonOption = False,
) -> None:
    """Let commands without -b work on this branch from now on. JSON: {branch, before}."""
    with context.obj.open() as fs:
        before = str(fs.default_branch())
        fs.set_default_branch(name)
    if as_json:
        emit_json({"branch": name, "before": before})
    else:
        emit_lines([f"The default branch is {safe(name)} now; it was {safe(before)}."])


def rm_branch(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Branches to delete, all or none.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what only they hold, delete nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete branches; their journal rows stay. JSON: {deleted, dry_run}."""
    with context.obj.open() as fs:
        for name in names:
            fs.on(name)
        if dry_run:
            _say_what_differs(fs, names, as_json)
            return
        with fs.transaction():
            for name in names:
                fs.delete_branch(name)
    if as_json:
        emit_json({"deleted": names, "dry_run": False})
    else:
        emit_lines(f"Deleted the branch {safe(name)}." for name in names)


def _say_what_differs(fs: AgentFS, names: list[str], as_json: bool) -> None:
    if as_json:
        emit_json({"deleted": names, "dry_run": True})
        return
    for name in names:
        number = sum(1 for _ in fs.diff(str(fs.branch), name))
        which = f"{count(number, 'path')} that differ{'s' if number == 1 else ''} from {fs.branch}"
        emit_lines([f"Would delete the branch {safe(name)}, with {which}."])


def _snapshot_facts(found: Any) -> dict[str, Any]:
    return {
        "name": found.name,
        "branch": found.branch,
        "created_ns": found.created_ns,
        "message": found.message,
    }


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs snapshot before-refactor -m 'all tests pass'")(snapshot)
    app.command(epilog="Example:  agentfs snapshots --json")(snapshots)
    app.command(epilog="Example:  agentfs fork try --from before-refactor")(fork)
    app.command(epilog="Example:  agentfs branches")(branches)
    app.command(epilog="Example:  agentfs checkout try")(checkout)
    app.command("rm-branch", epilog="Example:  agentfs rm-branch try --dry-run")(rm_branch)
