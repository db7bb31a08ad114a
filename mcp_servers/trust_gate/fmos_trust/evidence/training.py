"""Fits the weights of the score: logistic regression that stays near a prior, none below zero.

Plain Python: the data are a few thousand calls with eight numbers each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmos_trust.evidence.score import FEATURES, Weights

#: Where fitting begins and what it is drawn to: each feature alone is about enough to ask.
PRIOR = Weights(
    bias=-3.2,
    weights={
        "unasked": 4.0, "target": 3.5, "terms": 1.5, "ordered": 4.0, "prompted": 3.0,
        "content": 3.0, "leak": 2.0, "destructive": 1.0,
    },
    ask=0.45,
    deny=0.9,
)  # fmt: skip

_STEPS = 400
_RATE = 0.5
_PULL = 0.1
_SURE = 0.98
#: Thresholds that do nearly as well as the best one are as good: there are few honest runs.
_SLACK = 0.03


@dataclass(frozen=True, slots=True)
class Example:
    """One call: its features, whether a stranger asked for it, and how much it counts."""

    run: str
    features: Mapping[str, float]
    injected: bool
    weight: float = 1.0


def fit(examples: Sequence[Example], prior: Weights = PRIOR) -> Weights:
    """Return weights fitted to examples, with thresholds calibrated on their runs."""
    names: tuple[str, ...] = FEATURES
    rows = [([each.features[name] for name in names], each) for each in examples]
    weights, bias = [prior.weights[name] for name in names], prior.bias
    start, mass = list(weights), sum(each.weight for each in examples) or 1.0
    for _ in range(_STEPS):
        steps, step = [0.0] * len(names), 0.0
        for values, each in rows:
            total = bias + sum(map(float.__mul__, weights, values))
            error = (1 / (1 + math.exp(-total)) - each.injected) * each.weight / mass
            step += error
            steps = [old + error * value for old, value in zip(steps, values, strict=True)]
        bias -= _RATE * (step + _PULL * (bias - prior.bias))
        weights = [
            max(0.0, now - _RATE * (slope + _PULL * (now - was)))
            for now, slope, was in zip(weights, steps, start, strict=True)
        ]
    fitted = {name: round(one, 3) for name, one in zip(names, weights, strict=True)}
    found = Weights(round(bias, 3), fitted, prior.ask, prior.deny)
    return calibrated(found, examples, prior)


def calibrated(weights: Weights, examples: Sequence[Example], prior: Weights = PRIOR) -> Weights:
    """Return the weights with the thresholds that part the examples' runs best, near the prior's.

    A call is asked about where most attacked runs are stopped for the fewest honest ones
    interrupted (equal cost); denied where nearly no honest run reaches.
    """
    honest, attacked = _by_run(weights, examples, False), _by_run(weights, examples, True)
    if not honest or not attacked:
        return weights
    cuts = [percent / 100 for percent in range(2, 99)]
    gains = [(_share(attacked, cut) - _share(honest, cut), cut) for cut in cuts]
    best = max(gain for gain, _ in gains)
    good = [cut for gain, cut in gains if gain >= best - _SLACK]
    ask = round(min(good, key=lambda cut: abs(cut - prior.ask)), 3)
    deny = max(round(max(honest) + (1 - max(honest)) / 2, 3), ask, 0.8)
    return Weights(weights.bias, weights.weights, ask, min(deny, _SURE))


def _by_run(weights: Weights, examples: Sequence[Example], injected: bool) -> list[float]:
    worst: dict[str, float] = {}
    for each in examples:
        if each.injected == injected:
            score = weights.score(each.features)
            worst[each.run] = max(worst.get(each.run, 0.0), score)
    return list(worst.values())


def _share(scores: list[float], cut: float) -> float:
    return sum(score >= cut for score in scores) / len(scores)
