"""Laws of rules, over generated policies and calls."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fmos.contract.trust_policy import TrustPolicy
from fmos.types import Operation, OperationKind, Principal
from fmos_trust.facts import Facts
from fmos_trust.keyed import KeyedHash
from fmos_trust.policy.compiled import CompiledSet
from fmos_trust.policy.decision import Decision, decide
from fmos_trust.policy.judge import findings_of
from fmos_trust.policy.surroundings import Surroundings

TOOLS = ("pay", "mail", "k8s.apply")
CHECKS: list[Mapping[str, Any]] = [
    {},
    {"/n": {"type": "amount", "max": "5"}},
    {"/n": {"type": "amount", "above": "5"}},
    {"/p": {"type": "path", "under": ["/work"]}},
    {"/p": {"type": "path", "under": ["/work"], "not": True}},
    {"/n": {"schema": {"type": "integer", "minimum": 3}}},
    {"/p": {"type": "text", "pattern": "/w.*"}},
]
WHENS = ["", "args.n > 3", "tool.name == 'pay'", 'time.weekday == "sun"', "args.absent == 1"]

one_rule = st.fixed_dictionaries({
    "tools": st.lists(st.sampled_from([*TOOLS, "*", "k8s.*"]), min_size=1, max_size=2),
    "effect": st.sampled_from(["deny", "ask", "allow"]),
    "args": st.sampled_from(CHECKS),
    "when": st.sampled_from(WHENS),
    "priority": st.integers(-1, 1),
})  # fmt: skip
calls = st.tuples(
    st.sampled_from(TOOLS),
    st.fixed_dictionaries(
        {},
        optional={
            "n": st.one_of(st.integers(-9, 9), st.sampled_from(["4", "4 EUR", "x", None, [1, 9]])),
            "p": st.sampled_from(["/work/a", "/work/../a", "/a", "", "~", ["/work", "/x"], 3]),
        },
    ),
)
policies = st.lists(st.lists(one_rule, max_size=4), min_size=1, max_size=3)
defaults = st.sampled_from(["allow", "deny"])
STRENGTH = {"deny": 2, "ask": 1}


def policy(name: str, rules: list[dict[str, Any]], **more: Any) -> TrustPolicy:
    """Return a policy of numbered rules."""
    head = {"apiVersion": "agentos/v0.2", "kind": "TrustPolicy", "name": name, **more}
    numbered = [{**rule, "id": f"r{number}"} for number, rule in enumerate(rules)]
    return TrustPolicy.model_validate({**head, "rules": numbered})


def judged(found: list[TrustPolicy], call: tuple[str, dict[str, Any]]) -> tuple[Decision, Facts]:
    """Return what policies decide of a call."""
    tool, arguments = call
    operation = Operation(
        kind=OperationKind.TOOL_CALL,
        name=tool,
        arguments=arguments,
        principal=Principal(agent="clerk", session="s"),
    )
    facts = Facts(
        operation=operation, contract=None, policy="", descriptor=None, secrets=(),
        keyed=KeyedHash.__new__(KeyedHash), home="/h", rules=CompiledSet(found),
    )  # fmt: skip
    around = Surroundings(facts, lambda: 1_763_744_400_000_000_000)
    return decide(CompiledSet(found), facts, around), facts


def strength(decision: Decision) -> int:
    """Return 2 for a denial, 1 for a question, else 0."""
    return STRENGTH.get(decision.effect, 0)


def reasons(decision: Decision, facts: Facts) -> list[tuple[str, str]]:
    """Return effect and reason of every finding, in order."""
    return [(each.effect, each.reason.rule) for each in findings_of(decision, facts)]


@settings(max_examples=300, deadline=None)
@given(policies, defaults, one_rule, calls)
def test_a_further_rule_that_stops_never_allows_more(
    written: list[list[dict[str, Any]]], default: str, rule: dict[str, Any], call: Any
) -> None:
    """A rule that denies or asks, put anywhere, leaves each verdict as it is or makes it stricter.

    In a policy of its own, since within `default: deny` a question lets a call through.
    """
    found = [policy(f"p{n}", rules, default=default) for n, rules in enumerate(written)]
    before, _ = judged(found, call)
    for effect in ("deny", "ask"):
        more = policy("more", [{**rule, "effect": effect}])
        after, _ = judged([*found, more], call)
        assert strength(after) >= strength(before)
    denied = policy("p0", [*written[0], {**rule, "effect": "deny"}], default=default)
    assert strength(judged([denied, *found[1:]], call)[0]) >= strength(before)


@settings(max_examples=200, deadline=None)
@given(policies, defaults, calls, st.randoms(use_true_random=False))
def test_the_order_of_rules_and_files_is_nothing(
    written: list[list[dict[str, Any]]], default: str, call: Any, chance: random.Random
) -> None:
    """Rules and policies in another order give the same findings in the same order."""
    found = [policy(f"p{n}", rules, default=default) for n, rules in enumerate(written)]
    mixed = [
        each.model_copy(update={"rules": tuple(chance.sample(each.rules, len(each.rules)))})
        for each in found
    ]
    chance.shuffle(mixed)
    assert reasons(*judged(found, call)) == reasons(*judged(mixed, call))


@settings(max_examples=200, deadline=None)
@given(policies, calls)
def test_a_policy_that_watches_decides_nothing(
    written: list[list[dict[str, Any]]], call: Any
) -> None:
    """In `mode: shadow`, whatever its rules and errors, every call is let through."""
    found = [
        policy(f"p{n}", rules, default="deny", mode="shadow") for n, rules in enumerate(written)
    ]
    decision, facts = judged(found, call)
    assert decision.effect == "allow"
    assert not list(findings_of(decision, facts))


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=40) | st.integers() | st.floats() | st.none() | st.booleans()
    | st.lists(st.text(max_size=5), max_size=3) | st.dictionaries(st.text(max_size=3), st.none()),
    st.sampled_from(["path", "url", "email", "amount", "command", "sql", "text"]),
    st.sampled_from(["deny", "ask", "allow"]),
)  # fmt: skip
def test_no_value_crashes_an_operator(value: Any, kind: str, effect: str) -> None:
    """Any value at all is judged, or denied because it cannot be."""
    check = {
        "path": {"under": ["/work"]}, "url": {"host": ["example.com"]},
        "email": {"domain": ["example.com"]}, "amount": {"max": "5"},
        "command": {"programs": ["ls"]}, "sql": {"class": ["select"]}, "text": {"pattern": "a+"},
    }[kind]  # fmt: skip
    rule = {"tools": ["pay"], "effect": effect, "args": {"/x": {"type": kind, **check}}}
    decision, _ = judged([policy("p", [rule], default="deny")], ("pay", {"x": value}))
    assert decision.effect in ("deny", "ask", "allow")
