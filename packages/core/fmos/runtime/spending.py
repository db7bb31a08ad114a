"""What a principal spends, and from which accounts: the one way from an operation to the ledger.

Declared limits are applied before every reservation, so that no service can forget them and a
changed contract counts from the next operation on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

from fmos.errors import BudgetExceededError
from fmos.ledger.ledger import Ledger
from fmos.ledger.model import Reservation
from fmos.runtime.limits import OF_CALLS, limits_calls
from fmos.runtime.standing import Standing
from fmos.storage.database import Database

_SOURCE = "contract"
#: The outcome of a call is waited for so long: as long as the gate remembers it.
_OUTCOME_S = 7 * 86_400

T = TypeVar("T")


class Spending:
    """The spending of one home's principals. Thread-safe."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger
        #: Whether reservations are given back as soon as this process ends, or at their time.
        self.ends_with_process = True

    def reserve(
        self,
        standing: Standing,
        amounts: Mapping[str, int],
        *,
        operation: str,
        ttl_s: int,
    ) -> Reservation:
        """Apply what is declared, and set amounts aside for one operation.

        Raises:
            BudgetExceededError: naming the account that has not enough left.
            ArgumentError: if the operation's id was used before for something else.
        """
        owner: Literal["here"] | None = "here" if self.ends_with_process else None
        return self._limited(
            standing,
            lambda: self._ledger.reserve(
                standing.account, dict(amounts), operation=operation, ttl_s=ttl_s, owner=owner
            ),
        )

    def charge(self, standing: Standing, amounts: Mapping[str, int]) -> None:
        """Spend what was used already."""
        self._limited(standing, lambda: self._ledger.charge(standing.account, amounts))

    def pay_call(self, standing: Standing) -> None:
        """Spend one tool call; where time is limited, some of it must be left as well.

        Raises:
            BudgetExceededError: naming the account that has not enough left.
        """
        account = standing.account

        def pay() -> object:
            timed = "wall_seconds" in self._ledger.limited(account)
            needed = {"tool_calls": 1, "wall_seconds": 1} if timed else {"tool_calls": 1}
            return self._ledger.charge(account, {"tool_calls": 1}, needed=needed)

        self._limited(standing, pay)

    def hold_risk(self, standing: Standing, risk: int, *, operation: str) -> Reservation:
        """Set the risk of a call aside until its outcome is known, which outlives this process.

        Raises:
            BudgetExceededError: naming the account that has not enough left.
        """
        return self._limited(
            standing,
            lambda: self._ledger.reserve(
                standing.account,
                {"risk": risk},
                operation=operation,
                ttl_s=_OUTCOME_S,
                owner=None,
            ),
        )

    def limits_calls(self, standing: Standing) -> bool:
        """Return whether a tool call spends of a limit, declared or set by a person."""
        everybody = (standing, *standing.above)
        if any(limits_calls(each.mandate.limits) for each in everybody):
            return True
        return not OF_CALLS.isdisjoint(self._ledger.limited(standing.account))

    def apply_limits(self, standing: Standing) -> None:
        """Give the accounts of a principal, and of who forked it, the limits declared for them.

        Accounts that agents or sessions share have those of whoever acts; what is declared already
        is only read.
        """
        for each in (*reversed(standing.above), standing):
            declared = {
                account: limits
                for part, limits in each.mandate.limits.items()
                if (account := each.account.nearest(part)) is not None
            }
            self._ledger.apply_all_limits(declared, source=_SOURCE)

    def _limited(self, standing: Standing, work: Callable[[], T]) -> T:
        """Do something to the accounts while no other session can change what is declared."""
        refused: BudgetExceededError | None = None
        with self._database.transaction():
            self.apply_limits(standing)
            try:
                return work()
            except BudgetExceededError as error:  # the limits stay, though nothing was spent
                refused = error
        raise refused
