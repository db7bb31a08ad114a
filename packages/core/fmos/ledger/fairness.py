"""Fair shares of a limit that tenants contend for: weighted max-min, and how even a split is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def max_min(
    capacity: float, demands: Mapping[T, float], weights: Mapping[T, float]
) -> dict[T, float]:
    """Return the weighted max-min fair shares: nobody could get more but from one with less.

    Who wants less than its share gets what it wants; the rest is split among the others by their
    weights, again and again (Bertsekas and Gallager, Data Networks, 1992, 6.5.2).
    """
    shares: dict[T, float] = {}
    waiting = sorted(demands, key=lambda each: demands[each] / weights[each])
    total = sum(weights[each] for each in waiting)
    for each in waiting:
        fair = capacity * weights[each] / total
        shares[each] = min(demands[each], fair)
        capacity -= shares[each]
        total -= weights[each]
    return shares


def jain(amounts: Sequence[float]) -> float:
    """Return how even amounts are: 1 when equal, 1/n when one has all (Jain et al., 1984)."""
    squares = sum(amount * amount for amount in amounts)
    return sum(amounts) ** 2 / (len(amounts) * squares) if squares else 1.0
