"""The gate's judge over a home's trust policies: which bind a principal, and what they find."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from fmos.contract.trust_policy import TrustPolicy, dumped
from fmos.errors import ArgumentError
from fmos.replay.recording import RULES
from fmos.runtime.kernel import Kernel
from fmos.runtime.standing import Standing
from fmos.types import Layer, Principal, Reason
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding, finding
from fmos_trust.policy.changes import changed
from fmos_trust.policy.compiled import EMPTY, CompiledSet
from fmos_trust.policy.decision import Applied, Decision, decide
from fmos_trust.policy.store import CountStore
from fmos_trust.policy.surroundings import Surroundings
from fmos_trust.policy.words import allowed_by, conditions_of
from fmos_trust.reach import reach_rules
from fmos_trust.rules import contract_rules

#: The journal's row about a rule that only watches and would have acted.
SHADOW = "trust.shadow"

_KEPT = 256
_COUNTS_KEPT_DAYS = 400


class PolicyJudge:
    """What the trust policies of one home find in calls. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = CountStore(kernel.database)
        self._sets: dict[tuple[int, ...], tuple[tuple[TrustPolicy, ...], CompiledSet]] = {}
        self._by_digest: dict[tuple[str, ...], CompiledSet] = {}
        self._recorded: dict[Principal, tuple[TrustPolicy, ...]] = {}
        self._last: tuple[Standing, CompiledSet] | None = None
        self._zone = zone_of(kernel.settings.trust.timezone)

    # -- which rules there are --------------------------------------------------------------------

    def rules_of(self, standing: Standing) -> CompiledSet:
        """Return the rules that bind a principal, compiled once for each content.

        Asked for the same standing again, it answers the same: one check goes by one set of rules.

        Raises:
            ContractError: if a policy that may bind it is broken.
        """
        last = self._last
        if last is not None and last[0] is standing:
            return last[1]
        policies = self._recorded.get(standing.principal)
        if policies is None:
            policies = self._kernel.trust_policies.binding(standing)
        found = self.compiled(policies)
        self._last = (standing, found)
        return found

    def compiled(self, policies: tuple[TrustPolicy, ...]) -> CompiledSet:
        """Return policies compiled; the same contents, in any order, give the same object."""
        if not policies:
            return EMPTY
        key = tuple(map(id, policies))
        known = self._sets.get(key)
        if known is None:
            digests = tuple(sorted(each.digest for each in policies))
            found = self._by_digest.get(digests) or CompiledSet(policies)
            if len(self._sets) >= _KEPT:
                self._sets.clear()
                self._by_digest.clear()
            self._by_digest[digests] = found
            known = self._sets[key] = (policies, found)  # kept, so that their ids stay theirs
        return known[1]

    def note_premise(self, who: Principal, rules: CompiledSet) -> None:
        """Tell the recording of a session which rules its verdicts depend on."""
        recordings = self._kernel.recordings
        if rules or recordings.knows(who, RULES):
            recordings.premise(who, RULES, rules, lambda: [dumped(each) for each in rules.policies])

    def restore(self, who: Principal, documents: list[dict[str, Any]]) -> None:
        """Judge a session by the rules that bound it when it was recorded."""
        self._recorded[who] = tuple(map(TrustPolicy.model_validate, documents))

    # -- what they find ---------------------------------------------------------------------------

    def judge(self, facts: Facts) -> Iterator[Finding]:
        """Find what the rules have against a call; what would have been found is journalled."""
        rules = facts.rules
        if not rules:
            return
        decision = self.decide(facts)
        if (decision.shadow or decision.would_default) and not facts.dry:
            self._note_shadow(facts, decision)
        yield from findings_of(decision, facts)
        yield from self._changes(decision, facts)

    def decide(self, facts: Facts) -> Decision:
        """Return which rules apply to a call and which of them count; nothing is written."""
        return decide(facts.rules or EMPTY, facts, self._around(facts))

    def day_of(self, facts: Facts) -> str:
        """Return the day of a call in the home's time zone, such as `2026-11-22`."""
        return f"{self._now(facts):%Y-%m-%d}"

    def count(self, facts: Facts) -> None:
        """Count a call that is let through, where a rule depends on how many there were."""
        if facts.rules and facts.rules.counts(facts):
            now = self._now(facts)
            self._store.count(facts.operation.principal, facts.tool, self.day_of(facts))
            self._store.forget(f"{now - timedelta(days=_COUNTS_KEPT_DAYS):%Y-%m-%d}")

    def _changes(self, decision: Decision, facts: Facts) -> Iterator[Finding]:
        """Find the arguments to use instead, and what contract and rules have against those."""
        changing = [each for each in decision.counting if each.effect in ("rewrite", "redact")]
        if not changing:
            return
        arguments: Mapping[str, Any] = facts.operation.arguments
        for each in reversed(changing):  # what has the highest priority has the last word
            try:
                before, arguments = arguments, changed(arguments, each.rule.source, facts)
            except ArgumentError as error:
                problem = dataclasses.replace(each, effect="deny", problem=str(error))
                yield Finding("deny", _reason(problem, facts))
                return
            if arguments != before:
                yield Finding("rewrite", _reason(each, facts), arguments)
        if arguments == facts.operation.arguments:
            return
        after = facts.with_arguments(arguments)
        yield from contract_rules(after)
        yield from reach_rules(after)
        again = decide(facts.rules or EMPTY, after, self._around(after))
        yield from (each for each in findings_of(again, after) if each.effect == "deny")

    def _around(self, facts: Facts) -> Surroundings:
        return Surroundings(
            facts,
            self._kernel.clock.now_ns,
            self._zone,
            counters=self._counters,
            ledger=self._ledger,
        )

    def _counters(self, facts: Facts) -> dict[str, int]:
        day = self.day_of(facts)
        if facts.counted is not None:
            session, today = facts.counted(facts.tool, day)
        else:
            who = facts.operation.principal
            lineage = facts.standing.lineage if facts.standing else (who.agent_key,)
            session, today = self._store.counted(who, lineage, facts.tool, day)
        return {"session": session, "today": today}

    def _ledger(self, facts: Facts) -> dict[str, dict[str, int]]:
        """Return what the session has spent, and the least that is left to it of each resource."""
        account = self._kernel.account(facts.operation.principal)
        spent: dict[str, int] = {}
        left: dict[str, int] = {}
        for balance in self._kernel.ledger.status(account):
            if balance.account == str(account) and balance.window == "total":
                spent[balance.resource] = balance.spent
            if balance.left is not None:
                left[balance.resource] = min(balance.left, left.get(balance.resource, balance.left))
        return {"spent": spent, "left": left}

    def _now(self, facts: Facts) -> datetime:
        seconds = (facts.at_ns or self._kernel.clock.now_ns()) // 1_000_000_000
        return datetime.fromtimestamp(seconds, self._zone)

    def _note_shadow(self, facts: Facts, decision: Decision) -> None:
        would = [(each.rule.label, each.effect) for each in decision.shadow]
        would += [(each.policy, "deny") for each in decision.would_default]
        detail = {"id": facts.operation.id, "rules": [list(each) for each in would]}
        self._kernel.record(facts.operation.principal, SHADOW, detail)


