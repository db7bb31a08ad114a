"""Says in words what a rule is about, for those who read a verdict or a policy."""

from __future__ import annotations

from collections.abc import Iterator

from fmos.contract.trust_policy import Constraint, TrustPolicy, TrustRule

_DOES = {
    "deny": "denies",
    "ask": "asks a person about",
    "allow": "allows",
    "rewrite": "changes the arguments of",
    "redact": "redacts the arguments of",
}
_SAYS = {
    "under": "in {}",
    "host": "on the host {}",
    "scheme": "with the scheme {}",
    "port": "at the port {}",
    "domain": "at the domain {}",
    "address": "the address {}",
    "max": "at most {}",
    "min": "at least {}",
    "above": "above {}",
    "below": "below {}",
    "currency": "in {}",
    "programs": "starting {}",
    "classes": "of the class {}",
    "one_of": "one of {}",
    "pattern": "matching {}",
    "max_length": "of at most {} characters",
    "schema_": "valid by its schema",
}
_KINDS = {
    "url": "a URL", "email": "an address", "amount": "an amount", "sql": "SQL", "text": "text",
}  # fmt: skip


def sentence(rule: TrustRule) -> str:
    """Return a rule as one sentence."""
    tools = ", ".join(map(str, rule.tools))
    conditions = " and ".join(conditions_of(rule))
    return f"{_DOES[rule.effect]} {tools}{f' if {conditions}' if conditions else ''}"


def conditions_of(rule: TrustRule) -> Iterator[str]:
    """Yield each condition of a rule in words."""
    for pointer, constraint in rule.args.items():
        yield f"{pointer} is {_said(constraint)}"
    for pointer, kinds in rule.sources.items():
        yield f"{pointer} comes from {_listed(kinds)}"
    if rule.when:
        yield rule.when


def allowed_by(policy: TrustPolicy) -> str:
    """Return which tools a policy has rules for that let calls through."""
    tools = (str(each) for rule in policy.rules if rule.effect != "deny" for each in rule.tools)
    return _listed(tuple(dict.fromkeys(tools))[:8]) or "nothing"


def _said(constraint: Constraint) -> str:
    parts: list[str] = []
    for name in type(constraint).model_fields:
        value = getattr(constraint, name)
        if name in _SAYS and value not in ((), "", None):
            parts.append(_SAYS[name].format(_listed(value)))
    kind = _KINDS.get(constraint.type or "", f"a {constraint.type or 'value'}")
    said = f"{kind} {' and '.join(parts)}".strip()
    return f"not {said}" if constraint.negated else said


def _listed(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, tuple) else str(value)
