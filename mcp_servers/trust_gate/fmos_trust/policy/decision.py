"""What comes of a set of rules for one call: which of them apply, and which of these decide.

Higher priority first; within one, a denial before a question before a change. A rule that allows
lifts questions of a lower priority and never a denial; a rule that cannot be judged denies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fmos.contract.trust_policy import RuleEffect
from fmos_trust.facts import Facts
from fmos_trust.policy.compiled import RANK, CompiledRule, CompiledSet, Default
from fmos_trust.policy.surroundings import Surroundings, UnusableError


@dataclass(frozen=True, slots=True)
class Applied:
    """One rule that counts for a call, or would."""

    rule: CompiledRule
    effect: RuleEffect
    shadow: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What rules decide of one call: those that count, in their order, and those that would."""

    counting: tuple[Applied, ...] = ()
    shadow: tuple[Applied, ...] = ()
    defaults: tuple[Default, ...] = ()
    would_default: tuple[Default, ...] = ()

    @property
    def effect(self) -> RuleEffect:
        """The strongest effect: `deny`, `ask`, `rewrite`, `redact`, or `allow`."""
        if self.defaults or any(each.effect == "deny" for each in self.counting):
            return "deny"
        effects = {each.effect for each in self.counting}
        for effect in RANK:
            if effect in effects:
                return effect
        return "allow"


NOTHING = Decision()


def decide(rules: CompiledSet, facts: Facts, around: Surroundings) -> Decision:
    """Return what the rules decide of a call; the order in which they were written is nothing."""
    about = rules.about(facts)
    if not about and not rules.defaults:
        return NOTHING
    counting: list[Applied] = []
    shadow: list[Applied] = []
    for rule in about:
        applied = _applied(rule, facts, around)
        if applied is not None:
            (shadow if applied.shadow else counting).append(applied)
    defaults = [each for each in rules.defaults if not _is_let_through(each, counting, shadow)]
    return Decision(
        counting=_without_lifted(counting),
        shadow=tuple(shadow),
        defaults=tuple(each for each in defaults if not each.shadow),
        would_default=tuple(each for each in defaults if each.shadow),
    )


def _applied(rule: CompiledRule, facts: Facts, around: Surroundings) -> Applied | None:
    try:
        if not rule.applies(facts, around):
            return None
    except UnusableError as error:
        return Applied(rule, "deny", rule.is_shadow(facts), str(error))
    return Applied(rule, rule.effect, rule.is_shadow(facts))


def _is_let_through(default: Default, *found: Iterable[Applied]) -> bool:
    """Return whether a rule of the policy, other than one that denies, is about the call.

    A rule that only watches lets nothing through, unless its whole policy does.
    """
    return any(
        each.rule.policy == default.policy and each.effect != "deny"
        for applied in (found if default.shadow else found[:1])
        for each in applied
    )


def _without_lifted(applied: list[Applied]) -> tuple[Applied, ...]:
    """Leave out the questions that a rule of higher priority has answered."""
    allowing = [each.rule.priority for each in applied if each.effect == "allow"]
    if not allowing:
        return tuple(applied)
    highest = max(allowing)
    return tuple(each for each in applied if each.effect != "ask" or each.rule.priority >= highest)
