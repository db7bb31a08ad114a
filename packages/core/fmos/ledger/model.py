"""The ledger's words: resources, account paths, reservations and balances."""

from __future__ import annotations

import difflib
from typing import Literal

from pydantic import Field

from fmos.errors import ArgumentError
from fmos.types import Record

#: What is accounted for. Currency is in micro-units, so that no amount is a fraction.
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

ReservationState = Literal["open", "committed", "refunded", "expired"]


class Reservation(Record):
    """Amounts set aside for one operation until it is committed, refunded or expires."""

    id: str
    account: str
    operation: str
    amounts: dict[str, int]
    expires_ns: int


class Balance(Record):
    """What one account may use of one resource, and what it has used."""

    account: str
    resource: str
    limit: int | None = Field(description="null: this account sets no limit")
    reserved: int
    spent: int
    left: int | None = Field(description="never below 0; null without a limit")


def path_of(account: str) -> tuple[str, ...]:
    """Return the accounts that pay for `account`, from the root down to itself.

    Raises:
        ArgumentError: if the path is empty or has an empty part.
    """
    parts = account.split("/")
    if not all(parts):
        raise ArgumentError(
            f"{account!r} cannot be an account", hint="write it as parts joined by '/'"
        )
    return tuple("/".join(parts[: depth + 1]) for depth in range(len(parts)))


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


def check_amounts(amounts: dict[str, int]) -> None:
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
