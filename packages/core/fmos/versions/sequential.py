"""A test that may be looked at after every session without losing its error rate.

Sessions of a canary and of its control are paired in the order in which they ended. Of a pair in
which the two differ, the canary's is the worse one with probability at most one half if the canary
is no worse. The evidence is the mean likelihood ratio of higher probabilities to one half: a
nonnegative supermartingale from 1, which by Ville's inequality ever reaches 1/a with probability at
most a (Ville 1939; Wald 1945; Howard, Ramdas, McAuliffe and Sekhon 2021).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Probabilities above one half that are bet on, all with the same stake.
_BETS = tuple(0.5 + (step + 0.5) / 100 for step in range(50))
_ENOUGH = 1e12


class Evidence(NamedTuple):
    """How much speaks against a canary: `value` is the most that was reached on the way."""

    value: float
    worse: int
    differing: int
    pairs: int


def evidence(signs: Iterable[int]) -> Evidence:
    """Return the evidence that a canary does worse.

    Args:
        signs: Of each pair in its order: above 0 where the canary did worse, 0 where both did the
            same, below 0 where the control did worse.
    """
    wealth = [1.0] * len(_BETS)
    most, worse, differing, pairs = 1.0, 0, 0, 0
    for sign in signs:
        pairs += 1
        if not sign:
            continue
        differing += 1
        worse += sign > 0
        if most < _ENOUGH:  # beyond it nothing is left to show, and floats end
            wealth = [
                each * 2 * (bet if sign > 0 else 1 - bet)
                for each, bet in zip(wealth, _BETS, strict=True)
            ]
            most = max(most, sum(wealth) / len(wealth))
    return Evidence(most, worse, differing, pairs)
