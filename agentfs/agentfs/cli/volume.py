"""Commands on the whole volume: init, stats, fsck, verify, gc."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.failures import EXIT_ERROR, EXIT_USAGE, Refusal
from agentfs.cli.render import JsonOption, count, emit_json, emit_lines, progress, safe, size
from agentfs.cli.session import Session

if TYPE_CHECKING:
    from agentfs.types import Finding, JournalCheck

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def init(
    context: typer.Context,
    exist_ok: Annotated[
        bool, typer.Option("--exist-ok", help="Succeed if the volume is there already.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new, empty volume. JSON: {file, created, branch}."""
    session: Session = context.obj
    there = os.path.lexists(session.file)
    if there and not exist_ok:
        session.require_file()
        with session.open_volume():
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
    with session.open_volume(branch=session.branch if there else None, create=True) as fs:
        branch = str(fs.branch)
    if as_json:
        emit_json({"file": str(session.file), "created": not there, "branch": branch})
    elif there:
        emit_lines([f"Kept the volume {session.file} that is there already (branch {branch})."])
    else:
        emit_lines([f"Made the empty volume {session.file} with one branch, {branch}."])


def stats(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say what the volume holds and stores. JSON: the same names with numbers."""
    with context.obj.open() as fs:
        found = fs.stats()
    figures = dataclasses.asdict(found)
    if as_json:
        emit_json(figures)
    else:
        emit_lines(_figures(figures))


def _figures(figures: dict[str, Any]) -> Iterator[str]:
    plain = {name: value for name, value in figures.items() if not isinstance(value, list | tuple)}
    width = max(map(len, plain), default=0)
    for name, value in plain.items():
        shown = f"{value}  ({size(value)})" if name.endswith("bytes") and value >= 1024 else value
        yield f"{name:<{width}}  {shown}"
    for name in figures.keys() - plain.keys():
        for row in figures[name]:
            yield f"{name}: " + "  ".join(f"{key} {value}" for key, value in row.items())


def fsck(
    context: typer.Context,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Put right what follows from the rest; say what is lost."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check the structure by the invariants of SPEC.md. JSON: {ok, findings, journal_ok}.

    Exit code 1: something was found, also when it was repaired.
    """
    with context.obj.open() as fs, progress("fsck") as report:
        findings = fs.fsck(repair=repair, progress=lambda what, done: report.report(done, what))
        chain = fs.verify_journal()
    _say_findings(context.obj.file, findings, chain, as_json)


def verify(context: typer.Context, as_json: JsonOption = False) -> None:
    """Check the structure, and read and hash every chunk. JSON and exit codes as of fsck."""
    with context.obj.open() as fs, progress("verify") as report:
        findings = fs.fsck(read_data=True, progress=lambda what, done: report.report(done, what))
        chain = fs.verify_journal()
    _say_findings(context.obj.file, findings, chain, as_json)


def _say_findings(file: Path, findings: list[Finding], chain: JournalCheck, as_json: bool) -> None:
    sound = not findings and chain.ok
    if as_json:
        rows = [dataclasses.asdict(each) for each in findings]
        emit_json({"ok": sound, "findings": rows, "journal_ok": chain.ok})
    elif sound:
        emit_lines([f"{file}: every invariant holds, {chain.rows} journal rows chain."])
    else:
        for each in findings:
            done = f" (repaired: {safe(each.repair)})" if each.repair else ""
            emit_lines([f"invariant {each.invariant}: {safe(each.message)}{done}"])
        if not chain.ok:
            emit_lines([f"journal: the chain breaks at row {chain.first_bad_seq}"])
    if not sound:
        raise typer.Exit(EXIT_ERROR)


def gc(
    context: typer.Context,
    retention: Annotated[
        str | None,
        typer.Option("--retention", metavar="TIME", help="Keep past states of 0, 12h, 30d."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let go of what no state needs, and give the bytes back. JSON: {nodes, ..., bytes_returned}.

    Past states older than the volume's retention (30 days unless set) go too, unless somebody else
    keeps the journal, as FMOS does of its tenants: then all rows stay. It may run beside readers
    and writers, and may be stopped: the next run goes on.
    """
    seconds = None if retention is None else _seconds(retention)
    with context.obj.open() as fs, progress("gc") as report:
        keeper = fs.journal_keeper()
        found = fs.gc(
            seconds, dry_run=dry_run, progress=lambda what, done: report.report(done, what)
        )
    if as_json:
        emit_json({**dataclasses.asdict(found), "dry_run": dry_run})
        return
    verb = "Would let go of" if dry_run else "Let go of"
    emit_lines([
        f"{verb} {count(found.nodes, 'node')}, {count(found.chunks, 'chunk')} and"
        f" {count(found.journal_rows, 'journal row')}: {size(found.bytes_freed)} freed,"
        f" {size(found.bytes_returned)} given back."
    ])  # fmt: skip
    if keeper:
        note = f"The journal is kept by {safe(keeper)}: its rows, and the states before them, stay"
        emit_lines([f"{note} until {safe(keeper)} lets them go."])


def _seconds(text: str) -> float:
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text.strip())
    if matched is None:
        raise Refusal(f"{text!r} is no time; write it as 0, 90s, 30m, 12h, 30d or 2w", EXIT_USAGE)
    return float(matched[1]) * _UNITS_S[matched[2]]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs -f x.afs init")(init)
    app.command(epilog="Example:  agentfs stats --json")(stats)
    app.command(epilog="Example:  agentfs fsck && echo sound    Exit code 1: findings.")(fsck)
    app.command(epilog="Example:  agentfs verify")(verify)
    app.command(epilog="Example:  agentfs gc --retention 7d --dry-run")(gc)
