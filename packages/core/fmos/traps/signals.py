"""The signals that make an otherwise innocuous operation trap, each one small pure function.

A signal looks at the operation, its hints, and the session's trajectory with the operation already
observed; the thresholds are the trap table's. A signal can only add a trap. docs/spec/trap-abi.md
has the same in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from fmos.traps.trajectory import Trajectory
from fmos.types import Operation, Record

_MILLI = 1000

Milli = Annotated[int, Field(ge=0, le=1_000_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Thresholds(Record):
    """When each signal fires; null turns one off. `_milli` is thousandths: tables hold integers."""

    missing_context_milli: Milli | None = Field(
        default=500, description="at or above this share of missing context"
    )
    confidence_milli: Milli | None = Field(default=500, description="below this confidence")
    entropy_milli: Milli | None = Field(
        default=2000, description="above this mean entropy, in nats per token"
    )
    varentropy_milli: Milli | None = Field(
        default=None, description="above this mean varentropy, in square nats per token"
    )
    budget_milli: Milli | None = Field(
        default=900, description="at or above this share of a limit used"
    )
    rate_milli: Milli | None = Field(
        default=4000, description="at or above so many times the session's usual rate"
    )
    rate_floor: Count = Field(
        default=20, description="never below so many operations in about ten seconds"
    )
    repeat: Annotated[int, Field(ge=2, le=32)] | None = Field(
        default=5, description="from this many equal calls among the last 32 to 63 on"
    )
    shape_after: Count | None = Field(
        default=5, description="a new argument shape once the tool was called so often"
    )
    sensitive: tuple[str, ...] = Field(
        default=(), description="labels of an operation that the contract marks sensitive"
    )


class MayFire(NamedTuple):
    """From where on each signal that looks at the past can fire; infinite where it is off."""

    repeats: float
    calls_of_tool: float
    budget_used: float
    count_now: float
    burst: float

    @classmethod
    def of(cls, limits: Thresholds) -> MayFire:
        """Return the bounds of a table's thresholds."""
        return cls(
            repeats=_or_never(limits.repeat),
            calls_of_tool=_or_never(limits.shape_after),
            budget_used=_or_never(limits.budget_milli) / _MILLI * 0.999999,
            count_now=limits.rate_floor,
            # A hair below, so that rounding decides nothing here.
            burst=_or_never(limits.rate_milli) / _MILLI * 0.999999,
        )


def _or_never(limit: int | None) -> float:
    return math.inf if limit is None else limit


Signal = Callable[[Operation, Trajectory, Thresholds], bool]


def missing_context(operation: Operation, _past: Trajectory, limits: Thresholds) -> bool:
    """Whether the hint `missing_context` (0..1) says that what the call rests on is not there."""
    limit, hint = limits.missing_context_milli, operation.hints.get("missing_context")
    return limit is not None and hint is not None and not hint * _MILLI < limit


def uncertainty(operation: Operation, _past: Trajectory, limits: Thresholds) -> bool:
    """Whether the model was unsure: a low `confidence`, a high `entropy` or `varentropy`."""
    hints = operation.hints
    if not hints:
        return False
    sure, entropy, spread = (hints.get(name) for name in ("confidence", "entropy", "varentropy"))
    return (
        _below(sure, limits.confidence_milli)
        or _above(entropy, limits.entropy_milli)
        or _above(spread, limits.varentropy_milli)
    )


def policy(operation: Operation, _past: Trajectory, limits: Thresholds) -> bool:
    """Whether the operation carries a label that the contract marks sensitive."""
    return bool(operation.labels) and not set(limits.sensitive).isdisjoint(operation.labels)


def budget(operation: Operation, past: Trajectory, limits: Thresholds) -> bool:
    """Whether a limit is nearly used up, by the hint `budget_used` or the session's last answer."""
    used = operation.hints.get("budget_used", past.budget_used)
    return limits.budget_milli is not None and not used * _MILLI < limits.budget_milli


def rate(_operation: Operation, past: Trajectory, limits: Thresholds) -> bool:
    """Whether the session is suddenly much faster than it used to be."""
    return (
        limits.rate_milli is not None
        and past.count_now >= limits.rate_floor
        and past.burst() * _MILLI >= limits.rate_milli
    )


def repetition(_operation: Operation, past: Trajectory, limits: Thresholds) -> bool:
    """Whether the same tool was called with the same arguments again and again."""
    return limits.repeat is not None and past.repeats >= limits.repeat


def shape(_operation: Operation, past: Trajectory, limits: Thresholds) -> bool:
    """Whether a tool with a past gets argument names or types that it never got before."""
    return (
        past.new_shape
        and limits.shape_after is not None
        and past.calls_of_tool >= limits.shape_after
    )


#: Every signal by the name that verdicts, labels and the journal carry.
SIGNALS: dict[str, Signal] = {
    "missing_context": missing_context,
    "uncertainty": uncertainty,
    "policy": policy,
    "budget": budget,
    "anomaly.rate": rate,
    "anomaly.repetition": repetition,
    "anomaly.shape": shape,
}


def raised(operation: Operation, past: Trajectory, limits: Thresholds) -> tuple[str, ...]:
    """Return the names of the signals that an operation raises."""
    return tuple([name for name, signal in _ALL if signal(operation, past, limits)])


def mean_entropy(tokens: Iterable[Sequence[float]]) -> float:
    """Return the mean entropy of a generation's tokens, in nats per token.

    Each token is the natural log-probabilities of its likeliest alternatives, as providers return
    them; H = -sum(p ln p) (Shannon, 1948). What the alternatives leave of the probability counts
    as one more, so the figure is a lower bound. No tokens: 0.
    """
    return _mean([_moments(token)[0] for token in tokens])


def mean_varentropy(tokens: Iterable[Sequence[float]]) -> float:
    """Return the mean varentropy of a generation's tokens, in square nats per token.

    V = sum(p (-ln p - H)^2), the variance of the information (Kontoyiannis and Verdú, IEEE
    Transactions on Information Theory 60(2), 2014): high where few likely ways differ much.
    """
    return _mean([_moments(token)[1] for token in tokens])


def hints_of(tokens: Iterable[Sequence[float]]) -> dict[str, float]:
    """Return the hints that the log-probabilities of a generation give; none for no tokens."""
    moments = [_moments(token) for token in tokens]
    if not moments:
        return {}
    return {
        "entropy": _mean([moment[0] for moment in moments]),
        "varentropy": _mean([moment[1] for moment in moments]),
    }


_ALL = tuple(SIGNALS.items())


def _above(hint: float | None, limit: int | None) -> bool:
    # `not <=` and `not >=`: a hint that is no number counts as a signal, never as silence.
    return hint is not None and limit is not None and not hint * _MILLI <= limit


def _below(hint: float | None, limit: int | None) -> bool:
    return hint is not None and limit is not None and not hint * _MILLI >= limit


def _moments(token: Sequence[float]) -> tuple[float, float]:
    """Entropy and varentropy of one token."""
    shares = [math.exp(min(logarithm, 0.0)) for logarithm in token]
    rest = 1.0 - sum(shares)
    if rest > 0:
        shares.append(rest)
    informations = [(share, -math.log(share)) for share in shares if share > 0]
    entropy = sum(share * information for share, information in informations)
    spread = sum(share * (information - entropy) ** 2 for share, information in informations)
    return entropy, spread


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
