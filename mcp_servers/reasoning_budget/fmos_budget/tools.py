"""The reasoning-budget server's tools: names, arguments and when to use them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fmos.runtime.kernel import Kernel
from fmos.serving.toolset import Toolset, tool
from fmos.types import Operation, Principal, Verdict
from fmos_budget.levels import set_level
from fmos_budget.model import Balances, Level, LevelSetting, Settlement
from fmos_budget.service import BudgetService

Amount = Annotated[int, Field(ge=0)]


class BudgetTools(Toolset):
    """Set how hard a model thinks; admit and settle what its calls cost."""

    name = "reasoning-budget"
    title = "FMOS reasoning budget"
    instructions = (
        "Keeps the accounts of an agent's model calls. Admit each call before it is made and"
        " settle it with the usage that the provider reports. Set a reasoning level in one word"
        " for every provider."
    )

    def __init__(self, kernel: Kernel, launch: Principal | None = None) -> None:
        super().__init__(kernel, launch)
        self._service = BudgetService(kernel)

    @tool("Set a reasoning level", read_only=True, idempotent=True)
    def set_reasoning_level(
        self,
        model: Annotated[str, Field(description="the model's name, such as gpt-5.2")],
        level: Annotated[
            Level | Amount, Field(description="a level, or a number of thinking tokens")
        ],
        agent: str = "",
    ) -> LevelSetting:
        """Translate a reasoning level into the parameters of a model's provider.

        Use it before a model call; `applied` says what the model really gets, and `note` why it
        differs from what was asked. Changes nothing by itself.
        """
        return set_level(model, level)

    @tool("Admit an operation", idempotent=True)
    def budget_admit(
        self,
        operation: Annotated[Operation, Field(description="the call, with its cost_estimate")],
        agent: str = "",
        session: str = "",
    ) -> Verdict:
        """Reserve what a model call may cost, or say why there is not enough.

        Use it before every model call. An allowed call has a reservation to settle afterwards.
        """
        return self._service.admit(self.principal(agent, session), operation)

    @tool("Settle an operation", idempotent=True)
    def budget_settle(
        self,
        reservation: Annotated[str, Field(description="what budget_admit returned")],
        usage: Annotated[
            dict[str, Amount],
            Field(
                description="what was used, in the ledger's resources or the provider's words; what"
                " was reserved and is not named counts as used; empty: the call did not happen"
            ),
        ],
        agent: str = "",
        session: str = "",
    ) -> Settlement:
        """Record what an admitted call really used. Use it after every model call."""
        return self._service.settle(self.principal(agent, session), reservation, usage)

    @tool("Show balances", read_only=True, idempotent=True)
    def budget_status(self, agent: str = "", session: str = "") -> Balances:
        """Show what a session has spent and has left, and the accounts above it.

        Use it to see whether a larger step is affordable.
        """
        return self._service.status(self.principal(agent, session))
