"""What a principal spends, and from which accounts: the one way from an operation to the ledger.

Declared limits are applied before every reservation, so that no service can forget them and a
changed contract counts from the next operation on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias, TypeVar

from fmos.errors import BudgetExceededError
from fmos.ledger.accounts import UNNAMED, Account, account_of
from fmos.ledger.ledger import Ledger
from fmos.ledger.model import Reservation
from fmos.runtime.agents import AgentRegistry
from fmos.runtime.limits import OF_CALLS
from fmos.runtime.mandates import Mandate
from fmos.storage.database import Database
from fmos.types import Principal

_SOURCE = "contract"

#: A principal with its mandate, and those of who forked it, nearest first.
Bound: TypeAlias = Sequence[tuple[Principal, Mandate]]
T = TypeVar("T")


class Spending:
    """The accounts of one home's principals. Thread-safe."""

    def __init__(self, database: Database, ledger: Ledger, agents: AgentRegistry) -> None:
        self._database = database
        self._ledger = ledger
        self._agents = agents
        #: Whether reservations are given back as soon as this process ends, or at their time.
        self.ends_with_process = True

    def account(self, principal: Principal) -> Account:
        """Return the account of a principal's session; a fork's lies under the one it forked from.

        A principal without a session has one of the name `-`, so that session limits bind it too.
        """
        above = self._agents.account(principal)
        return account_of(
            principal.tenant,
            principal.application,
            principal.agent,
            principal.session or UNNAMED,
            under=Account.parse(above) if above else None,
        )

    def account_of_forks(self, principal: Principal) -> Account:
        """Return the account that agents forked by a principal spend under.

        It is the session's; where the principal names none, that of the agent as a whole.
        """
        account = self.account(principal)
        return account if principal.session else (account.nearest("agent") or account)

    def reserve(
        self,
        bound: Bound,
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
        account = self.account(bound[0][0])
        return self._limited(
            bound,
            lambda: self._ledger.reserve(
                account, dict(amounts), operation=operation, ttl_s=ttl_s, owner=owner
            ),
        )

    def charge(self, bound: Bound, amounts: Mapping[str, int]) -> None:
        """Spend what was used already."""
        account = self.account(bound[0][0])
        self._limited(bound, lambda: self._ledger.charge(account, amounts))

    def pay_call(self, bound: Bound) -> None:
        """Spend one tool call; where time is limited, some of it must be left as well.

        Raises:
            BudgetExceededError: naming the account that has not enough left.
        """
        account = self.account(bound[0][0])

        def pay() -> object:
            timed = "wall_seconds" in self._ledger.limited(account)
            needed = {"tool_calls": 1, "wall_seconds": 1} if timed else {"tool_calls": 1}
            return self._ledger.charge(account, {"tool_calls": 1}, needed=needed)

        self._limited(bound, pay)

    def limits_calls(self, bound: Bound) -> bool:
        """Return whether a tool call spends of a limit, declared or set by a person."""
        declared = {
            name for _, mandate in bound for each in mandate.limits.values() for name, _ in each
        }
        return not OF_CALLS.isdisjoint(declared | self._ledger.limited(self.account(bound[0][0])))

    def apply_limits(self, bound: Bound) -> None:
        """Give the accounts of a principal, and of who forked it, the limits declared for them.

        Accounts that agents or sessions share have those of whoever acts; what is declared already
        is only read.
        """
        for principal, mandate in reversed(bound):
            session = self.account(principal)
            for part, limits in mandate.limits.items():
                account = session.nearest(part)
                if account is not None:
                    self._ledger.apply_limits(account, limits, source=_SOURCE)

    def _limited(self, bound: Bound, work: Callable[[], T]) -> T:
        """Do something to the accounts while no other session can change what is declared."""
        refused: BudgetExceededError | None = None
        with self._database.transaction():
            self.apply_limits(bound)
            try:
                return work()
            except BudgetExceededError as error:  # the limits stay, though nothing was spent
                refused = error
        raise refused
