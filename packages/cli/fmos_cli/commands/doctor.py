"""`fmos doctor`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.commands.backup import JsonOption
from fmos_cli.options import choice
from fmos_cli.session import Session
from fmos_cli.telling import progress, safe

if TYPE_CHECKING:
    from fmos.care.doctor import Report

EPILOG = "Example:  fmos doctor --deep --json"


def doctor(
    context: typer.Context,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every stored byte, and import every optional part.")
    ] = False,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Put right what is safe: modes, and what killed processes left."
        ),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Show what is fine, line by line, too.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="This check only; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the home and the host around it; each finding says what to do.

    Changes nothing without --fix. Exit code 0: fine; 1: warnings or errors; 2: something could not
    be checked. --json prints one JSON object with the findings.
    """
    from fmos.care.checks import CHECKS  # noqa: PLC0415 - keeps --help fast
    from fmos.care.doctor import Patient, examine  # noqa: PLC0415
    from fmos.serving.app import version  # noqa: PLC0415

    session: Session = context.obj
    for name in only or ():
        choice(name, (check.name for check in CHECKS), "--only")
    patient = Patient(
        home=session.home, user_home=_user_home(), project=Path.cwd(), environ=dict(os.environ),
        version=version(), deep=deep, progress=progress(),
    )  # fmt: skip
    chosen = [check for check in CHECKS if not only or check.name in only]
    tell = progress()
    report = examine(patient, chosen, fix=fix, on_check=lambda name, _s: tell(name, 0))
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        for line in lines_of(report, every):
            typer.echo(safe(line))
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _user_home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")


def lines_of(report: Report, every: bool) -> Iterator[str]:
    """Yield the report's lines: one for each check that is fine, two for each finding."""
    checks = list(dict.fromkeys(each.check for each in report.findings))
    width = max((len(name) for name in checks), default=0)
    for name in checks:
        found = [each for each in report.findings if each.check == name]
        faults = [each for each in found if each.severity != "ok"]
        fine = [each for each in found if each.severity == "ok"]
        for each in fine if every or not faults else ():
            yield f"ok       {name:<{width}}  {each.problem}" + (
                f"  ({each.thing})" if every else ""
            )
            if not every:
                break
        for each in faults:
            yield f"{each.severity:<7}  {name:<{width}}  {each.thing}: {each.problem}"
            said = f"done: {each.done}" if each.done else each.remedy
            if said:
                yield f"{'':<7}  {'':<{width}}  -> {said}"
    counts = [(report.count(s), s) for s in ("error", "warning", "note")]
    said = ", ".join(f"{n} {s}{'s' if n > 1 else ''}" for n, s in counts if n) or "nothing to do"
    missed = f"; not checked: {', '.join(report.unchecked)}" if report.unchecked else ""
    yield f"{said}{missed}"
