"""Rules compiled: each asks its own conditions, and a set finds those about a tool in one look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fmos.canonical import content_digest
from fmos.contract.globs import is_glob, matches_name
from fmos.contract.shares import in_share
from fmos.contract.trust_policy import RuleEffect, Selector, TrustPolicy, TrustRule
from fmos.traps.manifest import ToolDescriptor
from fmos_trust.facts import Facts
from fmos_trust.policy.constraints import Check, check_of
from fmos_trust.policy.pointers import Parts, parts_of, texts_at
from fmos_trust.policy.surroundings import Condition, Surroundings, sources_of

#: In this order rules of one priority are looked at, and listed.
RANK: dict[RuleEffect, int] = {"deny": 0, "ask": 1, "rewrite": 2, "redact": 3, "allow": 4}

#: So many tools of a set are remembered with the rules that are about them.
_REMEMBERED = 4096

_Sources = tuple[Parts, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Default:
    """A policy that denies what none of its rules lets through."""

    policy: str
    shadow: bool


class CompiledRule:
    """One rule, ready to be asked. Immutable."""

    __slots__ = ("_checks", "_condition", "_label", "_shadow", "_sources", "policy", "source")

    def __init__(self, policy: TrustPolicy, rule: TrustRule) -> None:
        self.policy = policy.name
        self.source = rule
        self._shadow = policy.mode == "shadow"
        self._label = f"{policy.name}/{rule.id}"
        allows = rule.effect == "allow"
        self._checks: tuple[Check, ...] = tuple(
            check_of(pointer, constraint, allows=allows)
            for pointer, constraint in sorted(rule.args.items())
        )
        self._sources: tuple[_Sources, ...] = tuple(
            (parts_of(pointer), frozenset(kinds)) for pointer, kinds in sorted(rule.sources.items())
        )
        self._condition = Condition(rule.when) if rule.when else None

    @property
    def label(self) -> str:
        """The rule's name in verdicts: `policy/rule`."""
        return self._label

    @property
    def effect(self) -> RuleEffect:
        """What it does to the calls that it is about."""
        return self.source.effect

    @property
    def priority(self) -> int:
        """How early it is looked at: the higher, the earlier."""
        return self.source.priority

    @property
    def counts_calls(self) -> bool:
        """Whether it depends on how many calls there were."""
        return self._condition is not None and "counters" in self._condition.names

    def applies(self, facts: Facts, around: Surroundings) -> bool:
        """Return whether arguments, provenance and condition are as the rule says.

        Raises:
            UnusableError: if one of them cannot be judged.
        """
        arguments = facts.operation.arguments
        for check in self._checks:
            if not check(arguments):
                return False
        for parts, kinds in self._sources:
            if not self._comes_from(facts, parts, kinds):
                return False
        return self._condition is None or self._condition.holds(around)

    def is_shadow(self, facts: Facts) -> bool:
        """Return whether the rule only watches this session."""
        if self._shadow:
            return True
        share = self.source.canary
        if share is None:
            return False
        who = facts.operation.principal
        label = f"trust_rule/{self._label}"
        return not in_share(label, share, agent=who.agent_key, session=who.session)

    def _comes_from(self, facts: Facts, parts: Parts, kinds: frozenset[str]) -> bool:
        """Return whether every value (to allow), or one (to stop), comes from such sources.

        A value with several sources is as good as the best of them, so one of the kinds is enough
        to allow; a rule that stops is about values with no other source. What nobody knows the
        source of is never allowed for it, and always stopped.
        """
        found = texts_at(facts.operation.arguments, parts)
        known = (sources_of(facts, pointer) for pointer in found)
        if self.effect == "allow":
            return all(not kinds.isdisjoint(each) for each in known)
        return any(each <= kinds for each in known)


class CompiledSet:
    """The rules that bind one principal, ready to be asked. Thread-safe."""

    def __init__(self, policies: Iterable[TrustPolicy]) -> None:
        self.policies = tuple(sorted(policies, key=lambda each: (each.name, each.digest)))
        self.digest = content_digest([each.digest for each in self.policies])
        self.defaults = tuple(
            Default(each.name, each.mode == "shadow")
            for each in self.policies
            if each.default == "deny"
        )
        self._exact: dict[str, list[CompiledRule]] = {}
        self._others: list[tuple[Selector, CompiledRule]] = []
        for policy in self.policies:
            for rule in policy.rules:
                self._add(CompiledRule(policy, rule))
        self._trapped: tuple[Mapping[str, ToolDescriptor], frozenset[str]] | None = None
        self._about: dict[tuple[str, str, str], tuple[CompiledRule, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.policies)

    def about(self, facts: Facts) -> tuple[CompiledRule, ...]:
        """Return the rules about the tool of a call, in the order in which they are looked at."""
        return self._rules(facts.tool, facts.capability, facts.effect)

    def traps(self, tool: ToolDescriptor) -> bool:
        """Return whether calls of a tool must come before the gate for these rules."""
        return bool(self.defaults) or bool(self._rules(tool.name, tool.capability, tool.effect))

    def trapped(self, tools: Mapping[str, ToolDescriptor]) -> frozenset[str]:
        """Return the names of the tools that trap for these rules; kept for the same tools."""
        known = self._trapped
        if known is None or known[0] is not tools:
            names = frozenset(name for name, tool in tools.items() if self.traps(tool))
            known = self._trapped = (tools, names)
        return known[1]

    def named(self, contract: str) -> str:
        """Return the hash of a contract with these rules; without rules it is the contract's."""
        return content_digest([contract, self.digest]) if self.policies else contract

    def counts(self, facts: Facts) -> bool:
        """Return whether a rule about the tool depends on how often it was called."""
        return any(rule.counts_calls for rule in self.about(facts))

    def _rules(self, tool: str, capability: str, effect: str) -> tuple[CompiledRule, ...]:
        key = (tool, capability, effect)
        known = self._about.get(key)
        if known is None:
            found = {id(rule): rule for rule in self._exact.get(tool, ())}
            for selector, rule in self._others:
                if _means(selector, tool, capability, effect):
                    found[id(rule)] = rule
            known = tuple(sorted(found.values(), key=_order))
            if len(self._about) >= _REMEMBERED:
                self._about.clear()
            self._about[key] = known
        return known

    def _add(self, rule: CompiledRule) -> None:
        for selector in rule.source.tools:
            if selector.name and not is_glob(selector.name):
                self._exact.setdefault(selector.name, []).append(rule)
            else:
                self._others.append((selector, rule))


EMPTY = CompiledSet(())


def _order(rule: CompiledRule) -> tuple[int, int, str]:
    return (-rule.priority, RANK[rule.effect], rule.label)


def _means(selector: Selector, tool: str, capability: str, effect: str) -> bool:
    if selector.name:
        return matches_name([selector.name], tool)
    if selector.capability:
        return matches_name([selector.capability], capability)
    return selector.effect == effect
