"""The gate: decides on an operation, notes the decision, and remembers what the agent has seen.

Whatever fails while an operation is judged denies it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from fmos.audit.record import record_intent, record_outcome
from fmos.canonical import content_digest
from fmos.effects import Effect
from fmos.errors import (
    ArgumentError,
    BudgetExceededError,
    ContractError,
    FmosError,
    NotFoundError,
)
from fmos.replay.recording import RULES, Call
from fmos.runtime.kernel import Kernel
from fmos.runtime.standing import Standing
from fmos.runtime.states import AgentState
from fmos.serving.acting import launched
from fmos.serving.toolset import Question
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TTL_S, TableVersions, TrapTable, compile_table
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
from fmos_trust.approvals import Approvals, TooManyWaitError
from fmos_trust.delegation.granted import GRANTED, Granted
from fmos_trust.delegation.grants import Grants
from fmos_trust.delegation.judge import delegated_tools
from fmos_trust.facts import Facts
from fmos_trust.findings import Judge, Judged, judge_all
from fmos_trust.keyed import KeyedHash
from fmos_trust.lookahead.judge import LookAhead
from fmos_trust.model import (
    NOT_TRIED,
    Approval,
    Pending,
    PendingApproval,
    Registration,
    Settled,
    Tried,
)
from fmos_trust.modules import Modules
from fmos_trust.pins.keeper import pins_of
from fmos_trust.pins.model import InForce, Toolbox
from fmos_trust.policy.compiled import CompiledSet
from fmos_trust.policy.dry_run import DryRun, DryRuns, PolicyCall
from fmos_trust.policy.judge import PolicyJudge
from fmos_trust.provenance.explain import Explanation
from fmos_trust.provenance.keeper import PREMISE, Provenance
from fmos_trust.question import message
from fmos_trust.reach import reach_rules
from fmos_trust.redaction.guard import Redactions
from fmos_trust.redaction.model import Shown
from fmos_trust.risk import Risk
from fmos_trust.rules import contract_rules
from fmos_trust.store import KnownCall, TrustStore
from fmos_trust.trials import Trials

#: Calls are remembered for so long after they were let through.
_CALLS_KEPT_NS = 7 * 86_400 * 1_000_000_000


#: What an item of a client's queue raises that no second try would take.
_UNUSABLE = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)

#: Where on its branch an agent keeps what it was told.
_REMEMBERED = ("/.fmos/memory", "/.fmos/context")


class TrustService:
    """One gate over one kernel. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = TrustStore(kernel.database)
        self._approvals = Approvals(kernel, self._store)
        self._trials = Trials(kernel)
        home = kernel.home.path
        self._private = sorted({str(home), str(home.resolve())})
        self._versions = TableVersions()
        self._modules = Modules(kernel)
        self._grants = Grants(kernel)
        self._risk = Risk(kernel)
        self._pins = pins_of(kernel)
        self._lookahead = LookAhead(kernel)
        self._provenance = Provenance(kernel)
        self._policy = PolicyJudge(kernel)
        self._dry_runs = DryRuns(kernel, self.facts_now, self._policy.compiled, self._policy.day_of)
        self._redactions = Redactions(kernel)
        self._judges: tuple[Judge, ...] = (
            self._pins.judge,
            self._lookahead.judge,
            delegated_tools,
            contract_rules,
            reach_rules,
            self._policy.judge,
            Granted(kernel, self._provenance.judge).judge,
            self._risk.judge,
            self._modules.judge,
            self._redactions.judge,
        )

    def check(
        self,
        who: Principal,
        operation: Operation,
        approval: str,
        settled: Iterable[Settled],
        tried: Tried = NOT_TRIED,
    ) -> Verdict:
        """Decide on an operation, after noting what ran without a trap before it.

        `tried` says on which fork it ran already, for a person to see what it did there.
        """
        settled = list(settled)
        self._settle_each(who, settled)
        asked = operation.model_copy(update={"principal": who})
        try:
            standing = self._kernel.standing(who)
            found = self._in_force(standing)
            tools = found.tools
            self._note_premises(standing, found)
            facts = self._facts(asked, standing, found)
            verdict = self._decide(facts, approval, standing, tried)
            self._provenance.decided(facts, verdict)
            synced = facts.is_synced and verdict.allowed
            table = self._version(standing, tools)
        except Exception as error:  # a rule that fails must deny, whatever the failure
            verdict, synced, table = _deny(asked, (_failed(error),)), False, ""
            if isinstance(error, ContractError):
                self._kernel.recordings.broken(who, error)
        verdict = verdict.model_copy(update={"table": table})
        given: dict[str, Any] = {"operation": operation, "approval": approval, "settled": settled}
        if tried.branch:
            given |= {"effect": tried.branch, "output": tried.output}
        call = self._kernel.recordings.call(
            who, "trust_check", given, verdict, operation=operation.id
        )
        record_intent(self._kernel, asked, verdict, synced=synced, call=call)
        return verdict

    def settle(
        self, who: Principal, outcome: Outcome, observation: Observation | None
    ) -> Shown | None:
        """Note how a checked operation ended, and what it brought into the session.

        Said again, it changes nothing. Returns what of that a model may read, if not all.

        Raises:
            ArgumentError: if the gate has let no such operation of this agent through.
        """
        shown = None if observation is None else self._observe(who, observation)
        given = {"outcome": outcome, "observation": observation}
        call = self._kernel.recordings.call(who, "trust_settle", given, operation=outcome.operation)
        self._close(who, outcome, call)
        self._lookahead.ended(who, outcome, _shown_text(observation, shown))
        return shown

    def observe(self, who: Principal, settled: Iterable[Settled]) -> Shown | None:
        """Note what ran without a trap, and what entered the session without an operation.

        Returns what a model may read of the last text, if not all of it.
        """
        settled = list(settled)
        shown = self._settle_each(who, settled)
        recordings = self._kernel.recordings
        recordings.note(who, recordings.call(who, "trust_observe", {"settled": settled}))
        return shown

    def register(self, who: Principal, tools: list[ToolDescriptor]) -> Registration:
        """Take the tools of an agent, the whole catalogue of each server that they name.

        Raises:
            ArgumentError: if two of them have the same name.
        """
        names = [tool.name for tool in tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ArgumentError(
                f"the tool {twice[0]!r} is registered twice", hint="give each tool its own name"
            )
        recordings, lineage = self._kernel.recordings, self._kernel.agents.lineage(who)
        before = self._pins.in_force(who.tenant, lineage)
        if before.servers:
            self._note_tools(who, before)
        waiting = self._pins.register(who, lineage, tools, launched=launched())
        before_ns = self._kernel.clock.now_ns() - _CALLS_KEPT_NS
        self._store.forget_calls(before_ns)
        self._lookahead.forget_old(before_ns)
        digest = content_digest([tool.model_dump(mode="json") for tool in tools])
        found = Registration(
            registered=len([name for name in names if name not in waiting]),
            table_version=self.table(who).version,
            waiting=tuple(waiting),
        )
        call = recordings.call(who, "trust_register_tools", {"tools": tools}, found)
        detail = {"names": names, "digest": digest, "waiting": waiting}
        self._kernel.record(who, "trust.tools", detail, call=call)
        return found

    def explain(self, who: Principal, id: str) -> Explanation:
        """Return why an operation of an agent was answered as it was, or its last denied one.

        Raises:
            NotFoundError: if the agent has none of that id, or none was denied in its session.
        """
        explanations = self._provenance.explanations
        found = explanations.explain(who.tenant, id, only=who) if id else None
        found = found or explanations.last_denial(who)
        if found is None:
            raise NotFoundError("nothing was denied in this session", hint="give an id")
        return found

    def happened(self, who: Principal, event: str, value: Any) -> None:
        """Bring about what a session depends on and no tool does, when it is run again."""
        if event == "trust.tools":
            self._pins.restore_tools(who, map(ToolDescriptor.model_validate, value))
        elif event == "trust.pins":
            self._pins.restore(who, value)
        elif event.startswith("trust.hint:"):
            self._lookahead.happened(who, event, value)
        elif event == "trust.secrets":
            self._redactions.restore(who, value)
        elif event == RULES:
            self._policy.restore(who, value)
        elif event == PREMISE:
            self._provenance.restore(who, value)
        elif event == "approval.decide":
            self._approvals.decide(**value)

    def _note_tools(self, who: Principal, found: InForce) -> None:
        """Tell the recording which tools are pinned, offered and asked for."""
        self._kernel.recordings.premise(who, "trust.pins", found, lambda: self._pins.premise(found))

    def _note_premises(self, standing: Standing, tools: InForce) -> None:
        """Tell the recording what the verdict depends on beside the session's own calls."""
        recordings, who = self._kernel.recordings, standing.principal
        recordings.standing(standing)
        self._policy.note_premise(who, self._policy.rules_of(standing))
        self._note_tools(who, tools)
        self._provenance.note_premise(standing)
        recordings.premise(
            who,
            "trust.secrets",
            self._store,
            lambda: self._redactions.premise(who.tenant, standing.lineage),
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
            trapped=self._trapped(standing, self._tools(standing)),
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
            trapped=self._trapped(standing, tools),
        )

    def _trapped(self, standing: Standing, tools: Toolbox) -> frozenset[str]:
        """Return the tools that must come before the gate, whatever the contract says of them."""
        outward = self._provenance.trapped(tools)
        return self._policy.rules_of(standing).trapped(tools) | outward

    def _all_trap(self, standing: Standing) -> bool:
        """Return whether no call may run without the gate: the agent is stopped, or all count."""
        if standing.stopped or self._modules or self._redactions.wants_all:
            return True
        if self._is_delegated_closely(standing):
            return True
        return self._kernel.limits_calls(standing)

    def _is_delegated_closely(self, standing: Standing) -> bool:
        """Return whether only the gate can say what was delegated: which tools, and how long."""
        mandate = standing.mandate
        if not mandate.ends_ns:
            return False
        left_ns = mandate.ends_ns - self._kernel.clock.now_ns()
        return bool(mandate.tools) or left_ns < TTL_S * 1_000_000_000

    def _in_force(self, standing: Standing) -> InForce:
        return self._pins.in_force(standing.principal.tenant, standing.lineage)

    def _tools(self, standing: Standing) -> Toolbox:
        return self._in_force(standing).tools

    def tools(self, who: Principal) -> list[ToolDescriptor]:
        """Return the tools that an agent and those it descends from have registered."""
        lineage = self._kernel.agents.lineage(who)
        return list(self._pins.in_force(who.tenant, lineage).tools.values())

    def facts_now(self, who: Principal, operation: Operation) -> Facts:
        """Return what would judge a call if it came now; nothing is written.

        Raises:
            ContractError: if a document that binds the agent is broken.
        """
        standing = self._kernel.standing(who)
        return self._facts(operation, standing, self._in_force(standing))

    def policy_dry_run(
        self,
        who: Principal,
        policy: str | None,
        calls: list[PolicyCall] | None,
        limit: int,
        source: str = "the candidate",
    ) -> DryRun:
        """Return which verdicts a candidate policy would change, of these or recorded calls.

        Raises:
            ContractError: if the candidate is no trust policy.
            NotFoundError: if no calls are given and none are recorded.
        """
        tried = calls if calls is not None else self._dry_runs.recorded(who, limit)
        return self._dry_runs.run(who, self._judges, tried[:limit], policy, source)

    def recorded_agents(self, tenant: str) -> list[Principal]:
        """Return the agents of a tenant that have a recorded session."""
        return self._dry_runs.agents(tenant)

    def recorded_calls(self, who: Principal, limit: int, since_ns: int) -> list[PolicyCall]:
        """Return the last recorded calls of a session, or of all of an agent's, oldest first.

        Raises:
            NotFoundError: if none is recorded.
        """
        return self._dry_runs.recorded(who, limit, since_ns)

    def rules_now(self, who: Principal) -> CompiledSet:
        """Return the trust policies that bind an agent now.

        Raises:
            ContractError: if one is broken.
        """
        return self._policy.rules_of(self._kernel.standing(who))

    def findings_now(self, who: Principal, operation: Operation) -> tuple[Facts, Judged]:
        """Return what all judges find in a call if it came now; nothing is written.

        Raises:
            ContractError: if a document that binds the agent is broken.
        """
        facts = dataclasses.replace(self.facts_now(who, operation), dry=True)
        return facts, judge_all(self._judges, facts)

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

    def question(self, approval: str) -> Question | None:
        """Return what a client shall ask its user about a call that waits."""
        found, now_ns = self._approvals.state(approval), self._kernel.clock.now_ns()
        if found is None or found.state != "pending" or found.expired:
            return None
        effect = found.effect.digest if found.effect is not None else ""
        return Question(
            key=f"{approval}.{effect}",
            message=message(found, now_ns, self._approvals.asked_of(found, now_ns)),
            again={"approval": approval, "settled": [], "effect": "", "output": ""},
            left_s=(found.expires_ns - now_ns) / 1e9,
        )

    def answered(self, question: Question, approve: bool, comment: str, by: str) -> None:
        """Take a person's answer to a question that was asked through a client."""
        approval, _, effect = question.key.partition(".")
        self._approvals.decide(approval, approve, by, comment, effect=effect)

    def expire(self) -> None:
        """End what nobody approved or used in time, and drop what was tried for it."""
        self._approvals.expire()
        self._provenance.expire()
        self._trials.sweep()
        self._redactions.expire()

    def sweep_orphans(self) -> int:
        """Drop forks that were made to try a call and that no approval ever named."""
        return self._trials.sweep_orphans()

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

    def _decide(
        self, facts: Facts, approval: str, standing: Standing, tried: Tried = NOT_TRIED
    ) -> Verdict:
        if standing.stopped:
            running = standing.state is AgentState.RUNNING
            code = "trust.delegation" if running else f"agent.{standing.state}"
            stopped = _reason(code, standing.stopped, "delegation" if running else "lifecycle")
            return _deny(facts.operation, (stopped,), facts.policy)
        judged = judge_all(self._judges, facts)
        if judged.denials:
            return _deny(facts.operation, judged.denials, facts.policy)
        unusable = self._unusable_grant(facts, judged)
        if unusable is not None:
            return _deny(facts.operation, (unusable,), facts.policy)
        try:
            if judged.asks:
                verdict = self._consented(facts, approval, judged.asks, standing, tried)
            else:
                verdict = self._paid(facts, "", (), standing)
            return _completed(verdict, judged) if verdict.allowed else verdict
        except BudgetExceededError as error:
            self._kernel.apply_limits(standing)  # they stay, though nothing was spent
            raced = [each.reason for each in self._risk.judge(facts) if each.effect == "ask"]
            if error.resource == "risk" and raced:  # another call took it since it was judged
                return self._ask(facts, tuple(raced), None, tried)
            spent = _reason("budget.exceeded", str(error), "ledger")
            return _deny(facts.operation, (spent,), facts.policy)
        except TooManyWaitError as error:
            waits = _reason("trust.waiting", str(error), "consent")
            return _deny(facts.operation, (waits,), facts.policy)

    def _unusable_grant(self, facts: Facts, judged: Judged) -> Reason | None:
        """Use the grant that a call is under; return why it cannot be used, or None."""
        operation = facts.operation
        for note in judged.notes:
            if note.code == GRANTED and not facts.dry:
                problem = self._grants.use(note.rule, operation.principal, operation.id)
                if problem:
                    return _reason(GRANTED, problem, note.rule)
        return None

    def _consented(
        self,
        facts: Facts,
        approval: str,
        asks: tuple[Reason, ...],
        standing: Standing,
        tried: Tried,
    ) -> Verdict:
        """Return the verdict on a call that needs a person: theirs, or a question to them."""
        again = self._asked_again(facts)
        if again is not None and not again.allowed:
            return again  # a person's yes is for once, also where the answer was lost
        refused = self._approvals.refused(facts)
        if refused is not None:
            return self._refused(facts, refused)
        who = facts.operation.principal
        effect = self._trials.look(who, tried.branch) if tried.branch else None
        if effect is not None and effect.conflicts:
            moved = "the branch has changed where the fork did, so it cannot be merged"
            change = "run it on a new fork"
            reason = _reason("trust.effect", f"{moved}; {change}", "consent", change)
            return _deny(facts.operation, (reason,), facts.policy)
        if not approval:
            return self._ask(facts, asks, effect, tried)
        found = self._approvals.state(approval)
        same = found is not None and found.digest == self._approvals.digest(facts)
        if found is not None and same and found.state == "pending" and not found.expired:
            return self._ask(facts, asks, effect, tried)
        if found is not None and same and found.effect is not None:
            return self._effected(facts, found, asks, standing, effect, tried)
        return self._paid(facts, approval, asks, standing)

    def _refused(self, facts: Facts, refused: Approval) -> Verdict:
        said = f" ({refused.comment})" if refused.comment else ""
        message = f"{refused.approver} said no to this call{said}; do not try it again"
        change = "nothing in this session: a person said no"
        reason = _reason("trust.refused", message, "consent", change)
        return _deny(facts.operation, (reason,), facts.policy)

    def _effected(
        self,
        facts: Facts,
        found: Approval,
        asks: tuple[Reason, ...],
        standing: Standing,
        tried: Effect | None,
        said: Tried,
    ) -> Verdict:
        """Let a call through by bringing about the very effect that a person approved."""
        who = facts.operation.principal
        if found.state == "used" and self._store.call(who, facts.operation.id) is not None:
            return self._effected_before(facts, found)
        if found.state != "approved" or found.expired:
            return self._paid(facts, found.id, asks, standing)  # which asks anew, and says why
        with self._trials.holding(who):
            now, problem = self._as_approved(who, found, tried)
            verdict = None if problem else self._paid(facts, found.id, asks, standing)
            if verdict is not None and verdict.allowed:
                self._trials.merge(who, found)
        if verdict is None:
            self._approvals.replace(found)
            unusable = _reason("trust.approval", f"{problem}, so it is asked anew", "consent")
            return self._ask(facts, (*asks, unusable), now, said)
        if not verdict.allowed:
            return verdict
        return verdict.model_copy(update={"obligations": (self._trials.done(who, found),)})

    def _as_approved(
        self, who: Principal, found: Approval, tried: Effect | None
    ) -> tuple[Effect | None, str]:
        """Return the effect as it would be now, and how it differs from the approved one."""
        assert found.effect is not None
        try:
            now = tried or self._trials.look(who, found.effect.branch)
        except ArgumentError as error:
            return None, str(error)
        if now.conflicts:
            return None, "the branch has changed where the fork did"
        if now.digest != found.effect.digest:
            return now, "the effect is not the approved one any more: branch or fork have moved"
        if now.branch != found.effect.branch:
            return now, "the effect is on another fork than the approved one"
        return now, ""

    def _effected_before(self, facts: Facts, found: Approval) -> Verdict:
        """Answer again for a call whose answer was lost; its effect comes about once."""
        who = facts.operation.principal
        with self._trials.holding(who):
            if not self._trials.is_merged(who, found):
                _, problem = self._as_approved(who, found, None)
                if problem:
                    message = f"{problem}; ask for it as a new operation"
                    reason = _reason("trust.effect", message, "consent")
                    return _deny(facts.operation, (reason,), facts.policy)
                self._trials.merge(who, found)
        repeated = _reason("trust.repeated", "its effect was approved and is there", "once")
        verdict = _verdict(facts.operation, Decision.ALLOW, (repeated,), facts.policy)
        done = (self._trials.done(who, found),)
        return verdict.model_copy(update={"approval": found.id, "obligations": done})

    def _asked_again(self, facts: Facts) -> Verdict | None:
        """Return the verdict on a call whose id was let through before; None for a new one.

        Whoever lost the answer asks again for the same, which is paid and approved already.
        """
        operation = facts.operation
        known = self._store.call(operation.principal, operation.id)
        if known is None or known.state == "asked":
            return None
        ended = known.state == "settled"
        if ended or known.digest != self._approvals.digest(facts):
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
            self._risk.pay(facts, standing, approved=bool(asking))
            self._policy.count(facts)
            return verdict

    def _note_call(self, facts: Facts, state: str) -> bool:
        operation = facts.operation
        known = KnownCall(self._approvals.digest(facts), state)
        now_ns = self._kernel.clock.now_ns()
        return self._store.note_call(operation.principal, operation.id, known, now_ns)

    def _with_approval(self, facts: Facts, approval: str, asking: tuple[Reason, ...]) -> Verdict:
        found = self._approvals.state(approval)
        problem = self._approvals.use(approval, facts)
        if problem:
            unusable = _reason("trust.approval", f"{problem}, so it is asked anew", "consent")
            return self._ask(facts, (*asking, unusable))
        approver = found.approver if found else ""
        reason = _reason("trust.approved", f"{approver} approved this call", "consent")
        verdict = _verdict(facts.operation, Decision.ALLOW, (reason,), facts.policy)
        return verdict.model_copy(update={"approval": approval})

    def _ask(
        self,
        facts: Facts,
        reasons: tuple[Reason, ...],
        effect: Effect | None = None,
        tried: Tried = NOT_TRIED,
    ) -> Verdict:
        approval = self._approvals.request(facts, reasons)
        if effect is not None:
            approval = self._approvals.attach(approval, facts, effect)
            self._trials.keep_output(facts.operation.principal, approval.id, tried.output)
        self._note_call(facts, "asked")  # it may run on a fork meanwhile
        parameters = {"approval": approval.id}
        if approval.effect is not None:
            parameters["effect"] = approval.effect.branch
        fork = Obligation(kind="run_on_fork", parameters=parameters)
        update = {
            "approval": approval.id,
            "obligations": (fork,) if facts.effect in ("write", "execute") else (),
        }
        return _verdict(facts.operation, Decision.ASK, reasons, facts.policy).model_copy(
            update=update
        )

    def _facts(self, operation: Operation, standing: Standing, found: InForce) -> Facts:
        who, manifest = operation.principal, standing.mandate.manifest
        rules = self._policy.rules_of(standing)
        return Facts(
            operation=operation,
            contract=standing.mandate.contract,
            policy=rules.named(manifest.hash if manifest else ""),
            descriptor=found.tools.get(operation.name),
            secrets=self._redactions.known(who.tenant, self._provenance.family(standing)),
            keyed=self._keyed(who),
            home=str(self._kernel.home.path),
            tools=found.tools,
            in_force=found,
            standing=standing,
            rules=rules,
            seen=self._provenance.view(standing, found.tools, self._keyed(who)),
            granted=lambda: self._grants.of(who, operation.id),
            private=tuple(self._private),
            files=lambda: self._kernel.known_agent_fs(who),
        )

    def _settle_each(self, who: Principal, settled: Iterable[Settled]) -> Shown | None:
        """Take each item by itself: one that cannot be taken is noted, and stops no other.

        Returns what a model may read of the last text, if not all of it.
        """
        shown = None
        for item in settled:
            try:
                shown = self._settle_innocuous(who, item)
            except FmosError:
                raise  # the client is told what to do
            except _UNUSABLE as error:
                shown = None
                self._provenance.intake.unreadable(who)
                dropped = item.outcome.operation if item.outcome else ""
                detail = {"id": dropped, "error": type(error).__name__}
                self._kernel.record(who, "trust.dropped", detail)
        return shown

    def _settle_innocuous(self, who: Principal, item: Settled) -> Shown | None:
        ran = item.operation and item.operation.model_copy(update={"principal": who})
        if ran is not None:
            tools = self._pins.in_force(who.tenant, self._kernel.agents.lineage(who)).tools
            self._provenance.intake.began(ran, tools.get(ran.name), "read")
        shown = None if item.observation is None else self._observe(who, item.observation)
        if ran is not None:
            reason = _reason("trap.innocuous", "it ran on the fast path", "trap-table")
            record_intent(self._kernel, ran, _verdict(ran, Decision.ALLOW, (reason,), ""))
            self._kernel.charge(who, {"tool_calls": 1})
        if item.outcome is not None and item.operation is not None:
            record_outcome(self._kernel, who, item.outcome)
            self._provenance.ended(who, item.outcome)
            self._meter(who, item.outcome)
        elif item.outcome is not None:
            self._close(who, item.outcome)
        if item.outcome is not None:
            text = _shown_text(item.observation, shown)
            self._lookahead.ended(who, item.outcome, text, ran)
        return shown

    def _close(self, who: Principal, outcome: Outcome, call: Call | None = None) -> None:
        """Note the end of a call that was let through; once."""
        if self._store.settle_call(who, outcome.operation):
            # Not in one transaction: whoever holds kernel.db must not wait for a volume.
            try:
                record_outcome(self._kernel, who, outcome, call=call)
            except BaseException:
                self._store.reopen_call(who, outcome.operation)
                raise
            self._provenance.ended(who, outcome)
            self._risk.settle(who, outcome)
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

    def _observe(self, who: Principal, observation: Observation) -> Shown | None:
        """Learn from what entered a session; return what a model may read of it, if not all."""
        shown = self._redactions.observed(who, observation)
        if shown is not None:  # what the model can have a value from is what it reads
            observation = observation.model_copy(update={"text": shown.text})
        self._provenance.observed(who, observation, secret=shown is not None)
        return shown

    def _keyed(self, who: Principal) -> KeyedHash:
        return KeyedHash(self._kernel.keys_of(who.tenant))


def _reason(code: str, message: str, rule: str, change: str = "") -> Reason:
    return Reason(code=code, message=message, rule=rule, change=change)


def _shown_text(observation: Observation | None, shown: Shown | None) -> str:
    """Return the text that the model reads of what it was told."""
    if shown is not None:
        return shown.text
    return observation.text if observation else ""


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
