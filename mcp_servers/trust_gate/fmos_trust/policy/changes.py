"""The arguments that a rule puts in the place of those of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmos.contract.trust_policy import TrustRule
from fmos.errors import ArgumentError
from fmos.redaction import find, hidden_spans
from fmos_trust.facts import Facts
from fmos_trust.policy.pointers import parts_of, replaced
from fmos_trust.redaction.exact import Known
from fmos_trust.redaction.guard import changed_texts


def changed(arguments: Mapping[str, Any], rule: TrustRule, facts: Facts) -> Mapping[str, Any]:
    """Return the arguments as a rule rewrites or redacts them.

    Raises:
        ArgumentError: if there is nothing to replace at one of the rule's pointers, or a command
            would have to be changed.
    """
    for pointer, value in sorted(rule.rewrite.items()):
        arguments = replaced(arguments, parts_of(pointer), value)
    return _redacted(arguments, rule, facts) if rule.redact else arguments


def _redacted(arguments: Mapping[str, Any], rule: TrustRule, facts: Facts) -> dict[str, Any]:
    found = {
        name: changed_texts(value, lambda text: _without(text, rule, facts))
        for name, value in arguments.items()
    }
    for name, role in facts.roles.items():
        if role == "command" and found.get(name) != arguments.get(name):
            raise ArgumentError(
                f"something to redact stands in a command ({name!r}), which would be another one",
                hint="write the command without it",
            )
    return found


def _without(text: str, rule: TrustRule, facts: Facts) -> str:
    """Return a text without what its form shows to be of the rule's classes, and seen secrets."""
    text = hidden_spans(text, find(text, rule.redact), lambda span: f"<{span.rule.id}>")
    if "secrets" in rule.redact and isinstance(facts.secrets, Known):
        for match in sorted(facts.secrets.matches(text, facts.keyed), key=_start, reverse=True):
            text = f"{text[: match.start]}<{match.secret.kind}>{text[match.end :]}"
    return text


def _start(match: Any) -> int:
    return match.start
