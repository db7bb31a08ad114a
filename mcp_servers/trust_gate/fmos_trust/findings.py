"""What the gate's judges say of a call, and how their findings become one verdict.

Each judge looks at the same facts and returns findings; none can allow what another one stops.
A denial is stronger than a question, a question stronger than a rewrite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fmos.types import Layer, Obligation, Reason
from fmos_trust.facts import Facts

FindingEffect = Literal["deny", "ask", "rewrite", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one judge found in a call.

    `rewrite` gives the whole arguments to use instead. `note` stops nothing: it is evidence, and
    what the caller must do beside.
    """

    effect: FindingEffect
    reason: Reason
    arguments: Mapping[str, Any] | None = None
    obligations: tuple[Obligation, ...] = ()


Judge = Callable[[Facts], Iterable[Finding]]
"""Whatever it raises denies the call."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What all judges found, and the arguments as the last rewrite left them."""

    denials: tuple[Reason, ...]
    asks: tuple[Reason, ...]
    rewrites: tuple[Reason, ...]
    notes: tuple[Reason, ...]
    obligations: tuple[Obligation, ...]
    arguments: Mapping[str, Any] | None


def judge_all(judges: Iterable[Judge], facts: Facts) -> Judged:
    """Ask every judge; each sees the arguments as the rewrites before it left them."""
    found: list[Finding] = []
    arguments: Mapping[str, Any] | None = None
    for judge in judges:
        for finding in judge(facts):
            found.append(finding)
            if finding.effect == "rewrite" and finding.arguments is not None:
                arguments = finding.arguments
                facts = facts.with_arguments(arguments)
    return Judged(
        denials=_reasons(found, "deny"),
        asks=_reasons(found, "ask"),
        rewrites=_reasons(found, "rewrite"),
        notes=_reasons(found, "note"),
        obligations=tuple(each for finding in found for each in finding.obligations),
        arguments=arguments,
    )


def finding(
    effect: FindingEffect, layer: Layer, code: str, message: str, *, rule: str, change: str = ""
) -> Finding:
    """Return a finding without new arguments; `change` says what would change it."""
    reason = Reason(code=code, message=message, rule=rule, layer=layer, change=change)
    return Finding(effect, reason)


def _reasons(found: Iterable[Finding], effect: FindingEffect) -> tuple[Reason, ...]:
    return tuple(each.reason for each in found if each.effect == effect)
