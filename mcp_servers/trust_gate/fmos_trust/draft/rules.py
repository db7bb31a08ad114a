"""Turns what a sentence says into rules of a trust policy."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from fmos.contract.trust_policy import Constraint, Selector, TrustPolicy, TrustRule
from fmos.errors import ArgumentError
from fmos_trust.draft.model import Argument, Condition, Expression, Origin, Sentence

_MAX_RULES = 16


def policy_of(name: str, sentences: Iterable[Sentence]) -> TrustPolicy:
    """Return one policy of several sentences; each rule bears the sentence that it comes from."""
    rules: list[TrustRule] = []
    for sentence in sentences:
        for rule in rules_of(sentence):
            taken = {each.id for each in rules}
            ids = itertools.chain([rule.id], (f"{rule.id}-{n}" for n in itertools.count(2)))
            free = next(each for each in ids if each not in taken)
            rules.append(rule.model_copy(update={"id": free}))
    return TrustPolicy(apiVersion="agentos/v0.2", kind="TrustPolicy", name=name, rules=tuple(rules))


def rules_of(sentence: Sentence) -> tuple[TrustRule, ...]:
    """Return the rules that say what a sentence says.

    Several exceptions that must hold together make a rule each: without one of them it applies.

    Raises:
        ArgumentError: if two conditions on one argument do not fit into one rule.
    """
    choices = [
        [(each.negated(),) for each in exceptions.conditions]
        if exceptions.together
        else [tuple(each.negated() for each in exceptions.conditions)]
        for exceptions in sentence.exceptions
    ]
    found = [
        _rule(sentence, (*sentence.given, *itertools.chain.from_iterable(chosen)), number)
        for number, chosen in enumerate(itertools.product(*choices))
    ]
    if len(found) > _MAX_RULES:
        raise ArgumentError("the sentence makes too many rules", hint="say it in several sentences")
    return tuple(found)


def _rule(sentence: Sentence, conditions: tuple[Condition, ...], number: int) -> TrustRule:
    args: dict[str, Constraint] = {}
    sources: dict[str, tuple[str, ...]] = {}
    when = [each.cel for each in conditions if isinstance(each, Expression)]
    for each in conditions:
        if isinstance(each, Argument):
            args[each.pointer] = _both(args.get(each.pointer), each)
        elif isinstance(each, Origin):
            known = sources.get(each.pointer, each.kinds)
            sources[each.pointer] = tuple(kind for kind in known if kind in each.kinds)
    when += [f"!({_names(each)})" for each in sentence.but]
    suffix = f"-{number + 1}" if number else ""
    document = {
        "id": _slug(sentence.text, suffix),
        "tools": [_selector(each) for each in sentence.what],
        "effect": sentence.effect,
        "args": {
            name: each.model_dump(by_alias=True, exclude_unset=True) for name, each in args.items()
        },
        "from": sources,
        "when": " && ".join(dict.fromkeys(when)),
        "priority": sentence.priority,
        "redact": sentence.data,
    }
    if sentence.effect in ("deny", "ask"):
        document["message"] = f"by the policy: {sentence.text}"[:1000]
    return TrustRule.model_validate({name: each for name, each in document.items() if each})


def _both(known: Constraint | None, more: Argument) -> Constraint:
    """Return one constraint for two conditions on the same argument."""
    if known is None:
        return more.constraint
    one = known.model_dump(by_alias=True, exclude_unset=True)
    other = more.constraint.model_dump(by_alias=True, exclude_unset=True)
    shared = (one.keys() & other.keys()) - {"type"}
    if shared or one.get("type") != other.get("type") or "not" in {*one, *other}:
        raise ArgumentError(
            f"two conditions on {more.pointer} do not fit into one rule",
            hint="say it as two sentences",
        )
    return Constraint.model_validate({**one, **other})


def _selector(selector: Selector) -> str | dict[str, str]:
    if selector.name:
        return selector.name
    if selector.capability:
        return {"capability": selector.capability}
    return {"effect": str(selector.effect)}


def _names(selector: Selector) -> str:
    """Return a condition that a call's tool is one that a selector names."""
    if selector.capability:
        return f'tool.capability == "{selector.capability}"'
    if selector.effect:
        return f'tool.effect == "{selector.effect}"'
    if "*" in selector.name or "?" in selector.name:
        body = re.escape(selector.name).replace(r"\*", ".*").replace(r"\?", ".")
        quoted = body.replace("\\", "\\\\")
        return f'tool.name.matches("^{quoted}$")'
    return f'tool.name == "{selector.name}"'


def _slug(text: str, suffix: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.casefold())
    return ("-".join(words[:8])[:60].strip("-") or "rule") + suffix
