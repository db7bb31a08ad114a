"""Trains learned traps and measures them on runs that training did not see.

Training needs scikit-learn (the extra `learn`); measuring does not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fmos.clock import Clock
from fmos.errors import ArgumentError, MissingExtraError
from fmos.traps.features import NAMES, OF_OPERATION
from fmos.traps.learned import Line, Scores, TrapModel
from fmos.traps.replay import Run, Seen, read_runs, replay, split

HELD_OUT = 0.3
FALSE_TRAPS = 0.1
_STRENGTH = 1.0


def train(
    data: Path,
    clock: Clock,
    *,
    name: str = "traps",
    split_by: str = "run",
    held_out: float = HELD_OUT,
    false_traps: float = FALSE_TRAPS,
) -> TrapModel:
    """Return learned traps, measured on the runs that were held out.

    Args:
        data: What `fmos.traps.replay` reads.
        clock: When the artefact says it was made.
        name: The artefact's name.
        split_by: Fields of run rows, by commas; rows that agree in them stay together.
        held_out: Share of the groups that is kept for measuring.
        false_traps: Share of the harmless calls learned from that may trap; sets the threshold.

    Raises:
        MissingExtraError: without scikit-learn.
        ArgumentError: if there is nothing to learn from.
        FormatError: if the file cannot be replayed.
    """
    learn, rest = split(read_runs(data, split_by), held_out)
    seen = replay(learn)
    full = _fit(seen, NAMES, false_traps)
    plain = _fit(seen, OF_OPERATION, false_traps)
    created = datetime.fromtimestamp(clock.now_ns() // 1_000_000_000, UTC)
    return TrapModel(
        name=name,
        full=full,
        operation_only=plain,
        trained_on=hashlib.sha256(data.read_bytes()).hexdigest(),
        split_by=split_by,
        held_out=held_out,
        metrics={
            "held_out": measure(rest, full),
            "held_out_operation_only": measure(rest, plain),
            "learned_from": measure(learn, full),
        },
        created=created.isoformat(),
    ).sealed()


def evaluate(data: Path, model: TrapModel) -> dict[str, Scores]:
    """Return how an artefact does on a file, with and without the trajectory's features.

    Of the file that it was trained on, only the runs that were held out are judged.

    Raises:
        FormatError: if the file cannot be replayed.
    """
    runs = read_runs(data, model.split_by)
    if hashlib.sha256(data.read_bytes()).hexdigest() == model.trained_on:
        _, runs = split(runs, model.held_out)
    return {
        "with_trajectory": measure(runs, model.full),
        "without_trajectory": measure(runs, model.operation_only),
    }


def measure(runs: Sequence[Run], line: Line) -> Scores:
    """Return how a linear model does on runs, each judged with its own earlier traps."""
    seen = replay(runs, line.traps)
    hits = sum(call.trapped and call.positive for call in seen)
    trapped = sum(call.trapped for call in seen)
    positives = sum(call.positive for call in seen)
    harmless = len(seen) - positives
    attacked = {call.run for call in seen if call.positive}
    caught = {call.run for call in seen if call.positive and call.trapped}
    return Scores(
        operations=len(seen),
        positives=positives,
        precision=_share(hits, trapped),
        recall=_share(hits, positives),
        false_traps=_share(trapped - hits, harmless),
        runs_caught=_share(len(caught), len(attacked)),
    )


def _fit(seen: Sequence[Seen], names: Sequence[str], false_traps: float) -> Line:
    """Fit one linear model; the scaling of the features goes into its weights."""
    labels = [call.positive for call in seen]
    if len(set(labels)) < 2:
        raise ArgumentError(
            "there is nothing to learn: the runs to learn from have calls of one label only",
            hint="give a file with calls labelled `injected` and others, in several runs",
        )
    columns = [NAMES.index(name) for name in names]
    rows = [[call.values[at] for at in columns] for call in seen]
    means, spreads = _scaling(rows)
    scaled = [
        [(value - mean) / spread for value, mean, spread in zip(row, means, spreads, strict=True)]
        for row in rows
    ]
    found = _regression().fit(scaled, labels)
    slopes = [float(slope) / spread for slope, spread in zip(found.coef_[0], spreads, strict=True)]
    bias = float(found.intercept_[0]) - sum(
        slope * mean for slope, mean in zip(slopes, means, strict=True)
    )
    weights = {name: round(slope, 6) for name, slope in zip(names, slopes, strict=True)}
    line = Line(weights=weights, bias=round(bias, 6), threshold=0.5)
    return line.model_copy(update={"threshold": _threshold(line, seen, false_traps)})


def _regression() -> Any:
    try:
        from sklearn.linear_model import (  # noqa: PLC0415 - the extra `learn`
            LogisticRegression,
        )
    except ImportError as error:
        raise MissingExtraError(
            "training needs scikit-learn, which is not installed", hint='pip install "fmos[learn]"'
        ) from error
    return LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=1000)


def _scaling(rows: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    columns = list(zip(*rows, strict=True))
    means = [sum(column) / len(column) for column in columns]
    spreads = [
        math.sqrt(sum((value - mean) ** 2 for value in column) / len(column)) or 1.0
        for column, mean in zip(columns, means, strict=True)
    ]
    return means, spreads


def _threshold(line: Line, seen: Sequence[Seen], false_traps: float) -> float:
    """Return the lowest probability at which at most that share of harmless calls traps."""
    harmless = sorted(
        (line.probability(call.values) for call in seen if not call.positive), reverse=True
    )
    allowed = int(len(harmless) * false_traps)
    highest = harmless[allowed] if allowed < len(harmless) else 0.0
    return round(min(max(highest + 1e-6, 0.001), 0.999), 6)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
