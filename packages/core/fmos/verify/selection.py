"""Which verifiers look at a claim, and what follows from what they find.

| risk of the claim | verifiers that run | refuted if | supported if |
|---|---|---|---|
| below 0.3 | the cheapest that takes its type | it refutes | it supports |
| 0.3 up to 0.7 | the two cheapest | one refutes | one supports |
| 0.7 and above | all that take its type | one refutes | more than half support |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from fmos.verify.model import Claim, ClaimVerdict, Finding, Verifier

LOW, HIGH = 0.3, 0.7


class Selector(Protocol):
    """Chooses verifiers for a claim; a learned one may take the place of the table."""

    def choose(self, claim: Claim, applicable: Sequence[Verifier]) -> Sequence[Verifier]:
        """Return those of the applicable verifiers that shall run, in order."""
        ...


class TableSelector:
    """Chooses by the table above."""

    def choose(self, claim: Claim, applicable: Sequence[Verifier]) -> Sequence[Verifier]:
        """Return the cheapest, the two cheapest or all, by the claim's risk."""
        ordered = sorted(applicable, key=_price)
        if claim.risk < LOW:
            return ordered[:1]
        return ordered[:2] if claim.risk < HIGH else ordered


def applicable(claim: Claim, verifiers: Iterable[Verifier]) -> list[Verifier]:
    """Return the verifiers that take claims of this type; `*` takes all."""
    return [each for each in verifiers if {claim.type, "*"} & set(each.claim_types)]


def conclude(claim: Claim, findings: Sequence[Finding]) -> tuple[ClaimVerdict, float, str]:
    """Return what follows from the findings: verdict, confidence and the reason."""
    refuting = [each for each in findings if each.verdict is ClaimVerdict.REFUTED]
    if refuting:
        surest = max(refuting, key=lambda each: each.confidence)
        return ClaimVerdict.REFUTED, surest.confidence, surest.explanation
    supporting = [each for each in findings if each.verdict is ClaimVerdict.SUPPORTED]
    needed = len(findings) // 2 + 1 if claim.risk >= HIGH else 1
    if supporting and len(supporting) >= needed:
        least = min(supporting, key=lambda each: each.confidence)
        return ClaimVerdict.SUPPORTED, least.confidence, least.explanation
    said = next((each.explanation for each in findings if each.explanation), "")
    if supporting:
        said = f"only {len(supporting)} of {len(findings)} verifiers support it: {said}"
    return ClaimVerdict.UNDECIDED, 0.0, said or "no verifier takes it"


def _price(verifier: Verifier) -> tuple[int, int, str]:
    runs = verifier.cost.get("verifier_runs", 0)
    rest = sum(amount for name, amount in verifier.cost.items() if name != "verifier_runs")
    return (rest, runs, verifier.name)
