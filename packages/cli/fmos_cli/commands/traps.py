"""`fmos traps`: train learned traps, measure them, and show an agent's trap table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.failures import CommandGroup
from fmos_cli.files import ForceOption, source, target
from fmos_cli.principals import principal
from fmos_cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fmos.traps.learned import Scores
    from fmos.traps.table import TrapTable

traps_app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train learned traps, measure them, and show which operations of an agent trap.",
)

_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
_Data = Annotated[
    Path, typer.Option(metavar="FILE", help="Labelled tool calls, JSON lines, plain or gzip.")
]


@traps_app.command(
    epilog="Example:  fmos traps train --data calls.jsonl.gz --out traps.json"
    "   (--json prints the artefact's digest and its metrics)"
)
def train(
    data: _Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the artefact goes.")],
    name: Annotated[str, typer.Option(help="The artefact's name.")] = "traps",
    split_by: Annotated[
        str, typer.Option(metavar="FIELD", help="What keeps runs together when they are split.")
    ] = "run",
    held_out: Annotated[
        float, typer.Option(min=0.05, max=0.95, help="Share of the runs kept for measuring.")
    ] = 0.3,
    false_traps: Annotated[
        float, typer.Option(min=0.0, max=0.95, help="Share of harmless calls that may trap.")
    ] = 0.1,
    force: ForceOption = False,
    as_json: _AsJson = False,
) -> None:
    """Train learned traps and write them as an artefact, measured on runs that were held out.

    Needs scikit-learn (the extra `learn`). Exit codes: 5 nothing to learn from, no such file, or
    one where the artefact goes; 12 scikit-learn missing; 13 rows that are none; 14 the disk is
    full.
    """
    from fmos.clock import SystemClock  # noqa: PLC0415 - keeps --help fast
    from fmos.traps import training  # noqa: PLC0415

    target(out, force=force)
    model = training.train(
        source(data),
        SystemClock(),
        name=name,
        split_by=split_by,
        held_out=held_out,
        false_traps=false_traps,
    )
    _write(out, model.model_dump_json(indent=1) + "\n")
    shown = {
        "with_trajectory": model.metrics["held_out"],
        "without_trajectory": model.metrics["held_out_operation_only"],
    }
    if as_json:
        _print_json({"out": str(out), "digest": model.digest, "metrics": _plain(shown)})
        return
    typer.echo(f"wrote {str(out)!r}, digest {model.digest[:12]}; on the runs held out:")
    _print_scores(shown)


@traps_app.command(
    epilog="Example:  fmos traps eval --data calls.jsonl.gz --model traps.json"
    "   (--json prints the scores by name)"
)
def eval(
    data: _Data,
    model: Annotated[Path, typer.Option(metavar="FILE", help="An artefact of `traps train`.")],
    as_json: _AsJson = False,
) -> None:
    """Replay labelled calls and print precision and recall, with and without the trajectory.

    Of the file that the artefact was trained on, only the runs that were held out are judged. Exit
    code 13 for a file that cannot be read or an artefact that was changed.
    """
    from fmos.traps import training  # noqa: PLC0415 - keeps --help fast
    from fmos.traps.learned import load_file  # noqa: PLC0415

    loaded = load_file(source(model))
    scores = training.evaluate(source(data), loaded)
    if as_json:
        _print_json({"model": loaded.digest, "metrics": _plain(scores)})
        return
    typer.echo(f"{loaded.name}, digest {loaded.digest[:12]}")
    _print_scores(scores)


@traps_app.command(
    epilog="Example:  fmos traps show ada"
    "   (--json prints the table as it goes over the wire: docs/spec/trap-abi.md)"
)
def show(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id.")],
    tenant: Annotated[str, typer.Option(help="The agent's tenant.")] = "default",
    application: Annotated[str, typer.Option(help="The agent's application.")] = "",
    as_json: _AsJson = False,
) -> None:
    """Print the trap table that an agent's adapters get now: what runs at once, and on what.

    Exit codes: 4 a contract that is not valid, 5 an id that cannot be one.
    """
    from fmos.client import connect  # noqa: PLC0415 - keeps --help fast
    from fmos.traps.table import TrapTable  # noqa: PLC0415

    session: Session = context.obj
    who = principal(tenant, application, agent)
    with session.look() as kernel, connect(who, kernel=kernel) as client:
        if kernel.home.tenants():  # before the first one, a contract can be looked at
            kernel.home.require_tenant(who.tenant)
        document = client.call("trust_table")
    if as_json:
        _print_json(document)
        return
    for line in _table_lines(TrapTable.from_answer(document)):
        typer.echo(line)


def _table_lines(table: TrapTable) -> list[str]:
    lines = [
        f"{table.agent}: version {table.version[:12]}, serial {table.serial},"
        f" {(table.expires_ns - table.issued_ns) // 1_000_000_000} s"
    ]
    width = max((len(rule.tool) for rule in table.rules), default=0)
    for rule in table.rules:
        scopes = " and ".join(", ".join(scope) or "nothing" for scope in rule.read_scopes)
        where = f"  {scopes}" if rule.path_arguments else ""
        lines.append(f"  {rule.tool:<{width}}  {rule.operation_class}{where}".rstrip())
    if not table.rules:
        lines.append("  no tool is registered: every call traps")
    lines.append(f"  never innocuous: {', '.join(table.protected)}")
    signals = table.signals.model_dump()
    off = [name for name, value in signals.items() if value is None]
    lines.append(f"  signals off: {', '.join(off) or 'none'}")
    return lines


def _print_scores(scores: Mapping[str, Scores]) -> None:
    for name, found in scores.items():
        typer.echo(
            f"  {name:<19}  precision {found.precision:.3f}  recall {found.recall:.3f}"
            f"  false traps {found.false_traps:.3f}  runs caught {found.runs_caught:.3f}"
            f"  ({found.operations} calls, {found.positives} should trap)"
        )


def _plain(scores: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    return {name: found.model_dump() for name, found in scores.items()}


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2))


def _write(path: Path, text: str) -> None:
    """Write a whole file or none: a full disk leaves what was there."""
    from fmos.errors import StorageError  # noqa: PLC0415 - keeps --help fast
    from fmos.storage import wholefile  # noqa: PLC0415

    try:
        wholefile.write_text(path, text)
    except OSError as error:
        raise StorageError(
            f"cannot write {str(path)!r}: {error.strerror}", hint="choose another --out"
        ) from error
