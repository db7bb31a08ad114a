"""What differs between two documents, and for each difference whether it lets the agent do more.

A reviewer looks for what became *wider*. A field whose order has no direction is `changed` only.
"""

from __future__ import annotations

from collections.abc import Iterator

from fmos.contract.binding_document import BindingDocument
from fmos.contract.manifest import Manifest
from fmos.contract.model import AgentContract
from fmos.contract.policy import Policy
from fmos.contract.trust_policy import TrustPolicy
from fmos.contract.widening import (
    CONTRACT,
    POLICY,
    UNITS,
    Change,
    Effect,
    Rule,
    alternatives,
    first_number,
    granted,
    leaves,
    quantities,
    ranked,
    text,
)
from fmos.contract.workflow import Workflow
from fmos.errors import ArgumentError
from fmos.ledger.model import RESOURCES
from fmos.types import Record

Comparable = AgentContract | BindingDocument | Workflow | Policy | TrustPolicy | Manifest


class Comparison(Record):
    """All differences of two documents, in the order of their fields."""

    changes: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.changes

    @property
    def wider(self) -> tuple[Change, ...]:
        """What the second document allows and the first did not."""
        return tuple(change for change in self.changes if change.effect == "wider")


def compare(before: Comparable, after: Comparable) -> Comparison:
    """Return what differs. A contract and a manifest are compared by the effective contract.

    Raises:
        ArgumentError: if the documents are of kinds that cannot be compared.
    """
    if isinstance(before, AgentContract | Manifest) and isinstance(after, AgentContract | Manifest):
        changes = _manifests(before, after)
    elif isinstance(before, BindingDocument) and isinstance(after, BindingDocument):
        changes = _bindings(before, after)
    elif isinstance(before, Workflow) and isinstance(after, Workflow):
        changes = _workflows(before, after)
    elif isinstance(before, Policy) and isinstance(after, Policy):
        changes = _policies(before, after)
    elif isinstance(before, TrustPolicy) and isinstance(after, TrustPolicy):
        changes = _trust_policies(before, after)
    else:
        raise ArgumentError(
            f"a {type(before).__name__} and a {type(after).__name__} cannot be compared",
            hint="name two documents of one kind, or a contract and a manifest",
        )
    return Comparison(changes=tuple(changes))


# -- the kinds of documents


def _manifests(
    before: AgentContract | Manifest, after: AgentContract | Manifest
) -> Iterator[Change]:
    contracts = [each.effective if isinstance(each, Manifest) else each for each in (before, after)]
    if isinstance(before, Manifest) and isinstance(after, Manifest):
        yield from ranked("mode", before.mode, after.mode)
        old, new = dict(before.chosen), dict(after.chosen)
        for dimension in dict.fromkeys([*old, *new]):
            if dimension != "capabilities":  # the contract below has them one by one
                yield from text(f"chosen.{dimension}", old.get(dimension), new.get(dimension))
    yield from _contracts(contracts[0], contracts[1])
    if isinstance(before, Manifest) and isinstance(after, Manifest):
        own = {*RESOURCES, "max_context_tokens"}
        pairs = [
            {name: n for name, n in each.limits.items() if name not in own}
            for each in (before, after)
        ]
        yield from leaves({"limits": pairs[0]}, {"limits": pairs[1]}, {})


def _contracts(before: AgentContract, after: AgentContract) -> Iterator[Change]:
    dumps = [each.model_dump(mode="json", by_alias=True) for each in (before, after)]
    yield from leaves(dumps[0], dumps[1], CONTRACT)


def _policies(before: Policy, after: Policy) -> Iterator[Change]:
    dumps = [each.model_dump(mode="json", by_alias=True) for each in (before, after)]
    yield from leaves(dumps[0], dumps[1], POLICY)


def _trust_policies(before: TrustPolicy, after: TrustPolicy) -> Iterator[Change]:
    """Tell the rules apart by their ids; which of two is wider is for `fmos policy test`."""
    dumps = [each.model_dump(mode="json", by_alias=True) for each in (before, after)]
    for dump in dumps:
        dump["rules"] = {rule.pop("id"): rule for rule in dump["rules"]}
    yield from leaves(dumps[0], dumps[1], {})


def _bindings(before: BindingDocument, after: BindingDocument) -> Iterator[Change]:
    yield from text("agent", before.agent, after.agent)
    dumps = [each.class_.model_dump(mode="json") for each in (before, after)]
    yield from leaves({"class": dumps[0]}, {"class": dumps[1]}, {})
    for dimension in dict.fromkeys([*before.must, *after.must]):
        rule = _must_rule(dimension)
        yield from rule(f"must.{dimension}", before.must.get(dimension), after.must.get(dimension))
    for dimension in dict.fromkeys([*before.prefer, *after.prefer]):
        rule = granted if dimension in ("capabilities", "tools") else text
        old, new = before.prefer.get(dimension), after.prefer.get(dimension)
        yield from rule(f"prefer.{dimension}", old, new)
    yield from granted("allow_fallbacks", _fallbacks(before), _fallbacks(after))


def _fallbacks(document: BindingDocument) -> list[str]:
    return [
        f"when {each.when}: " + ", ".join(f"{k} {v}" for k, v in each.substitute.items())
        for each in document.allow_fallbacks
    ]


def _must_rule(dimension: str) -> Rule:
    if dimension in ("capabilities", "tools"):
        return granted
    if dimension in RESOURCES or dimension == "max_context_tokens":
        return first_number
    return quantities if dimension in UNITS else alternatives


def _workflows(before: Workflow, after: Workflow) -> Iterator[Change]:
    yield from text("workflow", before.workflow, after.workflow)
    old, new = ({step.id: step for step in each.steps} for each in (before, after))
    for name in dict.fromkeys([*old, *new]):
        field = f"steps.{name}"
        if name not in new:
            gate = old[name].needs_person
            said = "a person's approval was removed" if gate else "removed"
            yield Change(field=field, effect="wider" if gate else "narrower", said=said)
        elif name not in old:
            gate = new[name].needs_person
            said = "a person's approval was added" if gate else "added"
            yield Change(field=field, effect="narrower" if gate else "wider", said=said)
        else:
            yield from _steps(field, before, after, name)
    kept = [
        [step.id for step in each.steps if step.id in old and step.id in new]
        for each in (before, after)
    ]
    if kept[0] != kept[1]:
        yield from text("order of the steps", kept[0], kept[1])


def _steps(field: str, before: Workflow, after: Workflow, name: str) -> Iterator[Change]:
    old, new = before.step(name), after.step(name)
    if old.needs_person != new.needs_person:
        effect: Effect = "wider" if old.needs_person else "narrower"
        yield Change(field=f"{field}.type", effect=effect, said=f"{old.type} -> {new.type}")
    yield from ranked(f"{field}.bind", old.bind, new.bind)
    for change in _contracts(before.contract_for(name), after.contract_for(name)):
        yield change.model_copy(update={"field": f"{field}.{change.field}"})
    for port in ("in_", "out"):
        yield from text(f"{field}.{port.rstrip('_')}", getattr(old, port), getattr(new, port))
