"""The trust gate's tools: names, arguments and when to use them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fmos.runtime.kernel import Kernel
from fmos.serving.toolset import Toolset, tool
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TrapTable
from fmos.types import Observation, Operation, Outcome, Principal, Verdict
from fmos_trust.model import Pending, Registration, Settled, Settlement
from fmos_trust.service import TrustService


class TrustTools(Toolset):
    """Check, settle and classify an agent's operations."""

    name = "trust-gate"
    title = "FMOS trust gate"
    instructions = (
        "Decides whether an agent's operation may run. Check every operation that the trap table"
        " does not call innocuous before it runs, and settle it afterwards. A denied operation"
        " says what to do instead; an asked one waits for a person (`fmos approve`)."
    )

    def __init__(self, kernel: Kernel, launch: Principal | None = None) -> None:
        super().__init__(kernel, launch)
        self._service = TrustService(kernel)

    @tool("Check an operation")
    def trust_check(
        self,
        operation: Annotated[Operation, Field(description="what is about to run")],
        approval: Annotated[str, Field(description="the approval of this very call")] = "",
        settled: Annotated[
            list[Settled], Field(description="what ran without a check since the last call")
        ] = [],  # noqa: B006
        agent: str = "",
        session: str = "",
    ) -> Verdict:
        """Decide whether an operation may run: allow, deny or ask.

        Use it before every operation that the trap table does not class as innocuous. Repeat an
        asked operation with its approval once a person has answered.
        """
        return self._service.check(self.principal(agent, session), operation, approval, settled)

    @tool("Settle an operation")
    def trust_settle(
        self,
        outcome: Annotated[Outcome, Field(description="how the operation ended")],
        observation: Annotated[
            Observation | None, Field(description="what it brought into the session")
        ] = None,
        agent: str = "",
        session: str = "",
    ) -> Settlement:
        """Close one checked operation. Use it after each one, with the text it returned."""
        who = self.principal(agent, session)
        self._service.settle(who, outcome, observation)
        return Settlement(table=self._service.table_version(who))

    @tool("Report what was observed")
    def trust_observe(
        self,
        settled: Annotated[
            list[Settled], Field(description="what ran without a check, and texts that came in")
        ],
        agent: str = "",
        session: str = "",
    ) -> Settlement:
        """Report what entered a session without a check: a user's text, a tool's output.

        Use it when a run ends, for what no later check would carry.
        """
        who = self.principal(agent, session)
        self._service.observe(who, settled)
        return Settlement(table=self._service.table_version(who))

    @tool("Get the trap table", read_only=True, idempotent=True)
    def trust_table(self, agent: str = "") -> TrapTable:
        """Return the signed table by which an adapter tells innocuous operations itself.

        Use it at the start of a session, and again when the table has expired.
        """
        return self._service.table(self.principal(agent))

    @tool("List waiting approvals", read_only=True, idempotent=True)
    def trust_pending(self, agent: str = "") -> Pending:
        """List the operations that wait for a person. Use it to see whether an answer is due."""
        return self._service.pending(self.principal(agent))

    @tool("Register tools", idempotent=True)
    def trust_register_tools(
        self,
        tools: Annotated[list[ToolDescriptor], Field(description="the application's tools")],
        agent: str = "",
    ) -> Registration:
        """Say which tools an agent has and what their arguments mean.

        Use it once when an application starts; a tool of the same name is replaced.
        """
        return self._service.register(self.principal(agent), tools)
