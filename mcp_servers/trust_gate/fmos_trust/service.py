"""The gate: decides on an operation, notes the decision, and remembers what the agent has seen.

Whatever fails while an operation is judged denies it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from fmos.audit.record import record_intent, record_outcome
from fmos.canonical import content_digest
from fmos.errors import ArgumentError, BudgetExceededError, ContractError
from fmos.redaction import find_secrets
from fmos.replay.recording import Call
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
from fmos_trust.findings import Judge, Judged, judge_all
from fmos_trust.keyed import KeyedHash
from fmos_trust.model import Pending, PendingApproval, Registration, Settled
from fmos_trust.modules import Modules
from fmos_trust.rules import contract_rules
from fmos_trust.secrets import KnownSecret, known
from fmos_trust.store import KnownCall, Toolbox, TrustStore

#: Calls are remembered for so long after they were let through.
_CALLS_KEPT_NS = 7 * 86_400 * 1_000_000_000


#: Where on its branch an agent keeps what it was told.
_REMEMBERED = ("/.fmos/memory", "/.fmos/context")


class TrustService:
    """One gate over one kernel. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = TrustStore(kernel.database)
        self._approvals = Approvals(kernel, self._store)
        home = kernel.home.path
        self._private = sorted({str(home), str(home.resolve())})
        self._versions = TableVersions()
        self._modules = Modules(kernel)
        self._judges: tuple[Judge, ...] = (contract_rules, self._modules.judge)

    def check(
        self, who: Principal, operation: Operation, approval: str, settled: Iterable[Settled]
    ) -> Verdict:
        """Decide on an operation, after noting what ran without a trap before it."""
        settled = list(settled)
        for item in settled:
            self._settle_innocuous(who, item)
        asked = operation.model_copy(update={"principal": who})
        try:
            standing = self._kernel.standing(who)
            tools = self._tools(standing)
            self._note_premises(standing, tools)
            facts = self._facts(asked, standing, tools)
            verdict = self._decide(facts, approval, standing)
            synced = facts.is_synced and verdict.allowed
            table = self._version(standing, tools)
        except Exception as error:  # a rule that fails must deny, whatever the failure
            verdict, synced, table = _deny(asked, (_failed(error),)), False, ""
            if isinstance(error, ContractError):
                self._kernel.recordings.broken(who, error)
        verdict = verdict.model_copy(update={"table": table})
        given = {"operation": operation, "approval": approval, "settled": settled}
        call = self._kernel.recordings.call(
            who, "trust_check", given, verdict, operation=operation.id
        )
        record_intent(self._kernel, asked, verdict, synced=synced, call=call)
        return verdict

    def settle(self, who: Principal, outcome: Outcome, observation: Observation | None) -> None:
        """Note how a checked operation ended, and what it brought into the session.

        Said again, it changes nothing.

        Raises:
            ArgumentError: if the gate has let no such operation of this agent through.
        """
        if observation is not None:
            self._observe(who, observation)
        given = {"outcome": outcome, "observation": observation}
        call = self._kernel.recordings.call(who, "trust_settle", given, operation=outcome.operation)
        self._close(who, outcome, call)

    def observe(self, who: Principal, settled: Iterable[Settled]) -> None:
        """Note what ran without a trap, and what entered the session without an operation."""
        settled = list(settled)
        for item in settled:
            self._settle_innocuous(who, item)
        recordings = self._kernel.recordings
        recordings.note(who, recordings.call(who, "trust_observe", {"settled": settled}))

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
        now_ns = self._kernel.clock.now_ns()
        self._store.put_tools(who, tools, now_ns)
        self._store.forget_calls(now_ns - _CALLS_KEPT_NS)
        digest = content_digest([tool.model_dump(mode="json") for tool in tools])
        found = Registration(registered=len(tools), table_version=self.table(who).version)
        call = self._kernel.recordings.call(who, "trust_register_tools", {"tools": tools}, found)
        detail = {"names": names, "digest": digest}
        self._kernel.record(who, "trust.tools", detail, call=call)
        return found

    def happened(self, who: Principal, event: str, value: Any) -> None:
        """Bring about what a session depends on and no tool does, when it is run again."""
        if event == "trust.tools":
            tools = [ToolDescriptor.model_validate(each) for each in value]
            self._store.put_tools(who, tools, self._kernel.clock.now_ns())
        elif event == "trust.secrets":
            seen = [
                KnownSecret(kind, length, bytes.fromhex(digest), source)
                for kind, length, digest, source in value
            ]
            self._store.put_secrets(who, seen, self._kernel.clock.now_ns())
        elif event == "approval.decide":
            self._approvals.decide(**value)

    def _note_premises(self, standing: Standing, tools: Toolbox) -> None:
        """Tell the recording what the verdict depends on beside the session's own calls."""
        recordings, who = self._kernel.recordings, standing.principal
        recordings.standing(standing)
        recordings.premise(
            who,
            "trust.tools",
            tools,
            lambda: [each.model_dump(mode="json") for each in tools.values()],
        )
        recordings.premise(
            who,
            "trust.secrets",
            self._store,
            lambda: [
                [each.kind, each.length, each.digest.hex(), each.source]
                for each in self._store.secrets(who.tenant, standing.lineage)
            ],
        )

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
            metered=self._all_trap(standing),
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
            metered=self._all_trap(standing),
        )

    def _all_trap(self, standing: Standing) -> bool:
        """Return whether no call may run without the gate: the agent is stopped, or all count."""
        if standing.stopped or self._modules:
            return True
        return self._kernel.limits_calls(standing)

    def _tools(self, standing: Standing) -> Toolbox:
        return self._store.tools(standing.principal.tenant, standing.lineage)

    def tools(self, who: Principal) -> list[ToolDescriptor]:
        """Return the tools that an agent and those it descends from have registered."""
        return list(self._store.tools(who.tenant, self._kernel.agents.lineage(who)).values())

    def look_through(self, who: Principal) -> None:
        """Learn which secrets the memory and context of an agent hold that came from elsewhere."""
        fs = self._kernel.known_agent_fs(who)
        if fs is None:
            return
        for folder in _REMEMBERED:
            for path in fs.glob(f"{folder}/**"):
                if fs.is_file(path):
                    text = fs.read(path).decode("utf-8", "replace")
                    self._observe(who, Observation(source=f"import:{folder[1:]}", text=text))

    def expire(self) -> None:
        """End what nobody approved or used in time; each look at an approval does it too."""
        self._approvals.pending()

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
        if standing.stopped:
            stopped = _reason(f"agent.{standing.state}", standing.stopped, "lifecycle")
            return _deny(facts.operation, (stopped,), facts.policy)
        judged = judge_all(self._judges, facts)
        if judged.denials:
            return _deny(facts.operation, judged.denials, facts.policy)
        again = self._asked_again(facts) if judged.asks else None
        if again is not None and not again.allowed:
            return again  # a person's yes is for once, also where the answer was lost
        if judged.asks and not approval:
            return self._ask(facts, judged.asks)
        try:
            verdict = self._paid(facts, approval, judged.asks, standing)
            return _completed(verdict, judged) if verdict.allowed else verdict
        except BudgetExceededError as error:
            self._kernel.apply_limits(standing)  # they stay, though nothing was spent
            spent = _reason("budget.exceeded", str(error), "ledger")
            return _deny(facts.operation, (spent,), facts.policy)

    def _asked_again(self, facts: Facts) -> Verdict | None:
        """Return the verdict on a call whose id was let through before; None for a new one.

        Whoever lost the answer asks again for the same, which is paid and approved already.
        """
        operation = facts.operation
        known = self._store.call(operation.principal, operation.id)
        if known is None or known.state == "asked":
            return None
        ended = known.state == "settled"
        if ended or known.digest != self._approvals.digest(operation, facts.pinned):
            what = "has ended already" if ended else "was let through for another call"
            message = f"the operation {operation.id!r} {what}; give each call an id of its own"
            return _deny(operation, (_reason("trust.operation", message, "once"),), facts.policy)
        repeated = _reason("trust.repeated", "it was let through before", "once")
        return _verdict(operation, Decision.ALLOW, (repeated,), facts.policy)

    def _paid(
        self, facts: Facts, approval: str, asking: tuple[Reason, ...], standing: Standing
    ) -> Verdict:
        """Use the approval where one is needed, pay for the call and note it: all or nothing."""
        allowed = _reason("trust.allowed", "the contract allows it", "allow")
        verdict = _verdict(facts.operation, Decision.ALLOW, (allowed,), facts.policy)
        with self._kernel.database.transaction():
            if asking:
                verdict = self._with_approval(facts, approval, asking)
            if not verdict.allowed:
                return verdict
            if not self._note_call(facts, "open"):
                return self._asked_again(facts) or verdict
            self._kernel.pay_call(standing)
            return verdict

    def _note_call(self, facts: Facts, state: str) -> bool:
        operation = facts.operation
        known = KnownCall(self._approvals.digest(operation, facts.pinned), state)
        now_ns = self._kernel.clock.now_ns()
        return self._store.note_call(operation.principal, operation.id, known, now_ns)

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
        self._note_call(facts, "asked")  # it may run on a fork meanwhile
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
            tools=tools,
        )

    def _settle_innocuous(self, who: Principal, item: Settled) -> None:
        if item.observation is not None:
            self._observe(who, item.observation)
        if item.operation is not None:
            ran = item.operation.model_copy(update={"principal": who})
            reason = _reason("trap.innocuous", "it ran on the fast path", "trap-table")
            record_intent(self._kernel, ran, _verdict(ran, Decision.ALLOW, (reason,), ""))
            self._kernel.charge(who, {"tool_calls": 1})
        if item.outcome is not None and item.operation is not None:
            record_outcome(self._kernel, who, item.outcome)
            self._meter(who, item.outcome)
        elif item.outcome is not None:
            self._close(who, item.outcome)

    def _close(self, who: Principal, outcome: Outcome, call: Call | None = None) -> None:
        """Note the end of a call that was let through; once."""
        if self._store.settle_call(who, outcome.operation):
            # Not in one transaction: whoever holds kernel.db must not wait for a volume.
            try:
                record_outcome(self._kernel, who, outcome, call=call)
            except BaseException:
                self._store.reopen_call(who, outcome.operation)
                raise
            self._meter(who, outcome)
            return
        if self._store.call(who, outcome.operation) is None:
            raise ArgumentError(
                f"no operation {outcome.operation!r} of this agent was let through",
                hint="check an operation before it runs, and settle it with the same id",
            )

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


def _completed(verdict: Verdict, judged: Judged) -> Verdict:
    """Return an allowing verdict with the arguments to use, and what the caller must do beside."""
    update: dict[str, Any] = {}
    if judged.obligations:
        update["obligations"] = (*verdict.obligations, *judged.obligations)
    if judged.rewrites or judged.notes:
        update["reasons"] = (*verdict.reasons, *judged.rewrites, *judged.notes)
    if judged.arguments is not None:
        update |= {"decision": Decision.TRANSFORM, "arguments": dict(judged.arguments)}
    return verdict.model_copy(update=update) if update else verdict


def _deny(operation: Operation, reasons: tuple[Reason, ...], policy: str = "") -> Verdict:
    return _verdict(operation, Decision.DENY, reasons, policy)
