"""When spending crosses a share of a limit. Spending never falls, so each share is crossed once."""

from __future__ import annotations

from collections.abc import Sequence

from fmos.errors import ArgumentError


def due_at(limit: int | None, spent: int, thresholds: Sequence[int]) -> int | None:
    """Return the spending at which the next alert is due, or None if none is."""
    if not limit:
        return None
    amounts = (_amount(limit, percent) for percent in sorted(thresholds))
    return next((amount for amount in amounts if amount > spent), None)


def crossed(limit: int, due: int, spent: int, thresholds: Sequence[int]) -> tuple[int, ...]:
    """Return the percents of a limit that spending has passed since the alert at `due` was set."""
    return tuple(p for p in sorted(thresholds) if due <= _amount(limit, p) <= spent)


def check_thresholds(thresholds: Sequence[int]) -> None:
    """Refuse thresholds that are not whole percents from 1 to 1000.

    Raises:
        ArgumentError: naming the first that is not one.
    """
    for percent in thresholds:
        if isinstance(percent, bool) or not isinstance(percent, int) or not 1 <= percent <= 1000:
            raise ArgumentError(
                f"{percent!r} cannot be a threshold", hint="give whole percents from 1 to 1000"
            )


def _amount(limit: int, percent: int) -> int:
    return -(-limit * percent // 100)
