"""What each field of a contract is worth today: which part of FMOS enforces it, if any does.

Lint warns about a declared field without an entry, so that nobody relies on a promise that is only
parsed. Whoever builds the enforcement changes the entry.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

#: Field, or the fields below it, to what enforces it; None: nothing yet.
_ENFORCED_BY: dict[str, str | None] = {
    "class": "admission, when the contract is bound",
    "class.slo.onset_ms": None,
    "class.slo.turn_ms": None,
    "class.slo.jitter_p95_pct": None,
    "role": "the layers of policies",
    "capabilities": "the trust gate",
    "compute": None,
    "modelPolicy.allow": "the reasoning budget",
    "modelPolicy.prefer": "binding",
    "modelPolicy.max_context_tokens": "the context policy",
    "memory.namespace": None,
    "memory.retention_days": None,
    "memory.rag": None,
    "security": "the trust gate",
    "observability": None,
    "budgets": "the ledger",
    "budgets.risk": None,
    "budgets.verifier_runs": None,
    "budgets.wall_seconds": "the trust gate, between calls",
}

#: Where a policy's field stands in a contract.
_IN_CONTRACT = {
    "must.deny": "security.deny",
    "must.models": "modelPolicy.allow",
    "must.max_context_tokens": "modelPolicy.max_context_tokens",
    "must.consent_for": "security.consent_for",
    "must.paths": "security.paths",
    "must.recipients": "security.recipients",
    "must.retention_days": "memory.retention_days",
    "must.require_grounding": "memory.rag",
    "must.latency": "class",
    "must.tracing": "observability",
    "must.log_fields": "observability",
    "must.never_log": "observability",
    "prefer.models": "modelPolicy.prefer",
    "prefer.max_context_tokens": "modelPolicy.max_context_tokens",
    "prefer.namespace": "memory.namespace",
    "prefer.retention_days": "memory.retention_days",
    "prefer.rag": "memory.rag",
    "prefer.tracing": "observability",
    "prefer.log_fields": "observability",
}


def enforced_by(field: str) -> str | None:
    """Return what enforces a field of a contract or policy, such as `the ledger`; else None."""
    name = field
    for written, meant in _IN_CONTRACT.items():
        if field == written or field.startswith(f"{written}."):
            name = meant
    parts = name.removeprefix("must.").removeprefix("prefer.").split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in _ENFORCED_BY:
            return _ENFORCED_BY[prefix]
    return "its reader"


def declared(record: BaseModel) -> Iterator[tuple[str, ...]]:
    """Yield the path of every field that a document sets, by the document's names."""
    for name, info in type(record).model_fields.items():
        if name not in record.model_fields_set:
            continue
        value = getattr(record, name)
        path = (info.alias or name,)
        if isinstance(value, BaseModel):
            yield from (path + below for below in declared(value))
        elif value not in (None, "", ()):
            yield path
