"""The judge of who asked for a call: the user, or a text that a stranger could write.

Stops nothing for lack of evidence: without a word of the user in the session, only what a
stranger's text asks for is asked about; and a call whose effect stays in the agent's own files is
stopped only where such a text asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fmos.types import Reason
from fmos_trust.evidence.normal import atoms, plain
from fmos_trust.evidence.session import Evidence
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding, FindingEffect
from fmos_trust.secrets import masked

Mode = Literal["enforce", "shadow", "off"]

RULE = "provenance"
#: Prefix of the codes of its reasons.
CODE = "trust.evidence."

_MOST_REASONS = 4
#: From so much of a feature on, a stranger's text asks for the call.
_ORDERED = 0.3
_INSIDE_ROLES = frozenset({"path", "body", "command"})
_ORDER_CODES = frozenset({f"{CODE}order", f"{CODE}ordered"})
_CHANGE = {
    f"{CODE}unasked": "the user asks for it in their own words",
    f"{CODE}ordered": "the user asks for it in their own words, naming whom it is for",
    f"{CODE}content": "the text is sent without the link or address, or the user names it",
    f"{CODE}leak": "the user names the target, or the values are left out",
}
_NAMED = "the user names the value in their own words"


class ProvenanceJudge:
    """Turns the evidence on a call into findings, as `[trust] evidence` says."""

    def __init__(self, mode: Mode) -> None:
        self._mode: Mode = mode

    def judge(self, facts: Facts) -> Iterator[Finding]:
        """Find what the evidence has against a call."""
        if self._mode == "off" or facts.seen is None:
            return
        evidence = facts.evidence
        effect = decided(facts, evidence) if evidence is not None else None
        if effect is None or evidence is None:
            return
        unread = [_unread()] if facts.seen.seen.unreadable else []
        reasons = unread + [
            _reason(code, said, facts) for code, said in evidence.reasons[:_MOST_REASONS]
        ]
        if self._mode == "shadow":
            reasons = [
                each.model_copy(update={"message": f"would be {effect}: {each.message}"})
                for each in reasons
            ]
            effect = "note"
        for reason in reasons or [_scored(evidence)]:
            yield Finding(effect, reason)


def decided(facts: Facts, evidence: Evidence) -> FindingEffect | None:
    """Return what the evidence comes to; None where it has nothing against the call."""
    if evidence.decision == "allow":
        outside = facts.effect != "read" and not _stays_inside(facts)
        return "ask" if outside and facts.seen and facts.seen.seen.unreadable else None
    features, codes = evidence.features, {code for code, _ in evidence.reasons}
    ordered = bool(codes & _ORDER_CODES) or features["ordered"] >= _ORDERED
    if facts.seen is not None and not facts.seen.seen.has_user:
        return "ask" if ordered else None
    if _stays_inside(facts):
        asked_for = ordered or features["prompted"] >= _ORDERED or features["content"] >= _ORDERED
        return evidence.decision if asked_for or _calls_strangers(facts) else None
    return evidence.decision


def _stays_inside(facts: Facts) -> bool:
    """Return whether a call changes the agent's own files only, as far as it was declared."""
    roles = set(facts.roles.values())
    return facts.effect in ("write", "execute") and bool(roles) and roles <= _INSIDE_ROLES


def _calls_strangers(facts: Facts) -> bool:
    """Return whether a command names an address that only stands in a stranger's prose."""
    view = facts.seen
    if view is None:
        return False
    named = (atom for text in facts.texts("command") for atom in atoms(plain(text))[:32])
    return any(view.came_from(atom) <= {"text", "agent"} for atom in named)


def _reason(code: str, said: str, facts: Facts) -> Reason:
    message = masked(said, facts.secrets, facts.keyed)
    change = _CHANGE.get(code, _NAMED)
    layer = "selection" if code == f"{CODE}unasked" else "execution"
    return Reason(code=code, message=message, rule=RULE, layer=layer, change=change)


def _unread() -> Reason:
    message = "a text that entered the session could not be read, so nobody knows who asked for it"
    return Reason(
        code=f"{CODE}unreadable", message=message, rule=RULE, layer="input", change="a new session"
    )


def _scored(evidence: Evidence) -> Reason:
    message = f"too little of it comes from the user (score {evidence.score:.2f})"
    return Reason(code=f"{CODE}score", message=message, rule=RULE, layer="execution", change=_NAMED)
