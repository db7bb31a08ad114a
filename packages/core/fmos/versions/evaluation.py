"""Compares a candidate with the accepted version on the same held-out sessions.

The interval is a paired bootstrap: groups of sessions are drawn anew, each with both versions'
results, so that what differs between sessions does not blur what differs between versions. The
draws depend on the candidate and the traces only: the same question has the same answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from fmos.errors import ArgumentError
from fmos.settings import VersionSettings
from fmos.versions.content import trap_model_of
from fmos.versions.metrics import Metric, Scores, decisions
from fmos.versions.model import (
    POLICY,
    TRAP_MODEL,
    Better,
    Candidate,
    Comparison,
    Evaluation,
    Outcome,
)
from fmos.versions.traces import Traces

DRAWS = 1000
_TAIL = 0.025

#: Part and whole before, part and whole after: of one group of sessions.
_Row = tuple[float, float, float, float]


def evaluated(
    candidate: Candidate,
    before: bytes | None,
    after: bytes,
    traces: Traces,
    settings: VersionSettings,
    metric: Metric,
) -> Evaluation:
    """Return how the content `after` does against `before`; None: nothing is accepted.

    Raises:
        ArgumentError: if this metric is not the one that the candidate names.
        FormatError: if a program that should compute it does not.
    """
    if candidate.metric not in metric.better:
        raise ArgumentError(
            f"{candidate.label} is judged by {candidate.metric!r}, and this computes"
            f" {', '.join(metric.better)}",
            hint="give the metric that the candidate names, or propose it with another one",
        )
    judged = _held_out(candidate, after, traces)
    rows = _rows(judged, metric.score(before, judged), metric.score(after, judged))
    groups = len({run.group for run in judged.runs})
    comparisons = {
        name: _compared(name, better, rows[name], f"{candidate.id}{traces.source}{name}")
        for name, better in metric.better.items()
    }
    named = comparisons[candidate.metric]
    empty = not any(row[1] or row[3] for row in rows[candidate.metric])
    outcome, why = _judged(named, 0 if empty else groups, settings)
    return Evaluation(
        outcome=outcome,
        metric=candidate.metric,
        why=why,
        base=candidate.base,
        traces=groups,
        source=traces.source,
        comparisons=tuple(comparisons.values()),
        changed=_changed(before, after, judged) if candidate.kind == POLICY else {},
        by="",
        at_ns=0,
    )


def _held_out(candidate: Candidate, content: bytes, traces: Traces) -> Traces:
    """Return what may judge a candidate: of a model's own training file, what it did not see."""
    if candidate.kind == TRAP_MODEL:
        model = trap_model_of(content)
        if model.trained_on == traces.source:
            traces = traces.split_again(model.split_by, model.held_out)
    return traces.judged()


def _rows(traces: Traces, before: Scores, after: Scores) -> dict[str, list[_Row]]:
    """Return the parts and wholes of each metric, added up within each group of sessions."""
    found: dict[str, list[_Row]] = {}
    for name in after:
        groups: dict[str, _Row] = {}
        for run in traces.runs:
            new = (*before[name][run.name], *after[name][run.name])
            old = groups.get(run.group, (0.0, 0.0, 0.0, 0.0))
            groups[run.group] = (
                old[0] + new[0], old[1] + new[1], old[2] + new[2], old[3] + new[3],
            )  # fmt: skip
        found[name] = list(groups.values())
    return found


def _compared(name: str, better: Better, rows: Sequence[_Row], seed: str) -> Comparison:
    sign = 1 if better == "higher" else -1
    before, after = _rates(rows)
    draws = [sign * (after - before)]
    if any(row[:2] != row[2:] for row in rows):
        drawn = random.Random(seed)
        rates = (_rates(drawn.choices(rows, k=len(rows))) for _ in range(DRAWS))
        draws = sorted(sign * (new - old) for old, new in rates)
    cut = int(len(draws) * _TAIL)
    return Comparison(
        metric=name,
        better=better,
        before=_plain(before),
        after=_plain(after),
        improvement=_plain(sign * (after - before)),
        low=_plain(draws[cut]),
        high=_plain(draws[-1 - cut]),
    )


def _plain(value: float) -> float:
    """Return a figure with six digits, and no negative zero."""
    return round(value, 6) + 0.0


def _rates(rows: Sequence[_Row]) -> tuple[float, float]:
    if not rows:  # none of few sessions was held out
        return 0.0, 0.0
    old_part, old_whole, new_part, new_whole = (sum(column) for column in zip(*rows, strict=True))
    before = old_part / old_whole if old_whole else 0.0
    return before, new_part / new_whole if new_whole else 0.0


def _judged(found: Comparison, traces: int, settings: VersionSettings) -> tuple[Outcome, str]:
    """Return the verdict of the gate: what is not known to be kept does not pass."""
    said = (
        f"{found.metric} went from {found.before:.3f} to {found.after:.3f} on {traces} held-out"
        f" traces (improvement {found.improvement:+.3f}, 95 % interval {found.low:+.3f} to"
        f" {found.high:+.3f})"
    )
    if traces < settings.min_traces:
        return "too_few", (
            f"{traces} held-out traces say something about {found.metric}, and"
            f" {settings.min_traces} are needed"
        )
    if found.high < 0:
        return "regressed", f"{said}: it is worse"
    if found.improvement >= 0 or found.low >= -settings.tolerance:
        return "passed", said
    return "inconclusive", f"{said}: it may be worse by more than {settings.tolerance:g}"


def _changed(before: bytes | None, after: bytes, traces: Traces) -> dict[str, int]:
    """Count the operations that are decided otherwise, as `allow->deny`."""
    old, new = decisions(before, traces), decisions(after, traces)
    counts: dict[str, int] = {}
    for identifier, decision in new.items():
        if decision is not old[identifier]:
            change = f"{old[identifier].value}->{decision.value}"
            counts[change] = counts.get(change, 0) + 1
    return dict(sorted(counts.items()))
