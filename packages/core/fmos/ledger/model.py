"""The ledger's words: resources, amounts, reservations, balances and alerts."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from fmos.errors import ArgumentError
from fmos.ledger.windows import WINDOWS, Window
from fmos.types import Record

#: What is accounted for. Currency and risk are in micro-units, so that no amount is a fraction.
RESOURCES = (
    "tokens",
    "currency",
    "tool_calls",
    "verifier_runs",
    "memory_writes",
    "wall_seconds",
    "risk",
)

#: Far above any real amount, and far enough below 2**63 that totals cannot overflow.
MAX_AMOUNT = 10**15

#: The percents of a limit at whose spending the ledger alerts, unless an account has its own.
THRESHOLDS = (50, 80, 95, 100)

_MICRO = 1_000_000
_MAX_KEY = 200

ReservationState = Literal["open", "committed", "refunded", "expired"]


class Reservation(Record):
    """Amounts set aside for one operation until it is committed, refunded or expires."""

    id: str
    account: str
    operation: str
    amounts: dict[str, int]
    expires_ns: int


class Alert(Record):
    """An account has spent a share of a limit; told once for each limit, share and window."""

    id: int = Field(description="grows with every alert")
    account: str
    resource: str
    window: Window
    percent: int
    limit: int
    spent: int
    at_ns: int


class Settled(Record):
    """What a commit counted, and the alerts that it raised."""

    reservation: str
    used: dict[str, int]
    alerts: tuple[Alert, ...] = ()


class Known(Record):
    """A reservation as the ledger has it now; `used` is null until it is committed."""

    reservation: Reservation
    state: ReservationState
    used: dict[str, int] | None


class Balance(Record):
    """What one account may use of one resource, in all or in a window, and what it has used."""

    account: str
    resource: str
    limit: int | None = Field(description="null: this account sets no limit")
    reserved: int
    spent: int
    left: int | None = Field(description="never below 0; null without a limit")
    window: Window = "total"
    debt: int = Field(default=0, description="spent past the limit, because it happened")
    resets_ns: int | None = Field(default=None, description="when the window ends; null: never")


def risk_amount(probability: float, severity: float) -> int:
    """Return the `risk` of an operation in micro-units: its expected loss, rounded up.

    The loss that a failure brings times the probability that it fails, as risk is measured in
    decision theory (Wald, Statistical Decision Functions, 1950) and in NIST SP 800-30, appendix I.
    The unit of `severity` is the caller's, the same for all: a limit of 2,000,000 allows a loss of
    2 to be expected. Sums of expected losses are exact even where operations depend on each other.

    Raises:
        ArgumentError: if the probability is not within 0 to 1, or the severity is not finite or
            below 0.
    """
    if not 0 <= probability <= 1:
        raise ArgumentError(f"{probability!r} cannot be a probability", hint="give 0 to 1")
    if not 0 <= severity < math.inf:
        raise ArgumentError(f"{severity!r} cannot be a severity", hint="give 0 or more")
    amount = math.ceil(round(probability * severity * _MICRO, 6))
    check_amount("risk", amount)
    return amount


def check_resource(resource: str) -> None:
    """Refuse a resource that the ledger does not keep.

    Raises:
        ArgumentError: naming the nearest resource that it keeps.
    """
    if resource in RESOURCES:
        return
    near = difflib.get_close_matches(resource, RESOURCES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it keeps {', '.join(RESOURCES)}"
    raise ArgumentError(f"the ledger keeps no resource {resource!r}", hint=hint)


def check_amounts(amounts: Mapping[str, int]) -> None:
    """Refuse unknown resources and amounts that are not whole, negative or absurdly large.

    Raises:
        ArgumentError: naming the resource and the amount.
    """
    for resource, amount in amounts.items():
        check_resource(resource)
        check_amount(resource, amount)


def check_amount(resource: str, amount: int) -> None:
    """Refuse an amount that is not a whole number between 0 and `MAX_AMOUNT`.

    Raises:
        ArgumentError: naming the resource and the amount.
    """
    whole = isinstance(amount, int) and not isinstance(amount, bool)
    if not whole or not 0 <= amount <= MAX_AMOUNT:
        raise ArgumentError(
            f"{amount!r} cannot be an amount of {resource}",
            hint=f"give a whole number from 0 to {MAX_AMOUNT}",
        )


def check_window(window: str) -> None:
    """Refuse a window that the ledger does not keep.

    Raises:
        ArgumentError: naming those it keeps.
    """
    if window not in WINDOWS:
        raise ArgumentError(
            f"the ledger keeps no window {window!r}", hint=f"it keeps {', '.join(WINDOWS)}"
        )


def check_key(operation: str) -> None:
    """Refuse an idempotency key that is empty or longer than 200 characters.

    Raises:
        ArgumentError: saying which.
    """
    if not 0 < len(operation) <= _MAX_KEY:
        raise ArgumentError(
            f"{operation[:40]!r} cannot be the id of an operation",
            hint=f"give 1 to {_MAX_KEY} characters",
        )
