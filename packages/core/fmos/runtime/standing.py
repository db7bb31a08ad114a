"""What one principal stands under: looked up once for an operation, then used for all of it."""

from __future__ import annotations

from dataclasses import dataclass

from fmos.ledger.accounts import UNNAMED, Account, account_of
from fmos.runtime.agents import AgentRegistry, Descent
from fmos.runtime.mandates import Mandate, Mandates
from fmos.runtime.states import AgentState, refusal
from fmos.types import Principal


@dataclass(frozen=True, slots=True)
class Standing:
    """A principal, what binds it at this moment, and the account of its session.

    `lineage` has the agent's key and those it descends from, nearest first; `above` is where those
    stand that forked it, nearest first. Only an agent that is running may do anything privileged.
    """

    principal: Principal
    mandate: Mandate
    account: Account
    lineage: tuple[str, ...]
    above: tuple[Standing, ...] = ()
    state: AgentState = AgentState.RUNNING

    @property
    def stopped(self) -> str:
        """Why nothing of the agent may run, as a sentence; empty while it is running."""
        if self.state is AgentState.RUNNING:
            return self.mandate.refused
        return refusal(self.principal.agent_key, self.state)


class Standings:
    """Where the principals of one home stand. Thread-safe."""

    def __init__(self, agents: AgentRegistry, mandates: Mandates) -> None:
        self._agents = agents
        self._mandates = mandates

    def of(self, principal: Principal) -> Standing:
        """Return where a principal stands now.

        Raises:
            ContractError: if a contract or policy that binds it is broken.
        """
        descent = self._agents.descent(principal)
        above = tuple(self._one(each, self._agents.descent(each)) for each in descent.origins)
        return self._one(principal, descent, above)

    def account(self, principal: Principal) -> Account:
        """Return the account of a principal's session, also where its contract is broken."""
        return _account(principal, self._agents.descent(principal))

    def _one(
        self, principal: Principal, descent: Descent, above: tuple[Standing, ...] = ()
    ) -> Standing:
        mandate = self._mandates.of(principal, descent)
        account = _account(principal, descent)
        return Standing(principal, mandate, account, descent.lineage, above, descent.state)


def _account(principal: Principal, descent: Descent) -> Account:
    """Return the account of a session; a fork's lies under the one that it spends under.

    A principal without a session has one of the name `-`, so that session limits bind it too.
    """
    return account_of(
        principal.tenant,
        principal.application,
        principal.agent,
        principal.session or UNNAMED,
        under=Account.parse(descent.account) if descent.account else None,
    )
