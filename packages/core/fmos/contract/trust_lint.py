"""What is probably not meant in a trust policy: rules that never matter, and names of nothing."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fmos.contract.doubts import Doubt
from fmos.contract.globs import in_system_area, is_glob, matches_name, normalise
from fmos.contract.positions import Loc
from fmos.contract.trust_policy import (
    Constraint,
    Selector,
    TrustPolicy,
    TrustRule,
    amount,
)
from fmos.traps.manifest import ToolDescriptor

Tools = Mapping[str, ToolDescriptor]
_NEAR = 0.6


def doubts_about_rules(policy: TrustPolicy, tools: Tools | None = None) -> Iterator[Doubt]:
    """Yield every doubt about a valid policy; with `tools`, also those about names of tools."""
    yield from _unreachable(policy)
    yield from _without_effect(policy)
    for number, rule in enumerate(policy.rules):
        for pointer, constraint in rule.args.items():
            for doubt in _about_constraint(constraint):
                yield doubt._replace(loc=("rules", number, "args", pointer, *doubt.loc))
    if tools:
        yield from _unknown_names(policy, tools)


def _unreachable(policy: TrustPolicy) -> Iterator[Doubt]:
    """Yield the rules that another one always decides before."""
    for number, rule in enumerate(policy.rules):
        for other_number, other in enumerate(policy.rules):
            if other_number != number and _settles(other, rule, first=other_number < number):
                yield Doubt(
                    "unreachable",
                    ("rules", number),
                    f"the rule {rule.id!r} never decides: {other.id!r} {_done(other)} every call"
                    " that it is about",
                    "give one of them conditions, or leave this one out",
                )
                break


def _settles(other: TrustRule, rule: TrustRule, *, first: bool) -> bool:
    """Return whether one rule, which holds for every call of its tools, decides for another."""
    if other.args or other.sources or other.when or other.canary is not None:
        return False
    if not all(_is_within(each, other.tools) for each in rule.tools):
        return False
    if other.effect == "deny":
        return rule.effect != "deny" or first
    if other.effect == "allow" and rule.effect == "ask":
        return other.priority > rule.priority
    return other.effect == rule.effect == "ask" and first


def _done(rule: TrustRule) -> str:
    return {"deny": "denies", "allow": "allows", "ask": "asks about"}[rule.effect]


def _is_within(selector: Selector, wider: Iterable[Selector]) -> bool:
    """Return whether one of the selectors has all the tools of another, as far as names show."""
    for each in wider:
        if each == selector or each.name == "*":
            return True
        plain = selector.name and not is_glob(selector.name)
        if each.name and plain and matches_name([each.name], selector.name):
            return True
    return False


def _without_effect(policy: TrustPolicy) -> Iterator[Doubt]:
    """Yield what allows where nothing is denied or asked that it could let through."""
    if policy.default == "deny":
        if not policy.rules:
            yield Doubt(
                "denies-all",
                ("default",),
                "`default: deny` without a rule denies every call of whom it binds",
                "add rules that allow, or leave the default out",
            )
        return
    asked = [rule.priority for rule in policy.rules if rule.effect == "ask"]
    for number, rule in enumerate(policy.rules):
        if rule.effect == "allow" and not any(priority < rule.priority for priority in asked):
            yield Doubt(
                "no-effect",
                ("rules", number, "effect"),
                f"the rule {rule.id!r} lets nothing through: with `default: allow` a rule that"
                " allows only lifts questions of a lower priority",
                "write `default: deny`, or give it a priority above the rule that asks",
            )


def _about_constraint(constraint: Constraint) -> Iterator[Doubt]:
    checks: tuple[Callable[[Constraint], Iterator[Doubt]], ...] = (_folders, _hosts, _limits)
    for check in checks:
        yield from check(constraint)


def _folders(constraint: Constraint) -> Iterator[Doubt]:
    for number, folder in enumerate(constraint.under):
        if in_system_area(normalise(folder)):
            message = f"{folder!r} is the kernel's own area, which no tool reaches"
            yield _nothing(("under", number), message, "leave it out")
        elif "*" in folder:
            message = f"{folder!r} is a glob, and `under` names folders"
            hint = f"write {folder.partition('*')[0].rstrip('/') or '/'!r}"
            yield _nothing(("under", number), message, hint)


def _hosts(constraint: Constraint) -> Iterator[Doubt]:
    for number, host in enumerate(constraint.host):
        if "/" in host or ":" in host.strip("[]").replace("::", ""):
            message = f"{host!r} is no host: it has a scheme, port or path"
            yield _nothing(("host", number), message, "write only the name, such as example.com")
    for number, domain in enumerate(constraint.domain):
        if "@" in domain:
            message = f"{domain!r} is an address, not a domain"
            hint = "write it as `address`, or leave out all up to the @"
            yield _nothing(("domain", number), message, hint)


def _limits(constraint: Constraint) -> Iterator[Doubt]:
    lower = [amount(each)[0] for each in (constraint.min, constraint.above) if each is not None]
    upper = [amount(each)[0] for each in (constraint.max, constraint.below) if each is not None]
    if lower and upper and max(lower) > min(upper):
        message = f"no amount is at least {max(lower)} and at most {min(upper)}"
        yield _nothing(("type",), message, "exchange the limits")
    shortest = min((len(each) for each in constraint.one_of), default=0)
    if constraint.max_length is not None and shortest > constraint.max_length:
        message = f"no text of `one_of` has at most {constraint.max_length} characters"
        yield _nothing(("one_of",), message, "leave out `max_length`")


def _nothing(loc: Loc, message: str, hint: str) -> Doubt:
    return Doubt("matches-nothing", loc, message, hint)


def _unknown_names(policy: TrustPolicy, tools: Tools) -> Iterator[Doubt]:
    for number, rule in enumerate(policy.rules):
        known = [tool for each in rule.tools for tool in tools.values() if selects(each, tool)]
        for place, selector in enumerate(rule.tools):
            if not any(selects(selector, tool) for tool in tools.values()):
                yield _unknown_tool(selector, ("rules", number, "tools", place), tools)
        yield from _unknown_arguments(rule, number, known)


def selects(selector: Selector, tool: ToolDescriptor) -> bool:
    """Return whether a registered tool is one of those that a selector names."""
    if selector.name:
        return matches_name([selector.name], tool.name)
    if selector.capability:
        return matches_name([selector.capability], tool.capability)
    return selector.effect == tool.effect


def _unknown_tool(selector: Selector, loc: Loc, tools: Tools) -> Doubt:
    names = {tool.capability for tool in tools.values()} if selector.capability else set(tools)
    near = difflib.get_close_matches(
        selector.name or selector.capability, sorted(names), n=1, cutoff=_NEAR
    )
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(names)[:8])}"
    return Doubt("unknown-tool", loc, f"no registered tool is meant by '{selector}'", hint)


def _unknown_arguments(
    rule: TrustRule, number: int, known: list[ToolDescriptor]
) -> Iterator[Doubt]:
    declared = [_arguments(tool) for tool in known]
    if not declared or not all(declared):
        return
    names = {name for each in declared for name in each}
    for field, pointers in (("args", rule.args), ("from", rule.sources)):
        for pointer in pointers:
            first = pointer.split("/")[1].replace("~1", "/").replace("~0", "~")
            if first != "*" and first not in names:
                near = difflib.get_close_matches(first, sorted(names), n=1, cutoff=_NEAR)
                hint = f"did you mean '/{near[0]}'?" if near else f"there are {sorted(names)}"
                message = f"none of the rule's tools has an argument {first!r}"
                yield Doubt("unknown-argument", ("rules", number, field, pointer), message, hint)


def _arguments(tool: ToolDescriptor) -> set[str]:
    """Return the arguments that a tool declares; none where its schema does not say."""
    schema: dict[str, Any] = tool.input_schema or {}
    properties = schema.get("properties")
    return set(properties) if isinstance(properties, dict) else set()
