"""Commands on the whole volume: init, stats, fsck."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated

import typer

from agentfs.cli.failures import Refusal
from agentfs.cli.render import JsonOption, emit_json, emit_lines, safe
from agentfs.cli.session import Session


def init(
    context: typer.Context,
    exist_ok: Annotated[
        bool, typer.Option("--exist-ok", help="Succeed if the volume is there already.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new, empty volume. JSON: {file, created, branch}."""
    from agentfs import AgentFS  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    there = os.path.lexists(session.file)
    if there and not exist_ok:
        session.require_file()
        with AgentFS.open(session.file, create=False):
            raise Refusal(f"{str(session.file)!r} is a volume already; add --exist-ok to keep it")
    parent = session.file.parent
    if not there and not parent.is_dir():
        raise Refusal(f"no directory {str(parent)!r} to make the volume in; create it first")
    if not there and not os.access(parent, os.W_OK | os.X_OK):
        raise Refusal(
            f"no permission to make a volume in {str(parent)!r}; choose another place with -f"
        )
    if there:
        session.require_file()
    with AgentFS.open(session.file, branch=session.branch if there else None, create=True) as fs:
        branch = str(fs.branch)
    if as_json:
        emit_json({"file": str(session.file), "created": not there, "branch": branch})
    elif there:
        emit_lines([f"Kept the volume {session.file} that is there already (branch {branch})."])
    else:
        emit_lines([f"Made the empty volume {session.file} with one branch, {branch}."])


def stats(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say what the volume holds. JSON: the same names with numbers."""
    with context.obj.open() as fs:
        found = fs.stats()
    figures = dataclasses.asdict(found)
    if as_json:
        emit_json(figures)
    else:
        width = max(map(len, figures))
        emit_lines(f"{name:<{width}}  {value}" for name, value in figures.items())


def fsck(context: typer.Context, as_json: JsonOption = False) -> None:
    """Check the structure by the invariants of SPEC.md. JSON: {ok, findings, journal_ok}."""
    with context.obj.open() as fs:
        findings = list(fs.fsck())
        chain = fs.verify_journal()
    sound = not findings and chain.ok
    if as_json:
        rows = [{"invariant": f.invariant, "message": f.message} for f in findings]
        emit_json({"ok": sound, "findings": rows, "journal_ok": chain.ok})
    elif sound:
        emit_lines([f"{context.obj.file}: every invariant holds, {chain.rows} journal rows chain."])
    else:
        emit_lines(f"invariant {f.invariant}: {safe(f.message)}" for f in findings)
        if not chain.ok:
            emit_lines([f"journal: the chain breaks at row {chain.first_bad_seq}"])
    if not sound:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs -f x.afs init")(init)
    app.command(epilog="Example:  agentfs stats --json")(stats)
    app.command(epilog="Example:  agentfs fsck && echo sound    Exit code 1: findings.")(fsck)
