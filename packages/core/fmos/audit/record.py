"""Writes an operation's intent and outcome to its tenant's journal, and checks the journal.

Arguments and error texts never enter the journal: only keyed digests of them do, so that what
is kept for ever holds no secret and digests mean nothing without the home's key.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypedDict

from fmos import telemetry
from fmos.audit.keys import AuditKeys
from fmos.canonical import canonical_json
from fmos.redaction import redacted
from fmos.replay.recording import Call
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Outcome, Principal, Verdict

INTENT = "op.intent"
OUTCOME = "op.outcome"

#: What the names of errors end with; another word could be anything, also a password.
_ERROR_NAME = re.compile(
    r"[A-Za-z_][A-Za-z0-9_.]{0,63}?(?:Error|Exception|Warning|Interrupt|Exit|Timeout|Cancelled)"
    r"(?=:|$)|Cancelled(?=:|$)|Timeout(?=:|$)"
)


class Verification(TypedDict):
    """What checking a tenant's journal found."""

    ok: bool
    rows: int
    first_bad: int | None
    head: str


def record_intent(
    kernel: Kernel,
    operation: Operation,
    verdict: Verdict,
    *,
    synced: bool = False,
    call: Call | None = None,
) -> int:
    """Note what is asked and what was decided, before the effect; return the row's number.

    The row survives a killed process; with `synced` it has survived a power cut as well before
    this returns. `call` is kept beside it where the session is recorded.
    """
    with telemetry.operation(operation, verdict) as span:
        detail = {
            "id": operation.id,
            "kind": operation.kind.value,
            "name": shown_name(operation.name),
            "arguments": arguments_digest(
                kernel.keys_of(operation.principal.tenant), operation.arguments
            ),
            "labels": [shown_name(label) for label in operation.labels],
            "parent": operation.parent,
            "trace": span.trace,
            "span": span.span,
            "decision": verdict.decision.value,
            "reasons": [reason.code for reason in verdict.reasons],
            "rules": [shown_name(reason.rule) for reason in verdict.reasons],
            "approval": verdict.approval,
            "reservation": verdict.reservation,
            "policy": verdict.policy,
            "signals": list(verdict.signals),
            "process": kernel.process,
        }
        seq = kernel.record(operation.principal, INTENT, detail, synced=synced, call=call)
        span.noted(seq)
    return seq


def record_outcome(
    kernel: Kernel, principal: Principal, outcome: Outcome, *, call: Call | None = None
) -> int:
    """Note how an operation ended, after the effect; return the row's number."""
    detail: dict[str, Any] = {
        "id": outcome.operation,
        "status": outcome.status.value,
        "duration_ms": outcome.duration_ms,
        "usage": outcome.usage,
    }
    if outcome.error:
        name = _ERROR_NAME.match(outcome.error)
        detail["error"] = name.group() if name else ""
        detail["error_digest"] = kernel.keys_of(principal.tenant).digest(
            outcome.error.encode("utf-8", "replace")
        )
    return kernel.record(principal, OUTCOME, detail, call=call)


@lru_cache(maxsize=4096)
def shown_name(text: str) -> str:
    """Return a name or label as the journal keeps it: without what looks like a secret."""
    return redacted(text)


def arguments_digest(keys: AuditKeys, arguments: dict[str, Any]) -> str:
    """Return the keyed digest of an operation's arguments; their order does not matter."""
    return keys.digest(canonical_json(arguments))


def verify(kernel: Kernel, tenant: str) -> Verification:
    """Recompute the hash chain of a tenant's journal.

    A chain shows that rows inside it were changed or removed. Rows cut off its end, or a whole
    history written anew, show only against a head that was kept elsewhere.
    """
    check = kernel.volume(tenant).verify_journal()
    return Verification(
        ok=check.ok, rows=check.rows, first_bad=check.first_bad_seq, head=check.head_hash.hex()
    )
