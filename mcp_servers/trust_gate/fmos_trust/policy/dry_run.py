"""What other trust policies would decide of calls that were made: nothing runs, nothing is kept."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from pydantic import Field, ValidationError

from agentfs import AgentFS
from fmos.contract.parse import load_as
from fmos.contract.trust_policy import TrustPolicy
from fmos.errors import ArgumentError, NotFoundError
from fmos.redaction import Redactor
from fmos.replay.reading import Found, entries, find, sessions
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, OperationKind, Principal, Reason, Record
from fmos_trust.facts import Facts
from fmos_trust.findings import Judge, Judged, judge_all
from fmos_trust.policy.compiled import CompiledSet

#: So many changed verdicts are shown at most.
MAX_SHOWN = 500
#: So many calls are looked at where nobody says how many.
USUAL = 1000

Decided = Literal["allow", "deny", "ask", "transform"]


class PolicyCall(Record):
    """One call to try policies with."""

    tool: str = Field(min_length=1, max_length=256)
    arguments: dict[str, Any] = Field(default_factory=dict)
    kind: OperationKind = OperationKind.TOOL_CALL
    at_ns: int = Field(default=0, ge=0, description="when, since 1970; 0: now")
    session: str = ""
    operation: str = Field(default="", max_length=64)
    recorded: Decided | None = Field(
        default=None, description="what was decided then, if it was recorded"
    )


class Changed(Record):
    """One call that would be decided otherwise."""

    tool: str
    arguments: dict[str, Any] = Field(description="without secrets")
    session: str = ""
    operation: str = ""
    before: Decided
    after: Decided
    before_rules: tuple[str, ...] = ()
    after_rules: tuple[str, ...] = ()
    why: str = Field(default="", description="the reasons of the verdict that it would be")


class RuleCount(Record):
    """How often a rule of the trust policies decided, before and after."""

    rule: str
    before: int
    after: int


class DryRun(Record):
    """What a candidate would change."""

    candidate: str = Field(description="name of the policy; empty: those in force, as they are")
    digest: str = Field(description="of the rules as they would be in force")
    calls: int
    changed: int
    changes: tuple[Changed, ...] = ()
    rules: tuple[RuleCount, ...] = ()


class _Tally:
    """The calls that one side of a dry run has let through."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, ...]] = Counter()

    def add(self, call: PolicyCall, day: str) -> None:
        """Count a call that was let through."""
        self._calls[call.tool, "session", call.session] += 1
        self._calls[call.tool, "day", day] += 1

    def of(self, call: PolicyCall) -> Callable[[str, str], tuple[int, int]]:
        """Return what `Facts.counted` asks for."""

        def counted(tool: str, day: str) -> tuple[int, int]:
            return self._calls[tool, "session", call.session], self._calls[tool, "day", day]

        return counted


class DryRuns:
    """Tries policies on calls, by the very judges of a gate."""

    def __init__(
        self,
        kernel: Kernel,
        facts_of: Callable[[Principal, Operation], Facts],
        compile_set: Callable[[tuple[TrustPolicy, ...]], CompiledSet],
        day_of: Callable[[Facts], str],
    ) -> None:
        """Take what a gate judges with; `facts_of` gives what it knows of a call now."""
        self._kernel = kernel
        self._facts_of = facts_of
        self._compiled = compile_set
        self._day_of = day_of

    def run(
        self,
        who: Principal,
        judges: Iterable[Judge],
        calls: Iterable[PolicyCall],
        policy: str | None,
        source: str = "the candidate",
    ) -> DryRun:
        """Judge calls by the rules in force and by those with a candidate among them.

        The candidate takes the place of the policy of its name. Without one, what the rules in
        force decide is held against what was decided when a call was recorded.

        Raises:
            ContractError: if the candidate is no trust policy, or one in force is broken.
            ArgumentError: if a call cannot be one.
        """
        candidate = load_as(TrustPolicy, policy, source) if policy is not None else None
        return _Run(self, who, tuple(judges), candidate).over(calls)

    def recorded(self, who: Principal, limit: int, since_ns: int = 0) -> list[PolicyCall]:
        """Return the last calls that were recorded of a session, or of all of an agent's.

        Raises:
            NotFoundError: if the agent, or the session, has no recording.
        """
        volume = self._kernel.volume(who.tenant)
        found: list[PolicyCall] = []
        for each in self._sessions(volume, who):
            found += self._calls(volume, who.tenant, each, since_ns)
        found.sort(key=lambda call: call.at_ns)
        return found[-limit:]

    def agents(self, tenant: str) -> list[Principal]:
        """Return the agents of a tenant that have a recorded session.

        Raises:
            NotFoundError: if there is none.
        """
        named = {
            tuple(part.strip("-") for part in each.principal.split("/")[1:3])
            for each in sessions(self._kernel.volume(tenant))
        }
        if not named:
            raise _unrecorded("no session is recorded")
        return [
            Principal(tenant=tenant, application=application, agent=agent)
            for application, agent in sorted(named)
            if agent
        ]

    def _sessions(self, volume: AgentFS, who: Principal) -> list[Found]:
        if who.session:
            found = find(volume, who.session, agent=who.agent, application=who.application)
            return [found]
        mine = [
            Found(each.branch, each.principal, each.session, each)
            for each in sessions(volume)
            if each.principal.split("/")[1:3] == [who.application or "-", who.agent or "-"]
        ]
        if not mine:
            raise _unrecorded(f"no session of the agent {who.agent!r} is recorded")
        return mine

    def _calls(
        self, volume: AgentFS, tenant: str, found: Found, since_ns: int
    ) -> Iterator[PolicyCall]:
        for entry in entries(volume, found, self._kernel.keys_of(tenant)):
            if entry.name != "trust_check" or entry.content is None or entry.time_ns < since_ns:
                continue
            operation = entry.content["arguments"]["operation"]
            answer = entry.content.get("answer") or {}
            yield PolicyCall(
                tool=operation["name"],
                arguments=operation.get("arguments", {}),
                kind=operation["kind"],
                at_ns=entry.time_ns,
                session=found.session,
                operation=entry.operation,
                recorded=answer.get("decision"),
            )

    def facts(self, who: Principal, call: PolicyCall) -> Facts:
        """Return what is known of a call, as of its time."""
        given: dict[str, Any] = {"kind": call.kind, "name": call.tool, "arguments": call.arguments}
        try:
            operation = Operation.model_validate({**given, "principal": who})
        except ValidationError as error:
            raise ArgumentError(
                f"{call.tool!r} cannot be a call: {error.errors()[0]['msg']}"
            ) from error
        return dataclasses.replace(self._facts_of(who, operation), at_ns=call.at_ns, dry=True)

    def with_candidate(self, facts: Facts, candidate: TrustPolicy | None) -> CompiledSet:
        """Return the rules that would bind a principal with a candidate in force."""
        now = facts.rules.policies if facts.rules else ()
        if candidate is None or facts.standing is None:
            return self._compiled(now)
        return self._compiled(self._kernel.trust_policies.with_one(facts.standing, now, candidate))

    def day_of(self, facts: Facts) -> str:
        """Return the day of a call, as rules that count name it."""
        return self._day_of(facts)


