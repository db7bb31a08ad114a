"""What a principal spends, and from which accounts: the one way from an operation to the ledger.

Declared limits are applied before every reservation, so that no service can forget them and a
changed contract counts from the next operation on.
"""

from __future__ import annotations

from collections.abc import Mapping

from fmos.ledger.accounts import UNNAMED, Account, account_of
from fmos.ledger.ledger import Ledger
from fmos.ledger.model import Reservation
from fmos.ledger.windows import WINDOWS
from fmos.runtime.agents import AgentRegistry
from fmos.runtime.mandates import Mandate
from fmos.types import Principal

_SOURCE = "contract"

#: So many sessions are known to have their limits already.
_REMEMBERED = 4096


class Spending:
    """The accounts of one home's principals. Thread-safe."""

    def __init__(self, ledger: Ledger, agents: AgentRegistry) -> None:
        self._ledger = ledger
        self._agents = agents
        self._applied: dict[Account, Mandate] = {}
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

    def above(self, principal: Principal) -> list[Principal]:
        """Return whom a fork spends under: each agent and session that its account lies below."""
        path = self.account(principal).path
        agents = [part for part in path if part.kind == "agent"][:-1]
        return [
            principal.model_copy(update={"agent": part.name, "session": _session_below(part, path)})
            for part in agents
        ]

    def account_of_forks(self, principal: Principal) -> Account:
        """Return the account that agents forked by a principal spend under.

        It is the session's; where the principal names none, that of the agent as a whole.
        """
        account = self.account(principal)
        return account if principal.session else (account.nearest("agent") or account)

    def reserve(
        self,
        principal: Principal,
        mandate: Mandate,
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
        self.apply_limits(principal, mandate)
        account = self.account(principal)
        return self._ledger.reserve(
            account, dict(amounts), operation=operation, ttl_s=ttl_s,
            owner="here" if self.ends_with_process else None,
        )  # fmt: skip

    def charge(self, principal: Principal, mandate: Mandate, amounts: Mapping[str, int]) -> None:
        """Spend what was used already."""
        self.apply_limits(principal, mandate)
        self._ledger.charge(self.account(principal), amounts)

    def pay_call(self, principal: Principal, mandate: Mandate) -> None:
        """Spend one tool call; where time is limited, some of it must be left as well.

        Raises:
            BudgetExceededError: naming the account that has not enough left.
        """
        self.apply_limits(principal, mandate)
        timed = any(
            ("wall_seconds", w) in found for found in mandate.limits.values() for w in WINDOWS
        )
        needed = {"tool_calls": 1, "wall_seconds": 1} if timed else {"tool_calls": 1}
        self._ledger.charge(self.account(principal), {"tool_calls": 1}, needed=needed)

    def apply_limits(self, principal: Principal, mandate: Mandate) -> None:
        """Give a principal's accounts the limits that its contract and the policies declare.

        The accounts of the agents above a fork keep what their own contracts gave them. Nothing is
        written while the mandate is the one that was applied last.
        """
        session = self.account(principal)
        if self._applied.get(session) is mandate:
            return
        for part, limits in mandate.limits.items():
            account = session.nearest(part)
            if account is not None:
                self._ledger.apply_limits(account, limits, source=_SOURCE)
        if len(self._applied) >= _REMEMBERED:
            self._applied.clear()
        self._applied[session] = mandate


def _session_below(agent: Account, path: tuple[Account, ...]) -> str:
    """Return the session of an agent that a path goes through; empty where it names none."""
    found = next(
        (part.name for part in path if part.kind == "session" and part.parent == agent), ""
    )
    return "" if found == UNNAMED else found
