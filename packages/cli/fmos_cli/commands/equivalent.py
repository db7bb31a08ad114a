"""`fmos equivalent`: whether two realisations keep a contract and behave alike under it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.telling import progress, safe

if TYPE_CHECKING:
    from fmos.equivalence.model import Report, Step
    from fmos.runtime.kernel import Kernel

EPILOG = (
    "Exit codes: 0 the contract holds in both and they are equivalent; 1 it does not, or they"
    " differ; else that of the error.\n\n"
    "Example:  fmos equivalent here.yaml daemon.yaml --operations day.jsonl"
)
_SHOWN = 20


def equivalent(
    first: Annotated[Path, typer.Argument(metavar="A.yaml", help="Its contract is what counts.")],
    second: Annotated[Path, typer.Argument(metavar="B.yaml", help="What is compared with it.")],
    operations: Annotated[
        str, typer.Option(metavar="FILE", help="Operations as JSON lines; - reads stdin.")
    ] = "",
    generate: Annotated[
        int, typer.Option(metavar="N", min=0, max=10_000, help="Make N operations instead.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of --generate; the same seed, the same ones.")] = 0,
    spend: Annotated[
        int, typer.Option(min=0, help="By how much spending may differ, in the ledger's units.")
    ] = 0,
    no_reasons: Annotated[
        bool, typer.Option("--no-reasons", help="The codes of reasons may differ.")
    ] = False,
    no_history: Annotated[
        bool, typer.Option("--no-history", help="The rows of the journals may differ.")
    ] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="Do not look for a shorter counterexample.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Run the same operations on two realisations and say whether the contract holds in both.

    Each runs in a temporary home of its own; budgets, provenance, policy and memory are checked in
    each, and what can be seen from outside is compared. The present home is not touched.
    """
    from fmos.equivalence.checker import Checker, require_alike  # noqa: PLC0415 - keeps --help fast
    from fmos.equivalence.model import Tolerance  # noqa: PLC0415
    from fmos.equivalence.realisation import read_realisation  # noqa: PLC0415
    from fmos.errors import ArgumentError  # noqa: PLC0415

    if bool(operations) == bool(generate):
        raise ArgumentError(
            "there must be operations, from one place", hint="give --operations FILE or --generate"
        )
    here, there = read_realisation(first), read_realisation(second)
    require_alike(here, there)
    tolerance = Tolerance(spend=spend, reasons=not no_reasons, history=not no_history)
    steps = _steps(operations, generate, seed)
    checker = Checker(here, there, tolerance=tolerance, approvals=_deciding)
    told = None if as_json else progress()
    report = checker.check(steps, shorten=not whole, progress=told)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        for line in _lines(report):
            typer.echo(line)
    if not report.passed:
        raise typer.Exit(1)


def _steps(operations: str, generate: int, seed: int) -> list[Step]:
    from fmos.equivalence.sequences import generated_steps, read_steps  # noqa: PLC0415
    from fmos.errors import ArgumentError  # noqa: PLC0415

    if generate:
        return generated_steps(generate, seed)
    if operations == "-":
        return read_steps(sys.stdin.read(), "<stdin>")
    try:
        return read_steps(Path(operations).read_text(encoding="utf-8"), operations)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(f"cannot read {operations!r}: {why}") from error


def _deciding(kernel: Kernel) -> Callable[[str, bool, str, str], object]:
    from fmos_trust.approvals import Approvals  # noqa: PLC0415 - keeps --help fast

    return Approvals(kernel).decide


def _lines(report: Report) -> Iterator[str]:
    from fmos.equivalence.sequences import written_steps  # noqa: PLC0415 - keeps --help fast

    for broken in report.broken[:_SHOWN]:
        yield safe(f"{broken.where}: {broken.rule}{_place(broken.index)}: {broken.message}")
    for each in report.differences[:_SHOWN]:
        yield safe(f"differs{_place(each.index)}: {each.what}: {each.first} | {each.second}")
    more = len(report.broken[_SHOWN:]) + len(report.differences[_SHOWN:])
    if more:
        yield f"... and {more} more; --json lists all"
    if report.counterexample:
        yield f"shortest sequence found that shows the first ({report.tries} tried):"
        for line in written_steps(report.counterexample).splitlines():
            yield f"  {safe(line)}"
    yield _sentence(report)


def _place(index: int | None) -> str:
    return "" if index is None else f" at operation {index}"


def _sentence(report: Report) -> str:
    kept = [name for name, holds in report.holds.items() if holds]
    where = "both" if len(kept) == 2 else f"{kept[0]} only" if kept else "neither"
    alike = "equivalent" if report.equivalent else "not equivalent"
    count = f"{report.steps} operation{'' if report.steps == 1 else 's'}"
    return safe(
        f"{report.first} and {report.second}, {count}:"
        f" the contract holds in {where}; they are {alike}"
    )
