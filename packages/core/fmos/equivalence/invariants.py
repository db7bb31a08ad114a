"""What a contract promises, checked on one run: budgets, provenance, policy and memory."""

from __future__ import annotations

from collections.abc import Iterator

from fmos.contract.conformity import Happening, breaches
from fmos.contract.manifest import Manifest
from fmos.equivalence.model import Broken
from fmos.equivalence.running import Row, Run


def broken(run: Run, own: Manifest, shared: Manifest) -> tuple[Broken, ...]:
    """Return where a run did not keep the contract.

    `own` is the manifest of the run's own documents, which its verdicts must name; `shared` is the
    contract under which both runs are judged: the second may be narrower, and must not be wider.
    """
    found = [*_conformity(run, own, shared), *_spending(run), *_provenance(run, own)]
    found += [*_policy(run), *_memory(run)]
    return tuple(dict.fromkeys(found))


def _conformity(run: Run, own: Manifest, shared: Manifest) -> Iterator[Broken]:
    needs = {tool.name: tool.capability for tool in run.realisation.tools}
    happened = [each for _, each in run.happened]
    index_of = {each.operation.id: index for index, each in run.happened}
    for breach in breaches(own, happened, needs):
        if breach.rule.startswith("provenance."):
            yield _broken(run, breach.rule, index_of.get(breach.operation), breach.message)
    for breach in breaches(shared, happened, needs):
        if not breach.rule.startswith("provenance."):
            yield _broken(run, breach.rule, index_of.get(breach.operation), breach.message)


def _spending(run: Run) -> Iterator[Broken]:
    """No account above its limit, nothing still held, and every account has what was used."""
    for each in run.balances:
        if each.limit is not None and each.spent + each.reserved > each.limit:
            message = f"{each.account} spent {each.spent} {each.resource} of {each.limit}"
            yield _broken(run, "budget.limit", None, message)
        if each.window != "total":
            continue
        if each.reserved:
            message = f"{each.account} still holds {each.reserved} {each.resource}"
            yield _broken(run, "budget.held", None, message)
        used = run.used.get(each.resource, 0)
        if each.resource in ("tokens", "tool_calls", "memory_writes") and each.spent != used:
            message = f"{each.account} says {each.spent} {each.resource}, used were {used}"
            yield _broken(run, "budget.committed", None, message)
    booked = {each.resource for each in run.balances}
    for resource, used in run.used.items():
        if used and resource not in booked:
            yield _broken(run, "budget.committed", None, f"no account has the {used} {resource}")


def _provenance(run: Run, own: Manifest) -> Iterator[Broken]:
    """Each operation has its intent with the policy's hash, before its outcome."""
    if not run.chain_ok:
        yield _broken(run, "provenance.chain", None, "the journal's hash chain is broken")
    intents, outcomes = _first(run, "op.intent"), _first(run, "op.outcome")
    for index, happening in run.happened:
        intent = intents.get(happening.operation.id)
        if intent is None:
            message = f"{happening.operation.id} has no intent row"
            yield _broken(run, "provenance.intent", index, message)
            continue
        outcome = outcomes.get(happening.operation.id)
        for rule, message in _rows(happening, intent, outcome, own):
            yield _broken(run, rule, index, message)
    for each in run.remembered:
        if each.got is not None and each.got.get("source") != each.source:
            message = f"a memory says source {each.got.get('source')!r}, it was {each.source!r}"
            yield _broken(run, "provenance.memory", each.index, message)


def _rows(
    happening: Happening, intent: tuple[int, Row], outcome: tuple[int, Row] | None, own: Manifest
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong in the two rows of one operation: rule and message."""
    at, row = intent
    decision = happening.verdict.decision.value
    if row.detail.get("decision") != decision:
        yield "provenance.decision", f"the row says {row.detail.get('decision')}, not {decision}"
    if row.detail.get("policy") != own.hash:
        yield "provenance.policy", "the row does not name the policy"
    if happening.outcome is not None and outcome is None:
        yield "provenance.outcome", f"{happening.operation.id} has no outcome row"
    if outcome is not None and outcome[0] < at:
        yield "provenance.order", "the outcome is before the intent"


def _policy(run: Run) -> Iterator[Broken]:
    """What was refused has no effect; what was approved, a person approved before."""
    for path, operation in run.refused.items():
        if run.files.get(path) != run.expected.get(path):
            index = int(operation.removeprefix("op"))
            yield _broken(run, "policy.effect", index, f"{path} changed although it was refused")
    for index, text, found in run.unwritten:
        known = any(each.text == text for each in run.remembered)
        if found and not known:
            yield _broken(run, "policy.effect", index, "a refused memory is found")
    approved = {
        row.operation: at
        for at, row in enumerate(run.rows)
        if row.kind == "approval.decide" and row.detail.get("state") == "approved"
    }
    intents = _first(run, "op.intent")
    for index, (operation, verdict, _) in run.happened:
        if not (verdict.allowed and verdict.approval):
            continue
        at = intents.get(operation.id, (0, None))[0]
        if approved.get(verdict.approval, len(run.rows)) > at:
            yield _broken(run, "policy.consent", index, "nobody approved it before it ran")


def _memory(run: Run) -> Iterator[Broken]:
    """What was written is there, and found; files are as the last allowed call left them."""
    for each in run.remembered:
        if each.got is None or each.got.get("text") != each.text:
            yield _broken(run, "memory.lost", each.index, "a memory is not there as written")
        elif not each.found and any(char.isalnum() for char in each.text):
            yield _broken(run, "memory.found", each.index, "a search does not find a memory")
    for path in sorted({*run.files, *run.expected} - run.refused.keys()):
        if run.files.get(path) != run.expected.get(path):
            message = f"{path} is not what was written last"
            yield _broken(run, "memory.file", run.touched.get(path), message)


def _first(run: Run, kind: str) -> dict[str, tuple[int, Row]]:
    found: dict[str, tuple[int, Row]] = {}
    for at, row in enumerate(run.rows):
        if row.kind == kind:
            found.setdefault(row.operation, (at, row))
    return found


def _broken(run: Run, rule: str, index: int | None, message: str) -> Broken:
    return Broken(where=run.realisation.name, rule=rule, index=index, message=message)
