"""The trust gate's tools: names, arguments and when to use them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from fmos.runtime.jobs import Job
from fmos.runtime.kernel import Kernel
from fmos.serving.toolset import Toolset, tool
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TrapTable
from fmos.types import Observation, Operation, Outcome, Principal, Verdict
from fmos_trust.audit import MAX_ROWS, AuditCheck, AuditRows, AuditService
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
        self._audit = AuditService(kernel)

    def export_state(self, who: Principal) -> dict[str, Any]:
        """Return the tools of an agent; digests of secrets mean nothing in another home."""
        return {"tools": [tool.model_dump(mode="json") for tool in self._service.tools(who)]}

    def import_state(self, who: Principal, state: dict[str, Any]) -> None:
        """Register the tools that an agent had elsewhere, and learn what it holds of secrets."""
        tools = [ToolDescriptor.model_validate(each) for each in state.get("tools", ())]
        if tools:
            self._service.register(who, tools)
        self._service.look_through(who)

    def jobs(self) -> tuple[Job, ...]:
        """End approvals that nobody answered or used in time."""
        every_s = self.kernel.settings.jobs.expire_s
        return (Job("approvals.expire", every_s, lambda kernel, stop: self._service.expire()),)

    def happened(self, who: Principal, event: str, value: Any) -> None:
        """Bring about what a session depends on and no tool does, when it is run again."""
        self._service.happened(who, event, value)

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

    @tool("Read own audit rows", read_only=True, idempotent=True)
    def audit_query(
        self,
        kind: Annotated[str, Field(description="such as op.intent; empty for all")] = "",
        operation: Annotated[str, Field(description="the id of one operation")] = "",
        since: Annotated[int, Field(ge=0, description="only rows after this number")] = 0,
        limit: Annotated[int, Field(ge=1, le=MAX_ROWS, description="the newest so many")] = 50,
        agent: str = "",
        session: str = "",
    ) -> AuditRows:
        """List what the journal has of your own operations: what was asked, decided and done.

        Use it to see why an operation was denied earlier, or whether it ran.
        """
        who = self.principal(agent, session)
        return self._audit.query(who, kind=kind, operation=operation, since=since, limit=limit)

    @tool("Verify the journal", read_only=True, idempotent=True)
    def audit_verify(self, agent: str = "", session: str = "") -> AuditCheck:
        """Check that the journal's newest rows are as they were written, back to a signed state.

        Use it before you rely on what the journal says. A person checks all of it with
        `fmos audit verify`.
        """
        return self._audit.verify(self.principal(agent, session))
