"""The gate: decides on an operation, notes the decision, and remembers what the agent has seen.

Whatever fails while an operation is judged denies it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from fmos.audit.record import record_intent, record_outcome
from fmos.canonical import content_digest
from fmos.errors import ArgumentError, BudgetExceededError, ContractError
from fmos.runtime.kernel import Kernel
from fmos.runtime.standing import Standing
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TableVersions, TrapTable, compile_table
from fmos.types import (
    Decision,
    Obligation,
    Observation,
    Operation,
    Outcome,
    Principal,
    Reason,
    Verdict,
)
from fmos_trust.approvals import Approvals
from fmos_trust.facts import Facts
from fmos_trust.keyed import KeyedHash
from fmos_trust.model import Pending, PendingApproval, Registration, Settled
from fmos_trust.rules import ASKING, FORBIDDING, apply_rules
from fmos_trust.secrets import find_secrets, known
from fmos_trust.store import Toolbox, TrustStore


class TrustService:
    """One gate over one kernel. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = TrustStore(kernel.database)
        self._approvals = Approvals(kernel, self._store)
        home = kernel.home.path
        self._private = sorted({str(home), str(home.resolve())})
        self._versions = TableVersions()

    def check(
        self, who: Principal, operation: Operation, approval: str, settled: Iterable[Settled]
    ) -> Verdict:
        """Decide on an operation, after noting what ran without a trap before it."""
        for item in settled:
            self._settle_innocuous(who, item)
        asked = operation.model_copy(update={"principal": who})
        try:
            standing = self._kernel.standing(who)
            tools = self._tools(standing)
            facts = self._facts(asked, standing, tools)
            verdict = self._decide(facts, approval, standing)
            synced = facts.is_synced and verdict.allowed
            table = self._version(standing, tools)
        except Exception as error:  # a rule that fails must deny, whatever the failure
            verdict, synced, table = _deny(asked, (_failed(error),)), False, ""
        record_intent(self._kernel, asked, verdict, synced=synced)
        return verdict.model_copy(update={"table": table})

    def settle(self, who: Principal, outcome: Outcome, observation: Observation | None) -> None:
        """Note how a checked operation ended, and what it brought into the session."""
        record_outcome(self._kernel, who, outcome)
        self._meter(who, outcome)
        if observation is not None:
            self._observe(who, observation)

    def observe(self, who: Principal, settled: Iterable[Settled]) -> None:
        """Note what ran without a trap, and what entered the session without an operation."""
        for item in settled:
            self._settle_innocuous(who, item)

    def register(self, who: Principal, tools: list[ToolDescriptor]) -> Registration:
        """Keep the tools of an agent's application.

        Raises:
            ArgumentError: if two of them have the same name.
        """
        names = [tool.name for tool in tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ArgumentError(
                f"the tool {twice[0]!r} is registered twice", hint="give each tool its own name"
            )
        self._store.put_tools(who, tools, self._kernel.clock.now_ns())
        digest = content_digest([tool.model_dump(mode="json") for tool in tools])
        self._kernel.record(who, "trust.tools", {"names": names, "digest": digest})
        return Registration(registered=len(tools), table_version=self.table(who).version)

    def table(self, who: Principal) -> TrapTable:
        """Return the agent's trap table, compiled and signed now."""
        kernel = self._kernel
        standing = kernel.standing(who)
        return compile_table(
            standing.mandate.contract,
            self._tools(standing).values(),
            kernel.keys_of(who.tenant),
            kernel.clock,
            agent=who.agent_key,
            tenant=who.tenant,
            private=self._private,
            metered=kernel.limits_calls(standing),
        )

    def table_version(self, who: Principal) -> str:
        """Return the version of the agent's trap table now; empty where none can be made."""
        with suppress(ContractError):  # the next verdict says so
            standing = self._kernel.standing(who)
            return self._version(standing, self._tools(standing))
        return ""

    def _version(self, standing: Standing, tools: Toolbox) -> str:
        return self._versions.of(
            standing.mandate.contract,
            tools,
            agent=standing.principal.agent_key,
            tenant=standing.principal.tenant,
            private=self._private,
            metered=self._kernel.limits_calls(standing),
        )

    def _tools(self, standing: Standing) -> Toolbox:
        return self._store.tools(standing.principal.tenant, standing.lineage)

    def pending(self, who: Principal) -> Pending:
        """Return what of an agent waits for a person."""
        return Pending(
            approvals=tuple(
                PendingApproval(
                    id=item.id,
                    operation=item.operation,
                    tool=item.tool,
                    arguments=item.shown,
                    reasons=item.reasons,
                    session=item.principal.session,
                    expires_ns=item.expires_ns,
                )
                for item in self._approvals.pending(who)
            )
        )

    def _decide(self, facts: Facts, approval: str, standing: Standing) -> Verdict:
        forbidden = apply_rules(FORBIDDING, facts)
        if forbidden:
            return _deny(facts.operation, forbidden, facts.policy)
        asking = apply_rules(ASKING, facts)
        if asking and not approval:
            return self._ask(facts, asking)
        allowed = _reason("trust.allowed", "the contract allows it", "allow")
        verdict = _verdict(facts.operation, Decision.ALLOW, (allowed,), facts.policy)
        try:
            if not asking:
                self._kernel.pay_call(standing)
                return verdict
            return self._approved_and_paid(facts, approval, asking, standing)
        except BudgetExceededError as error:
            spent = _reason("budget.exceeded", str(error), "ledger")
            return _deny(facts.operation, (spent,), facts.policy)

    def _approved_and_paid(
        self, facts: Facts, approval: str, asking: tuple[Reason, ...], standing: Standing
    ) -> Verdict:
        """Use an approval and pay for the call, both or neither."""
        self._kernel.apply_limits(standing)
        with self._kernel.database.transaction():
            verdict = self._with_approval(facts, approval, asking)
            if verdict.allowed:
                self._kernel.pay_call(standing)
            return verdict

    def _with_approval(self, facts: Facts, approval: str, asking: tuple[Reason, ...]) -> Verdict:
        operation, policy = facts.operation, facts.pinned
        found = self._approvals.state(approval)
        same = found is not None and found.digest == self._approvals.digest(operation, policy)
        if found is not None and same and found.state == "denied":
            said = f" ({found.comment})" if found.comment else ""
            message = f"{found.approver} said no to this call{said}; do not try it again"
            return _deny(operation, (_reason("trust.refused", message, "consent"),), facts.policy)
        if found is not None and same and found.state == "pending":
            return self._ask(facts, asking)
        problem = self._approvals.use(approval, operation, policy)
        if problem:
            unusable = _reason("trust.approval", f"{problem}, so it is asked anew", "consent")
            return self._ask(facts, (*asking, unusable))
        approver = found.approver if found else ""
        reason = _reason("trust.approved", f"{approver} approved this call", "consent")
        verdict = _verdict(operation, Decision.ALLOW, (reason,), facts.policy)
        return verdict.model_copy(update={"approval": approval})

    def _ask(self, facts: Facts, reasons: tuple[Reason, ...]) -> Verdict:
        approval = self._approvals.request(facts.operation, facts.pinned, reasons)
        fork = Obligation(kind="run_on_fork", parameters={"approval": approval.id})
        update = {
            "approval": approval.id,
            "obligations": (fork,) if facts.effect in ("write", "execute") else (),
        }
        return _verdict(facts.operation, Decision.ASK, reasons, facts.policy).model_copy(
            update=update
        )

    def _facts(self, operation: Operation, standing: Standing, tools: Toolbox) -> Facts:
        who, manifest = operation.principal, standing.mandate.manifest
        return Facts(
            operation=operation,
            contract=standing.mandate.contract,
            policy=manifest.hash if manifest else "",
            descriptor=tools.get(operation.name),
            secrets=tuple(self._store.secrets(who.tenant, standing.lineage)),
            keyed=self._keyed(who),
            home=str(self._kernel.home.path),
        )

    def _settle_innocuous(self, who: Principal, item: Settled) -> None:
        if item.observation is not None:
            self._observe(who, item.observation)
        if item.operation is not None:
            ran = item.operation.model_copy(update={"principal": who})
            reason = _reason("trap.innocuous", "it ran on the fast path", "trap-table")
            record_intent(self._kernel, ran, _verdict(ran, Decision.ALLOW, (reason,), ""))
            self._kernel.charge(who, {"tool_calls": 1})
        if item.outcome is not None:
            record_outcome(self._kernel, who, item.outcome)
            self._meter(who, item.outcome)

    def _meter(self, who: Principal, outcome: Outcome) -> None:
        """Account for the time a call took, in whole seconds: it happened, so it always counts."""
        seconds = round(outcome.duration_ms / 1000)
        if seconds:
            self._kernel.charge(who, {"wall_seconds": seconds})

    def _observe(self, who: Principal, observation: Observation) -> None:
        found = find_secrets(observation.text)
        if found:
            keyed = self._keyed(who)
            secrets = [known(item, observation.source, keyed) for item in found]
            self._store.put_secrets(who, secrets, self._kernel.clock.now_ns())

    def _keyed(self, who: Principal) -> KeyedHash:
        return KeyedHash(self._kernel.keys_of(who.tenant))


def _reason(code: str, message: str, rule: str) -> Reason:
    return Reason(code=code, message=message, rule=rule)


def _failed(error: Exception) -> Reason:
    message = f"the trust gate could not judge the call ({type(error).__name__}: {error})"
    return _reason("trust.error", f"{message}, so it is denied", "fail-closed")


def _verdict(
    operation: Operation, decision: Decision, reasons: tuple[Reason, ...], policy: str
) -> Verdict:
    return Verdict(operation=operation.id, decision=decision, reasons=reasons, policy=policy)


def _deny(operation: Operation, reasons: tuple[Reason, ...], policy: str = "") -> Verdict:
    return _verdict(operation, Decision.DENY, reasons, policy)
