"""`fmos report`: spend, latency, denials and traps of all tenants, from their journals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.session import Session
from fmos_cli.telling import progress, safe

if TYPE_CHECKING:
    from fmos.report.analysis import Table

EPILOG = "Example:  fmos report --since 7d --by agent,day --plot spend.svg"

_NS = 1_000_000_000
_FOR_EVER_NS = (1 << 63) - 1
_UNITS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def report(
    context: typer.Context,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="Group calls by tenant, application, agent, session, tool, kind, day, decision or"
            " reason; several, or joined by commas.",
        ),
    ] = None,
    since: Annotated[str, typer.Option(help="A day such as 2026-01-31, a time, or 7d.")] = "",
    until: Annotated[str, typer.Option(help="The same; what began before it.")] = "",
    tenant: Annotated[
        list[str] | None, typer.Option(help="Only this tenant; may be given again.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write calls and tables as Parquet files.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a chart: FILE.png or FILE.svg.")
    ] = None,
    chart: Annotated[str, typer.Option(help="Which one: spend, latency or denials.")] = "spend",
    resource: Annotated[
        str, typer.Option(help="Of which resource the chart of spend is.")
    ] = "tokens",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Report what agents spent, how long it took, and what was denied, from the journals alone.

    Reads the volumes and changes nothing. Needs DuckDB, and matplotlib for charts (the extra
    `analytics`). Exit codes: 5 an argument is not what it should be; 12 the extra is missing; 13 a
    volume cannot be read, or a file not written.
    """
    own: Session = context.obj
    since_ns, until_ns = _moment(since, 0), _moment(until, _FOR_EVER_NS)
    groups = [part for each in by or () for part in each.split(",") if part]
    kind = _chart(chart, resource)
    from fmos.report.analysis import Analysis  # noqa: PLC0415 - keeps --help fast
    from fmos.report.charts import draw  # noqa: PLC0415
    from fmos.report.source import volumes  # noqa: PLC0415

    tell = progress()
    with Analysis() as analysis:
        analysis.load(
            volumes(own.home / "tenants", tuple(tenant or ())),
            since_ns=since_ns,
            until_ns=until_ns,
            slo_ms=_promises(own.home),
            progress=lambda name, rows: tell(f"reading tenant {name}, rows", rows),
        )
        tables = [analysis.by(groups)] if groups else analysis.overview()
        written = [str(each) for each in analysis.write_parquet(parquet, tables)] if parquet else []
        if plot is not None:
            draw(analysis, kind, plot, resource=resource)
            written.append(str(plot))
    if as_json:
        shown = {each.name: each.records() for each in tables}
        typer.echo(
            json.dumps({"tables": shown, "rows": analysis.rows, "written": written}, indent=2)
        )
        return
    for line in _lines(tables):
        typer.echo(line)
    for name in written:
        typer.echo(f"wrote {name}")


def _chart(chart: str, resource: str) -> Any:
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast
    from fmos.ledger.model import check_resource  # noqa: PLC0415

    if chart not in ("spend", "latency", "denials"):
        raise ArgumentError(f"there is no chart {chart!r}", hint="use spend, latency or denials")
    check_resource(resource)
    return chart


def _moment(text: str, default: int) -> int:
    """Return nanoseconds since the epoch of a day, a time, or a span before now."""
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    if not text:
        return default
    if text[:-1].isdigit() and text[-1] in _UNITS:
        ago = timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
        return int((datetime.now(UTC) - ago).timestamp() * _NS)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentError(
            f"{text!r} is no time", hint="give 2026-01-31, 2026-01-31T12:00 or 7d (m, h, d, w)"
        ) from error
    zoned = found if found.tzinfo else found.replace(tzinfo=UTC)
    return int(zoned.timestamp()) * _NS


def _promises(home: Path) -> dict[str, float]:
    """Return the `turn_ms` that the home's contracts promise, by agent; a broken one has none."""
    from fmos.contract.library import ContractLibrary  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import FmosError  # noqa: PLC0415

    library, found = ContractLibrary(home / "contracts"), {}
    for path in sorted((home / "contracts").glob("*.y*ml")):
        try:
            contract = library.get(path.stem)
        except FmosError:
            continue
        slo = contract.class_.slo if contract is not None else None
        if slo is not None and slo.turn_ms:
            found[path.stem] = float(slo.turn_ms)
    return found


def _lines(tables: list[Table]) -> Iterator[str]:
    for number, table in enumerate(tables):
        if number:
            yield ""
        yield table.title
        if not table.rows:
            yield "  none"
            continue
        if table.name == "totals":
            yield from (
                f"  {name.replace('_', ' '):<20} {_shown(value)}"
                for name, value in zip(table.columns, table.rows[0], strict=True)
            )
            continue
        yield from _grid(table)


def _grid(table: Table) -> Iterator[str]:
    cells = [[_shown(value) for value in row] for row in table.rows]
    heads = [name.removesuffix("_pct").replace("_", " ") for name in table.columns]
    heads = [
        f"{head} %" if name.endswith("_pct") else head
        for head, name in zip(heads, table.columns, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    right = [
        any(isinstance(row[place], int | float) for row in table.rows)
        for place in range(len(heads))
    ]
    for row in (heads, *cells):
        parts = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        )
        yield "  " + "  ".join(parts).rstrip()


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:,}" if isinstance(value, float) else str(value)
    return safe(text)
