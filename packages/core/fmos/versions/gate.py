"""The gate in front of a version: what may be proposed, what has passed, and who said otherwise."""

from __future__ import annotations

from fmos.errors import ArgumentError, DeniedError
from fmos.versions.model import Candidate, Evaluation, Status

#: About what nobody decided yet, and about what somebody said no.
OPEN = (Status.CANDIDATE, Status.CANARY)
CLOSED = (Status.REJECTED, Status.REVERTED)


def require_new(known: Candidate | None) -> None:
    """Refuse content that is or was accepted; what was rejected or taken back may come again.

    Raises:
        ArgumentError: saying what to do instead.
    """
    if known is None or known.status in CLOSED:
        return
    if known.status is Status.ACCEPTED:
        raise ArgumentError(f"{known.label} is what is accepted already", hint="nothing changed")
    raise ArgumentError(
        f"{known.label} was accepted before",
        hint=f"serve it again with `fmos versions rollback {known.kind} {known.name} --to"
        f" {known.id[:12]}`",
    )


def without_drift(found: Evaluation, since: Evaluation, first: str) -> Evaluation:
    """Return an evaluation that passed, unless the candidate is worse than the first version."""
    if since.outcome != "regressed":
        return found
    why = f"against {first[:12]}, the first version that was accepted, {since.why}"
    return found.model_copy(update={"outcome": "regressed", "why": why})


def not_passed(candidate: Candidate, accepted: str) -> str:
    """Say why the gate stays shut; empty: an evaluation against what is served now has passed."""
    found = candidate.evaluation
    if found is None:
        return "it was not evaluated on held-out traces"
    if found.base != accepted:
        return "it was evaluated against another version than the one that is accepted now"
    return "" if found.outcome == "passed" else found.why


def require_override(candidate: Candidate, override: str, problem: str) -> None:
    """Refuse to let a candidate through that has a problem, unless a person says why.

    Raises:
        DeniedError: naming the problem and both ways out.
    """
    if override.strip():
        return
    raise DeniedError(
        f"{candidate.label} is not let through: {problem}",
        hint=f"evaluate it: `fmos versions evaluate {candidate.kind} {candidate.name}"
        f" {candidate.id[:12]} --traces FILE`; or give --override with a reason, which is logged",
    )
