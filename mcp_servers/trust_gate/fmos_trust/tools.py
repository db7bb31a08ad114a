"""The trust gate's tools: names, arguments and when to use them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from fmos.runtime.jobs import Job
from fmos.runtime.kernel import Kernel
from fmos.serving.toolset import Question, Toolset, tool
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TrapTable
from fmos.types import Decision, Observation, Operation, Outcome, Principal, Verdict
from fmos_trust.audit import MAX_ROWS, AuditCheck, AuditRows, AuditService
from fmos_trust.model import Pending, Registration, Settled, Tried
from fmos_trust.policy.dry_run import USUAL, DryRun, PolicyCall
from fmos_trust.provenance.explain import Explanation
from fmos_trust.redaction.model import Settlement, settlement
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

    def question(self, name: str, answer: Any) -> Question | None:
        """Return the question of an asking verdict, for a client that can ask its user."""
        asks = name == "trust_check" and isinstance(answer, dict) and answer.get("approval")
        if not asks or answer["decision"] != Decision.ASK or not self.kernel.settings.trust.elicit:
            return None
        return self._service.question(str(answer["approval"]))

    def answered(self, question: Question, approve: bool, comment: str, by: str) -> None:
        """Take what a person said to their client."""
        self._service.answered(question, approve, comment, by)

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
        every = self.kernel.settings.jobs
        return (
            Job("approvals.expire", every.expire_s, lambda kernel, stop: self._service.expire()),
            Job("effects.forks", every.gc_s, lambda kernel, stop: self._service.sweep_orphans()),
        )

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
        effect: Annotated[
            str, Field(description="the fork on which an asked call ran, as `run_on_fork` says")
        ] = "",
        output: Annotated[str, Field(description="what it printed there")] = "",
    ) -> Verdict:
        """Decide whether an operation may run: allow, deny or ask.

        Use it before every operation that the trap table does not class as innocuous. Repeat an
        asked operation with its approval once a person has answered. An allowed one with the
        obligation `effect_done` is done already: do not run it.
        """
        tried = Tried(branch=effect, output=output)
        who = self.principal(agent, session)
        return self._service.check(who, operation, approval, settled, tried)

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
        shown = self._service.settle(who, outcome, observation)
        return settlement(self._service.table_version(who), shown)

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
        shown = self._service.observe(who, settled)
        return settlement(self._service.table_version(who), shown)

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

        Use it once when an application starts, with every tool of each server that it names. What
        differs from what was accepted before waits until a person agrees.
        """
        return self._service.register(self.principal(agent), tools)

    @tool("Try trust policies", read_only=True, idempotent=True)
    def trust_policy_dry_run(
        self,
        policy: Annotated[
            str | None, Field(description="the candidate's YAML; without it, what is in force")
        ] = None,
        calls: Annotated[
            list[PolicyCall] | None, Field(description="calls to try; without them, recorded ones")
        ] = None,
        limit: Annotated[int, Field(ge=1, le=10_000, description="the last so many")] = USUAL,
        agent: str = "",
        session: str = "",
    ) -> DryRun:
        """Say which of your own calls a candidate trust policy would decide otherwise.

        Use it before you propose a policy: nothing runs, and nothing is changed. Only a person can
        put a policy in force.
        """
        return self._service.policy_dry_run(self.principal(agent, session), policy, calls, limit)

    @tool("Explain a verdict", read_only=True, idempotent=True)
    def trust_explain(
        self,
        id: Annotated[
            str,
            Field(description="of an operation or approval; empty: the session's last denial"),
        ] = "",
        agent: str = "",
        session: str = "",
    ) -> Explanation:
        """Say why one of your own operations was allowed, asked about or denied.

        Use it after a denial, to see which rule and which evidence decided, where each argument
        came from, and what would change the verdict.
        """
        return self._service.explain(self.principal(agent, session), id)

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
