"""What the reasoning-budget tools take and return beside the kernel's own records."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fmos.ledger.model import Alert, Balance
from fmos.types import Record

Level = Literal["off", "minimal", "low", "medium", "high", "xhigh", "max"]


class Applied(Record):
    """What a model really gets. `exact` is false when it was rounded, clamped or only asked for."""

    kind: Literal["effort", "tokens", "toggle", "prompt", "fixed"]
    value: str | int | bool
    exact: bool


class LevelSetting(Record):
    """A reasoning level in the words of one provider."""

    model: str
    family: str
    requested: str | int
    applied: Applied
    parameters: dict[str, Any] = Field(description="what to put into the request")
    note: str


class Balances(Record):
    """The balances of every account on a session's path, from the tenant down."""

    account: str
    balances: tuple[Balance, ...]


class Settlement(Record):
    """What was spent, and what is left."""

    reservation: str
    committed: dict[str, int]
    balances: tuple[Balance, ...]
    alerts: tuple[Alert, ...] = Field(
        default=(), description="shares of limits that this spending passed"
    )
