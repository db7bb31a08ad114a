"""Charts of a report as PNG or SVG: spend over days, latency by tool, denials by reason.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which people tell apart whatever
colours they see; marks and hatching repeat what they say.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fmos.errors import ArgumentError, MissingExtraError, StorageError
from fmos.report.analysis import Analysis
from fmos.storage import wholefile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Chart = Literal["spend", "latency", "denials"]

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
_SHOWN = 8
_TICKS = 16
_SAID = {"deny": "denied", "ask": "asked about"}
_LABELS = {"deny": "{}", "ask": "{} (asked)"}
_UNITS = {
    "tokens": "tokens",
    "currency": "micro-units of currency",
    "wall_seconds": "seconds",
    "risk": "micro-units of expected loss",
}
_SPEND = """
SELECT strftime(day, '%Y-%m-%d'), agent, sum(amount)::BIGINT FROM spent WHERE resource = '{}'
GROUP BY day, agent ORDER BY day, agent
"""
_LATENCY = """
SELECT name, count(*),
    quantile_cont(latency_ms, list_transform(range(201), lambda place: place / 200))
FROM calls WHERE latency_ms > 0 GROUP BY name ORDER BY count(*) DESC, name LIMIT 8
"""
_DENIALS = """
SELECT reason, decision, count(*) FROM reasoned WHERE decision IN ('deny', 'ask')
GROUP BY ALL ORDER BY count(*) DESC, reason LIMIT 12
"""


def draw(analysis: Analysis, chart: Chart, path: Path, *, resource: str = "tokens") -> bool:
    """Write a chart to a file and return whether it shows anything; equal data gives equal SVG.

    The file's name ends in .png or .svg.

    Raises:
        ArgumentError: if the name ends otherwise.
        MissingExtraError: if matplotlib is not installed.
        StorageError: if the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in (".png", ".svg"):
        raise ArgumentError(
            f"{str(path)!r} cannot be a chart", hint="give a name that ends in .png or .svg"
        )
    try:
        from matplotlib import rc_context  # noqa: PLC0415 - an extra, and slow to import
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            f"a chart needs matplotlib ({error})", hint='pip install "fmos[analytics]"'
        ) from error
    with rc_context({"svg.hashsalt": "fmos", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        _DRAWN[chart](axes, analysis, resource)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y" if chart != "denials" else "x", color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        shows = axes.has_data()
        if not shows:
            axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center")
        _save(figure, path, kind)
    return shows


def _save(figure: Figure, path: Path, kind: str) -> None:
    stamp: dict[str, Any] = {"Date": None} if kind == ".svg" else {}
    try:
        with wholefile.whole(path) as file:
            figure.savefig(file, format=kind[1:], dpi=144, metadata=stamp)
    except OSError as error:
        raise StorageError(
            f"cannot write {str(path)!r}: {error.strerror}", hint="choose another file for --plot"
        ) from error


def _spend(axes: Axes, analysis: Analysis, resource: str) -> None:
    rows = analysis.query(_SPEND.format(resource.replace("'", "''")))
    days = _days([row[0] for row in rows])
    agents = _largest(rows)
    floor = [0] * len(days)
    for number, agent in enumerate(agents):
        heights = [0] * len(days)
        for day, name, amount in rows:
            if (name if name in agents else "others") == agent:
                heights[days.index(day)] += amount
        axes.bar(
            days, heights, bottom=floor, label=agent, color=_COLOURS[number],
            hatch=_HATCHES[number], edgecolor="white", width=0.7,
        )  # fmt: skip
        floor = [below + own for below, own in zip(floor, heights, strict=True)]
    axes.set_title(f"{resource.replace('_', ' ').capitalize()} spent a day, by agent")
    axes.set_ylabel(_UNITS.get(resource, "calls" if resource == "tool_calls" else resource))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("day (UTC)")
    axes.tick_params(axis="x", rotation=30 if len(days) > 6 else 0)
    if len(days) > _TICKS:
        axes.set_xticks(range(0, len(days), 1 + len(days) // _TICKS))
    if agents:
        axes.legend(frameon=False)


def _days(seen: list[str]) -> list[str]:
    """Return every day from the first to the last, also those on which nothing was spent."""
    if not seen:
        return []
    first, last = date.fromisoformat(min(seen)), date.fromisoformat(max(seen))
    return [str(first + timedelta(days=number)) for number in range((last - first).days + 1)]


def _largest(rows: list[tuple[Any, ...]]) -> list[str]:
    """Return the agents that spent most, the rest as `others`."""
    totals: dict[str, int] = {}
    for _, agent, amount in rows:
        totals[agent] = totals.get(agent, 0) + amount
    ordered = sorted(totals, key=lambda agent: (-totals[agent], agent))
    return ordered if len(ordered) <= _SHOWN else [*ordered[: _SHOWN - 1], "others"]


def _latency(axes: Axes, analysis: Analysis, resource: str) -> None:
    rows = analysis.query(_LATENCY)
    for number, (name, count, values) in enumerate(rows):
        axes.plot(
            values, [place / 2 for place in range(201)], label=f"{name} ({count:,} calls)",
            color=_COLOURS[number], linestyle=("-", "--", "-.", ":")[number % 4], linewidth=1.8,
        )  # fmt: skip
    axes.set_title("Latency by tool and model")
    axes.set_xlabel("milliseconds (logarithmic)")
    axes.set_ylabel("share of calls that took no longer, %")
    if rows:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.legend(frameon=False)


def _denials(axes: Axes, analysis: Analysis, resource: str) -> None:
    rows = list(reversed(analysis.query(_DENIALS)))
    for number, decision in enumerate(("deny", "ask")):
        mine = [(_LABELS[said].format(reason), n) for reason, said, n in rows if said == decision]
        axes.barh(
            [name for name, _ in mine], [n for _, n in mine], color=_COLOURS[number],
            hatch=_HATCHES[number], edgecolor="white", label=_SAID[decision],
        )  # fmt: skip
    axes.set_title("Operations that were denied or asked about, by reason")
    axes.set_xlabel("operations")
    axes.set_ylabel("reason")
    if rows:
        axes.legend(frameon=False, loc="lower right")


_DRAWN = {"spend": _spend, "latency": _latency, "denials": _denials}
