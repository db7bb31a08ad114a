"""What a contract is kept within: the `must` of a layer, or the whole contract of a parent."""

from __future__ import annotations

from dataclasses import dataclass

from fmos.contract.model import (
    AgentContract,
    Budgets,
    Compute,
    Latency,
    Names,
    Scopes,
)
from fmos.contract.policy import Policy

#: The strongest class first: what may be HRT may be weaker too.
CLASSES = (Latency.HRT, Latency.SRT, Latency.DT)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits that come from one place; `models`, paths and recipients are lists that all count."""

    label: str
    capabilities: Names | None
    deny: Names
    consent_for: Names
    sync_for: Names
    models: Scopes
    max_context_tokens: int | None
    read: Scopes
    write: Scopes
    recipients: Scopes
    budgets: Budgets
    compute: Compute
    retention_days: int | None
    require_grounding: bool
    latency: tuple[Latency, ...]
    tracing: str
    log_fields: Names
    never_log: Names = ()
    namespace: str = ""


def of_policy(policy: Policy) -> Bounds:
    """Return what a layer's `must` keeps every contract within."""
    must = policy.must
    return Bounds(
        label=policy.label,
        capabilities=must.capabilities,
        deny=must.deny,
        consent_for=must.consent_for,
        sync_for=must.sync_for,
        models=_one(must.models),
        max_context_tokens=must.max_context_tokens,
        read=_one(must.paths.read),
        write=_one(must.paths.write),
        recipients=_one(must.recipients),
        budgets=must.budgets,
        compute=must.compute,
        retention_days=must.retention_days,
        require_grounding=must.require_grounding,
        latency=CLASSES if must.latency is None else must.latency,
        tracing=must.tracing,
        log_fields=must.log_fields,
        never_log=must.never_log,
    )


def of_parent(parent: AgentContract) -> Bounds:
    """Return what a delegating agent's contract keeps those it delegates to within."""
    security, memory = parent.security, parent.memory
    return Bounds(
        label=f"parent {parent.name}",
        capabilities=parent.capabilities,
        deny=security.deny,
        consent_for=security.consent_for,
        sync_for=security.sync_for,
        models=parent.modelPolicy.lists(),
        max_context_tokens=parent.modelPolicy.max_context_tokens,
        read=security.read_scopes(),
        write=security.write_scopes(),
        recipients=security.recipient_scopes(),
        budgets=parent.budgets,
        compute=parent.compute,
        retention_days=memory.retention_days,
        require_grounding=memory.rag.require_grounding,
        latency=CLASSES[CLASSES.index(parent.class_.latency) :],
        tracing=parent.observability.tracing,
        log_fields=parent.observability.log_fields,
        namespace=memory.namespace,
    )


def scopes_within(own: Scopes, added: Scopes, everything: str) -> tuple[Names, Scopes]:
    """Return a first list and the others, one of which cannot be left out, in a fixed order.

    Something is in scope if every list has it. `own[0]` stays first unless it limits nothing.
    """
    others = sorted({scope for scope in (*own[1:], *added) if everything not in scope})
    first = own[0] if own else (everything,)
    if everything in first and others:
        first = others[0]
    return first, tuple(scope for scope in others if scope != first)


def _one(names: Names | None) -> Scopes:
    return () if names is None else (names,)
