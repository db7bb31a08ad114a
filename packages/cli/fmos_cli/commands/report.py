"""`fmos report`: spend, latency, denials and traps of all tenants, from their journals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.files import ForceOption, folder, target
from fmos_cli.moments import moment_ns
from fmos_cli.options import choice, refuse_unused
from fmos_cli.session import Session
from fmos_cli.telling import progress, safe

if TYPE_CHECKING:
    from fmos.report.analysis import Analysis, Table

EPILOG = "Example:  fmos report --since 7d --by agent,day --plot spend.svg"

_FOR_EVER_NS = (1 << 63) - 1


def report(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(metavar="[WHAT]", help="`gate`: what the trust gate stopped, by rule."),
    ] = "all",
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="Group calls by tenant, application, agent, session, tool, kind, day, decision or"
            " reason; several, or joined by commas. Of the gate: tenant, agent, rule, tool, day.",
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
    force: ForceOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Report what agents spent, how long it took, and what was denied, from the journals alone.

    Reads the volumes and changes nothing. Needs DuckDB, and matplotlib for charts (the extra
    `analytics`). Exit codes: 5 a time is none, a file is there already or its folder is not; 8
    there is no such tenant; 12 the extra is missing; 13 a volume cannot be read; 14 the disk is
    full.
    """
    choice(what, ("all", "gate"), "WHAT")
    own: Session = context.obj
    since_ns, until_ns = times = _times(since, until)
    if what == "gate":
        return _gate(context, own.home, by or ["rule"], times, tuple(tenant or ()), as_json)
    kind = _chart(context, plot, chart, resource)
    if parquet is None and plot is None:
        refuse_unused(context, "needs --parquet or --plot", "force")
    from fmos.config import Home  # noqa: PLC0415 - keeps --help fast
    from fmos.report.analysis import GROUPS, Analysis  # noqa: PLC0415
    from fmos.report.charts import draw  # noqa: PLC0415
    from fmos.report.source import volumes  # noqa: PLC0415

    groups = [part for each in by or () for part in each.split(",") if part]
    for each in groups:
        choice(each, GROUPS, "--by")
    home = Home.existing(own.home)
    for each in tenant or ():
        home.require_tenant(each)
    if plot is not None:
        target(plot, force=force)
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
        written = _parquet(analysis, tables, parquet, force) if parquet else []
        if plot is not None:
            drawn = draw(analysis, kind, plot, resource=resource)
            written.append(str(plot))
            if not drawn:
                typer.echo(f"{plot}: there was nothing to draw", err=True)
    _say(tables, analysis.rows, written, as_json)


def _say(tables: list[Table], rows: int, written: list[str], as_json: bool) -> None:
    if as_json:
        shown = {each.name: each.records() for each in tables}
        typer.echo(json.dumps({"tables": shown, "rows": rows, "written": written}, indent=2))
        return
    for line in _lines(tables):
        typer.echo(line)
    for name in written:
        typer.echo(f"wrote {name}")


def _times(since: str, until: str) -> tuple[int, int]:
    return moment_ns(since) if since else 0, moment_ns(until) if until else _FOR_EVER_NS


def _gate(
    context: typer.Context,
    home: Path,
    by: list[str],
    times: tuple[int, int],
    tenants: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what the trust gate stopped, and what people said of it; needs no extra."""
    unused = ("parquet", "plot", "chart", "resource", "force")
    refuse_unused(context, "does not go with `gate`", *unused)
    from fmos.config import Home  # noqa: PLC0415 - keeps --help fast
    from fmos.report.gate import GROUPS, GateReport  # noqa: PLC0415
    from fmos.report.source import volumes  # noqa: PLC0415

    groups = [part for each in by for part in each.split(",") if part]
    for each in groups:
        choice(each, GROUPS, "--by")
    known = Home.existing(home)
    for each in tenants:
        known.require_tenant(each)
    found = GateReport(tuple(each for each in GROUPS if each in groups))
    for name, path in volumes(home / "tenants", tenants):
        found.load(name, path, *times)
    shown, total = found.shown(), found.total.as_json((), found.total.checked)
    if as_json:
        typer.echo(json.dumps({"by": list(found.by), "total": total, "rows": shown}, indent=2))
        return
    typer.echo("The gate's verdicts; a yes to a question is a likely false stop")
    for line in _cells([{**dict.fromkeys(found.by, "all"), **total}, *shown]):
        typer.echo(line)


def _cells(rows: list[dict[str, Any]]) -> Iterator[str]:
    heads = [f"{name.removesuffix('_pct')} %" if "_pct" in name else name for name in rows[0]]
    cells = [[_shown(value) or "none" for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    numbers = [isinstance(value, int) for value in rows[0].values()]
    for row in (heads, *cells):
        parts = (
            cell.rjust(width) if number or "%" in head else cell.ljust(width)
            for cell, width, number, head in zip(row, widths, numbers, heads, strict=True)
        )
        yield "  " + "  ".join(parts).rstrip()


def _chart(context: typer.Context, plot: Path | None, chart: str, resource: str) -> Any:
    from fmos.ledger.model import check_resource  # noqa: PLC0415 - keeps --help fast

    if plot is None:
        refuse_unused(context, "needs --plot", "chart", "resource")
    choice(chart, ("spend", "latency", "denials"), "--chart")
    if chart != "spend":
        refuse_unused(context, "is of the chart of spend only", "resource")
    check_resource(resource)
    return chart


def _parquet(analysis: Analysis, tables: list[Table], to: Path, force: bool) -> list[str]:
    folder(to)
    for name in ("calls", *(each.name for each in tables)):
        target(to / f"{name}.parquet", force=force)
    return [str(each) for each in analysis.write_parquet(to, tables)]


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
