"""Shadow prices of limits by dual ascent: a hint for callers, never a limit of its own.

Whoever spends has its own idea of what a call is worth; the price says what the budget is worth to
all. If each caller makes the calls that are worth more to it than they cost at these prices, the
budget goes to the calls that are worth most, and nobody has to know the others' values (Kelly,
Maulloo and Tan, "Rate control for communication networks: shadow prices, proportional fairness and
stability", J. Oper. Res. Soc. 49, 1998; Boyd et al., "Notes on decomposition methods", 2007).

A price follows its budget by projected subgradient steps on the dual problem:

    price = max(0, price + step * (rate of use - rate of budget) / rate of budget)

where the rate of the budget is what is left of it over the time that is left. The price is kept for
the whole limit, so that `step` needs no knowledge of a resource's unit: it is in the caller's unit
of value. A unit of the resource costs price / limit.
"""

from __future__ import annotations

from fmos.ledger.windows import Window, end_of

#: How far a price moves, in the caller's unit of value, when twice the budget's rate is used.
DEFAULT_STEP = 0.05

#: How often a price moves in the time of its budget.
STEPS_A_WINDOW = 60

_NS = 1_000_000_000


def ascend(price: float, *, used: float, allowed: float, step: float) -> float:
    """Return the price after one step; `used` and `allowed` are amounts of the same time.

    The excess counts as 1 at most. A budget with nothing left keeps its price while nobody spends.
    """
    rest = 1.0 if used else 0.0
    excess = min((used - allowed) / allowed, 1.0) if allowed > 0 else rest
    return max(0.0, price + step * excess)


def interval_ns(window: Window, start_ns: int, until_ns: int | None, priced_ns: int) -> int | None:
    """Return how long the price of a limit stays as it is; None for one that has no price.

    A window has one, and a total with a time at which its budget should be used up.
    """
    end = end_of(window, start_ns)
    length = end - start_ns if end is not None else None
    if length is None and until_ns is not None and until_ns > priced_ns:
        length = until_ns - priced_ns
    return None if length is None else max(length // STEPS_A_WINDOW, _NS)
