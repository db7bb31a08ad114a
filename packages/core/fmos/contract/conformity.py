"""Whether a run kept its contract, and whether two realisations of FMOS ran alike under it.

Two runs of the same operations are equivalent under a contract when both keep it (budgets, scope,
provenance) and each decides, does and leaves behind the same; times, ids and prices may differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from fmos.canonical import content_digest
from fmos.contract.manifest import Manifest
from fmos.ledger.model import RESOURCES
from fmos.types import Operation, OperationKind, Outcome, OutcomeStatus, Verdict


class Happening(NamedTuple):
    """One operation of a run: what was asked, what was answered, how it ended (None: not told)."""

    operation: Operation
    verdict: Verdict
    outcome: Outcome | None = None


class Breach(NamedTuple):
    """One way in which a run did not keep its contract, or differed from another."""

    rule: str
    operation: str
    message: str


def breaches(
    manifest: Manifest, run: Sequence[Happening], capabilities: Mapping[str, str] | None = None
) -> tuple[Breach, ...]:
    """Return where a run did not keep the manifest; `capabilities` maps a tool to what it needs."""
    known = capabilities or {}
    found = [*_provenance(manifest, run), *_budgets(manifest, run)]
    for each in run:
        found += _scope(manifest, each, known)
    return tuple(found)


def differences(first: Sequence[Happening], second: Sequence[Happening]) -> tuple[Breach, ...]:
    """Return where two runs of the same operations did not decide and end alike, in order."""
    found: list[Breach] = []
    if len(first) != len(second):
        message = f"{len(first)} operations here, {len(second)} there"
        found.append(Breach("equivalence.length", "", message))
    for one, other in zip(first, second, strict=False):
        here, there = _essence(one), _essence(other)
        for what, value in here.items():
            if value != there[what]:
                message = f"{what}: {value} here, {there[what]} there"
                found.append(Breach("equivalence." + what, one.operation.id, message))
    return tuple(found)


def _essence(each: Happening) -> dict[str, str]:
    """What must be the same in every realisation; the effect on memory is in the arguments."""
    operation, verdict, outcome = each
    arguments = operation.arguments if verdict.arguments is None else verdict.arguments
    return {
        "kind": operation.kind.value,
        "name": operation.name,
        "arguments": content_digest(arguments)[:12],
        "decision": verdict.decision.value,
        "reasons": ", ".join(sorted(reason.code for reason in verdict.reasons)),
        "policy": verdict.policy[:12],
        "status": outcome.status.value if outcome else "not told",
    }


def _provenance(manifest: Manifest, run: Sequence[Happening]) -> Iterator[Breach]:
    """Every verdict names its operation and the manifest; what was allowed has an outcome."""
    seen: set[str] = set()
    for operation, verdict, outcome in run:
        if verdict.operation != operation.id or (outcome and outcome.operation != operation.id):
            yield Breach("provenance.operation", operation.id, "answered for another operation")
        if verdict.policy != manifest.hash:
            said = verdict.policy[:12] or "none"
            yield Breach("provenance.policy", operation.id, f"decided under {said}")
        if operation.parent is not None and operation.parent not in seen:
            yield Breach("provenance.parent", operation.id, "its cause is not in the run before it")
        if verdict.allowed and outcome is None:
            yield Breach("provenance.outcome", operation.id, "allowed, and its end was not told")
        if not verdict.allowed and outcome and outcome.status is OutcomeStatus.OK:
            yield Breach("policy.bypassed", operation.id, "not allowed, and it ran")
        seen.add(operation.id)


def _budgets(manifest: Manifest, run: Iterable[Happening]) -> Iterator[Breach]:
    """No session used more than its limits."""
    used: dict[str, Counter[str]] = {}
    for operation, _, outcome in run:
        spent = used.setdefault(operation.principal.session, Counter())
        spent.update(outcome.usage if outcome else {})
        for resource in RESOURCES:
            limit = manifest.limits.get(resource)
            if limit is not None and spent[resource] > limit:
                message = f"{spent[resource]} {resource} used of {limit}"
                yield Breach("budget." + resource, operation.id, message)


def _scope(manifest: Manifest, each: Happening, known: Mapping[str, str]) -> Iterator[Breach]:
    """What was allowed was granted, and a person was asked where the contract says so."""
    operation, verdict, _ = each
    contract = manifest.effective
    if not verdict.allowed:
        return
    if operation.kind is OperationKind.MODEL_GENERATE:
        if not contract.modelPolicy.allows(operation.name):
            yield Breach("policy.model", operation.id, f"the model {operation.name} is not allowed")
    elif operation.kind is OperationKind.TOOL_CALL:
        needs = known.get(operation.name, operation.name)
        if not contract.grants(needs):
            yield Breach("policy.capability", operation.id, f"{needs} is not granted")
        if contract.needs_consent(operation.name, needs) and verdict.approval is None:
            yield Breach("policy.consent", operation.id, f"{needs} ran without a person's consent")