def zone_of(name: str) -> tzinfo:
    """Return the time zone of a name; the settings have checked it."""
    return UTC if name == "UTC" else ZoneInfo(name)


def findings_of(decision: Decision, facts: Facts) -> Iterator[Finding]:
    """Yield the denials and questions of a decision."""
    for each in decision.counting:
        if each.effect == "deny":
            yield Finding("deny", _reason(each, facts))
        elif each.effect == "ask":
            yield Finding("ask", _reason(each, facts))
    for default in decision.defaults:
        policy = next(
            each for each in (facts.rules or EMPTY).policies if each.name == default.policy
        )
        message = (
            f"no rule of the trust policy {policy.name!r} lets this call of {facts.tool!r} run"
        )
        change = f"use what it has rules for ({allowed_by(policy)}), as these rules say"
        yield finding(
            "deny", "selection", "policy.default", message, rule=policy.name, change=change
        )


_CODES = {
    "deny": "policy.denied",
    "ask": "policy.asks",
    "rewrite": "policy.rewritten",
    "redact": "policy.redacted",
}
_SAYS = {
    "deny": "denies this call of {!r}",
    "ask": "wants a person's consent for this call of {!r}",
    "rewrite": "changed the arguments of {!r}",
    "redact": "took what must not be shown out of the arguments of {!r}",
}


def _reason(applied: Applied, facts: Facts) -> Reason:
    rule, label = applied.rule.source, applied.rule.label
    if applied.problem:
        return Reason(
            code="policy.unusable",
            message=f"the rule {label!r} cannot be judged, so the call is denied:"
            f" {applied.problem}",
            rule=label,
            layer="execution",
            change="a value that can be read in one way only, or a corrected rule",
        )
    conditions = "; ".join(conditions_of(rule))
    said = _SAYS[applied.effect].format(facts.tool)
    layer: Layer = "execution" if conditions else "selection"
    return Reason(
        code=_CODES[applied.effect],
        message=rule.message or f"the rule {label!r} {said}",
        rule=label,
        layer=layer,
        change=rule.change or _change(applied, conditions),
    )


def _change(applied: Applied, conditions: str) -> str:
    if applied.effect == "ask":
        return "a person's yes"
    if applied.effect != "deny":
        return ""
    return f"a call for which this does not hold: {conditions}" if conditions else "another tool"
