"""Calls that show what a drafted sentence does: each with the verdict that it must get.

They are judged by the very rules that were drafted, so that a person sees a promise that was kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from fmos.contract.trust_policy import RuleEffect, Selector, TrustPolicy
from fmos.traps.manifest import Effect, ToolDescriptor
from fmos.types import Operation, OperationKind, Principal
from fmos_trust.draft.conditions import DAYS
from fmos_trust.draft.model import Argument, Condition, Expression, Sentence
from fmos_trust.facts import Facts
from fmos_trust.keyed import KeyedHash
from fmos_trust.policy.compiled import CompiledSet
from fmos_trust.policy.decision import decide
from fmos_trust.policy.surroundings import Surroundings

#: A week that begins on a Monday.
_MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    """One example call; `expected` is None where the sentence has nothing against it."""

    tool: str
    effect: Effect
    capability: str
    expected: RuleEffect | None
    arguments: dict[str, Any] = field(default_factory=dict)
    around: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def at(self) -> datetime:
        """When the example happens."""
        moment = _MONDAY
        if "date" in self.around:
            moment = datetime.fromisoformat(f"{self.around['date']}T12:00+00:00")
        if "weekday" in self.around:
            days = DAYS.index(str(self.around["weekday"])) - moment.weekday()
            moment += timedelta(days=days)
        if "clock" in self.around:
            hour, minute = map(int, str(self.around["clock"]).split(":"))
            moment = moment.replace(hour=hour, minute=minute)
        return moment

    def said(self) -> str:
        """Return the example on one line."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        parts = [f"{self.tool}({given})"]
        if {"weekday", "clock", "date"} & self.around.keys():
            parts.append(f"on {self.at:%a %Y-%m-%d at %H:%M}")
        parts += [
            f"by the {name} {self.around[name]}"
            for name in ("role", "agent")
            if name in self.around
        ]
        parts += [
            f"after {self.around[name]} calls {said}"
            for name, said in (("session", "of the session"), ("today", "of the day"))
            if name in self.around
        ]
        left = [each for each in self.around if each.startswith("left.")]
        parts += [f"with {self.around[each]} {each.removeprefix('left.')} left" for each in left]
        parts += [f"{pointer} from {kind}" for pointer, kind in self.sources.items()]
        return " ".join(parts)


class _ExampleFacts(Facts):
    """Facts whose provenance the example says."""

    example: Case

    def provenance(self, pointer: str) -> frozenset[str]:
        """Return where the example says that a value came from."""
        return frozenset({self.example.sources.get(pointer, "user")})


def cases_of(sentence: Sentence) -> tuple[Case, ...]:
    """Return examples: one that the sentence is about, and one for each condition that it has."""
    return tuple(_cases(sentence))


def verdict(policy: TrustPolicy, case: Case) -> RuleEffect | None:
    """Return what the rules of a policy do to an example; None where they let it be."""
    who = Principal(
        agent=str(case.around.get("agent", "example")), role=str(case.around.get("role", ""))
    )
    operation = Operation(
        kind=OperationKind.TOOL_CALL, name=case.tool, arguments=case.arguments, principal=who
    )
    descriptor = ToolDescriptor(name=case.tool, capability=case.capability, effect=case.effect)
    facts = _ExampleFacts(
        operation=operation,
        contract=None,
        policy="",
        descriptor=descriptor,
        secrets=(),
        keyed=cast("KeyedHash", None),  # no secret is known, so none is looked for
        home="/nowhere",
    )
    object.__setattr__(facts, "example", case)  # the class is frozen
    now_ns = int(case.at.timestamp()) * 1_000_000_000
    left = {
        name.removeprefix("left."): amount
        for name, amount in case.around.items()
        if name.startswith("left.")
    }
    counts = {"session": case.around.get("session", 0), "today": case.around.get("today", 0)}
    around = Surroundings(
        facts,
        lambda: now_ns,
        UTC,
        counters=lambda _: counts,
        ledger=lambda _: {"spent": {}, "left": left},
    )
    found = decide(CompiledSet((policy,)), facts, around).counting
    return found[0].effect if found else None


def _cases(sentence: Sentence) -> Iterator[Case]:
    first = _about(sentence.what[0], sentence.effect)
    holds = [(each, True) for each in sentence.given]
    none = [(each, False) for group in sentence.exceptions for each in group.conditions]
    yield _with(first, [*none, *holds])
    for number, each in enumerate(sentence.given):
        rest = [*none, *holds[:number], *holds[number + 1 :], (each, False)]
        yield _with(replace(first, expected=None), rest)
    for group in sentence.exceptions:
        others = [(each, False) for each, _ in none if each not in group.conditions]
        if group.together:
            every = [(each, True) for each in group.conditions]
            yield _with(replace(first, expected=None), [*others, *holds, *every])
            continue
        for each in group.conditions:
            rest = [(other, False) for other in group.conditions if other is not each]
            found = [*others, *holds, *rest, (each, True)]
            yield _with(replace(first, expected=None), found)
    for selector in sentence.but:
        spared = replace(_about(selector, None), expected=None)
        if selector.name and not sentence.what[0].name:
            spared = replace(spared, effect=first.effect, capability=first.capability)
        yield _with(spared, [*none, *holds])


def _about(selector: Selector, expected: RuleEffect | None) -> Case:
    """Return a call of a tool that a selector names."""
    if selector.name:
        name = selector.name.replace("*", "").strip(".-_:") or "any_tool"
        if selector.name.endswith((".*", "-*", "_*", ":*")):
            name = selector.name[:-1] + "one"
        return Case(name, "execute", name, expected)
    if selector.capability:
        return Case("some_tool", "execute", selector.capability, expected)
    return Case("some_tool", selector.effect or "write", "some.thing", expected)


def _with(case: Case, conditions: list[tuple[Condition, bool]]) -> Case:
    """Return a call for which these conditions hold, or do not."""
    arguments, around, sources = dict(case.arguments), dict(case.around), dict(case.sources)
    for condition, holds in conditions:
        if isinstance(condition, Expression):
            around |= condition.yes if holds else condition.no
        elif isinstance(condition, Argument):
            arguments[condition.pointer[1:]] = condition.fits if holds else condition.fails
        else:
            kinds = condition.kinds if holds else condition.negated().kinds
            sources[condition.pointer] = kinds[0]
            arguments.setdefault(condition.pointer[1:], "something")
    return replace(case, arguments=arguments, around=around, sources=sources)
