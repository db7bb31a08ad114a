"""Timing, interleaved rounds, medians and the result file; knows nothing of any side.

A benchmark is a script that takes `--quick` (small sizes, not for publication) and `--results DIR`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import apsw

from tables import number

T = TypeVar("T")

CACHE = Path.home() / ".cache" / "fmos-bench"
_PACKAGES = ("fmos", "apsw", "blake3", "zstandard")

FULL = "full: each operation is synced before it returns"
NORMAL = "normal: survives a killed process; synced at checkpoints"
UNSYNCED = "nothing is synced"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure one published claim.")
    parser.add_argument("--quick", action="store_true", help="small sizes: proves that it works")
    parser.add_argument("--results", type=Path, help="where the result file goes")
    return parser.parse_args()


OPTIONS = _options()
_KEPT = CACHE / "quick-results" if OPTIONS.quick else Path(__file__).with_name("results")
RESULTS: Path = OPTIONS.results or _KEPT


def scale(full: T, quick: T) -> T:
    """Return the size for a real run, or the one for `--quick`."""
    return quick if OPTIONS.quick else full


@contextmanager
def workspace() -> Iterator[Path]:
    """Yield an empty directory on a real disk, and remove it at the end.

    BENCH_DIR names its parent when the home directory is not on the disk to measure.
    """
    parent = Path(os.environ.get("BENCH_DIR", CACHE / "work"))
    parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


@dataclass(frozen=True, slots=True)
class Side:
    """One of the things compared: `run(round)` does the work once and returns its seconds.

    Rounds count from 0; a negative round is a warm-up and may be smaller.
    """

    name: str
    durability: str
    run: Callable[[int], float]


class Measure:
    """The seconds of every round, for each side."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        """Keep what was measured."""
        self.seconds = seconds

    def median(self, side: str) -> float:
        """Return a side's median, in seconds."""
        return statistics.median(self.seconds[side])

    def ms(self, side: str) -> float:
        """Return a side's median, in milliseconds."""
        return self.median(side) * 1000

    def rate(self, side: str, count: float) -> float:
        """Return how many of `count` things a side does in a second."""
        return count / self.median(side)

    def times_faster(self, side: str, other: str) -> float:
        """Return how many times as fast as another side a side is, by medians."""
        return self.median(other) / self.median(side)


def interleave(
    sides: Sequence[Side], rounds: int, warmups: int = 1, settle: bool = True
) -> Measure:
    """Run all sides in turn, beginning with another one in each round.

    `settle` lets the kernel write back what the last side left, before the next one is timed.
    """
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(-warmups, rounds):
        first = turn % len(sides)
        for side in [*sides[first:], *sides[:first]]:
            gc.collect()
            if settle and not OPTIONS.quick:
                os.sync()
            taken = side.run(turn)
            if turn >= 0:
                seconds[side.name].append(taken)
    return Measure(seconds)


@dataclass(slots=True)
class Report:
    """What one benchmark found; `save` writes it to results/NAME.json and prints it."""

    name: str
    claim: str
    peers: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, str] = field(default_factory=dict)
    curves: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    measures: dict[str, Any] = field(default_factory=dict)
    _machine: dict[str, Any] = field(default_factory=lambda: machine())
    _began: float = field(default_factory=time.monotonic)

    def add(self, label: str, measure: Measure, sides: Sequence[Side]) -> None:
        """Keep a measure's medians and all its samples, with each side's durability."""
        self.measures[label] = {
            side.name: {
                "durability": side.durability,
                "median_s": _short(measure.median(side.name)),
                "samples_s": [_short(each) for each in measure.seconds[side.name]],
            }
            for side in sides
        }

    def curve(self, label: str, size: int, measure: Measure) -> None:
        """Add a point to each side's curve: its median in milliseconds at a size."""
        for side in measure.seconds:
            points = self.curves.setdefault(label, {}).setdefault(side, [])
            points.append((size, _short(measure.ms(side))))

    def sum_up(self, work: str, ours: str, beside: str) -> None:
        """Set the one line that the README shows: the work, our figure, the one beside it."""
        self.summary = {"work": work, "ours": ours, "beside": beside}

    def tell(self, label: str, value: float, unit: str) -> None:
        """Publish a figure that has no target."""
        self._row(label, value, unit, None, None)

    def at_most(self, label: str, value: float, unit: str, limit: float) -> None:
        """Publish a figure that should not be above a limit."""
        self._row(label, value, unit, f"<= {limit:,g}", value <= limit)

    def at_least(self, label: str, value: float, unit: str, limit: float) -> None:
        """Publish a figure that should not be below a limit."""
        self._row(label, value, unit, f">= {limit:,g}", value >= limit)

    def either(self, label: str, value: float, unit: str, target: str, met: bool) -> None:
        """Publish a figure whose target has two parts, in words."""
        self._row(label, value, unit, target, met)

    def _row(
        self, label: str, value: float, unit: str, target: str | None, met: bool | None
    ) -> None:
        self.rows.append(
            {
                "label": label,
                "value": _short(value),
                "unit": unit,
                "target": target,
                "met": met,
            }
        )

    def save(self) -> None:
        """Write the result file and print its figures."""
        result = {
            "name": self.name,
            "claim": self.claim,
            "quick": OPTIONS.quick,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "took_s": round(time.monotonic() - self._began, 1),
            "machine": {**self._machine, "load_after": _load()},
            "versions": _versions() | self.peers,
            "rows": self.rows,
            "summary": self.summary,
            "curves": self.curves,
            "notes": self.notes,
            "measures": self.measures,
        }
        RESULTS.mkdir(parents=True, exist_ok=True)
        target = RESULTS / f"{self.name}.json"
        target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        self._print(target, result["took_s"])

    def _print(self, target: Path, took_s: float) -> None:
        print(
            f"{self.name}: {self.claim}{' (quick: not for publication)' if OPTIONS.quick else ''}"
        )
        for each in self.rows:
            verdict = {None: "", True: "met", False: "NOT MET"}[each["met"]]
            value = f"{number(each['value'])} {each['unit']}"
            print(f"  {each['label']:<64} {value:>18}  {each['target'] or '':<24} {verdict}")
        print(f"  {took_s} s; {target}", flush=True)


def _versions() -> dict[str, str]:
    own = {each: version(each) for each in _PACKAGES}
    return {"python": platform.python_version(), "sqlite": apsw.sqlite_lib_version(), **own}


def machine() -> dict[str, Any]:
    """Return what the figures depend on, as far as the host tells it."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(),
        "load_before": _load(),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem() -> str:
    """Return the type of the file system that the workspace is on."""
    place = Path(os.environ.get("BENCH_DIR", CACHE)).resolve()
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    found = [line.split()[1:3] for line in mounts.read_text(encoding="utf-8").splitlines()]
    under = [(where, kind) for where, kind in found if place.is_relative_to(where)]
    return max(under, key=lambda each: len(each[0]))[1] if under else "unknown"


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def _short(value: float) -> float:
    """Keep four significant digits."""
    return float(f"{value:.4g}")