class _Run:
    """One dry run: both sides see the same calls in the same order."""

    def __init__(
        self,
        runs: DryRuns,
        who: Principal,
        judges: tuple[Judge, ...],
        candidate: TrustPolicy | None,
    ) -> None:
        self._runs, self._who, self._judges = runs, who, judges
        self._candidate = candidate
        self._tallies = (_Tally(), _Tally())
        self._counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._redactor = Redactor()
        self._digest = ""

    def over(self, calls: Iterable[PolicyCall]) -> DryRun:
        """Return what comes of the calls."""
        number, changes = 0, list[Changed]()
        for call in calls:
            number += 1
            changed = self._one(call)
            if changed is not None:
                changes.append(changed)
        names = sorted(self._counts[0].keys() | self._counts[1].keys())
        return DryRun(
            candidate=self._candidate.name if self._candidate else "",
            digest=self._digest,
            calls=number,
            changed=len(changes),
            changes=tuple(changes[:MAX_SHOWN]),
            rules=tuple(
                RuleCount(rule=name, before=self._counts[0][name], after=self._counts[1][name])
                for name in names
            ),
        )

    def _one(self, call: PolicyCall) -> Changed | None:
        who = self._who.model_copy(update={"session": call.session or self._who.session})
        facts = self._runs.facts(who, call)
        rules = self._runs.with_candidate(facts, self._candidate)
        self._digest = rules.digest
        before, before_rules = self._side(0, call, facts)
        after, after_rules = self._side(1, call, dataclasses.replace(facts, rules=rules))
        decided = decision_of(before)
        if self._candidate is None and call.recorded is not None:
            decided = call.recorded
        if decided == decision_of(after):
            return None
        return Changed(
            tool=call.tool,
            arguments=self._redactor.redacted(call.arguments),
            session=call.session,
            operation=call.operation,
            before=decided,
            after=decision_of(after),
            before_rules=before_rules,
            after_rules=after_rules,
            why="; ".join(reason.message for reason in _reasons(after)),
        )

    def _side(self, side: int, call: PolicyCall, facts: Facts) -> tuple[Judged, tuple[str, ...]]:
        facts = dataclasses.replace(facts, counted=self._tallies[side].of(call))
        judged = judge_all(self._judges, facts)
        if not judged.denials:
            self._tallies[side].add(call, self._runs.day_of(facts))
        rules = tuple(dict.fromkeys(reason.rule for reason in _reasons(judged)))
        ours = {each.rule for each in _reasons(judged) if each.code.startswith("policy.")}
        self._counts[side].update(ours)
        return judged, rules


def decision_of(judged: Judged) -> Decided:
    """Return what a gate decides on these findings, as far as no account or approval matters."""
    if judged.denials:
        return "deny"
    if judged.asks:
        return "ask"
    return "transform" if judged.arguments is not None else "allow"


def _reasons(judged: Judged) -> tuple[Reason, ...]:
    return judged.denials or judged.asks or judged.rewrites


def _unrecorded(what: str) -> NotFoundError:
    return NotFoundError(what, hint="give calls, or let [replay] record be true and an agent work")
