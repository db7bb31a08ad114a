"""What the gate asks of provenance: take what enters, look at it, judge by it, explain it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fmos.entered.log import Entry
from fmos.runtime.kernel import Kernel
from fmos.runtime.standing import Standing
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Observation, Outcome, Principal, Verdict
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding
from fmos_trust.keyed import KeyedHash
from fmos_trust.provenance.explain import Explanations
from fmos_trust.provenance.intake import Intake
from fmos_trust.provenance.judge import ProvenanceJudge
from fmos_trust.provenance.sessions import Sessions
from fmos_trust.provenance.view import Catalogues, SessionView

#: What a recording calls what entered a session by no call of its own.
PREMISE = "trust.entered"

_KEPT = 1024


class Provenance:
    """The provenance of one gate. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self.explanations = Explanations(kernel)
        self.intake = Intake(kernel)
        self._kernel = kernel
        self._sessions = Sessions(kernel)
        self._catalogues = Catalogues()
        self._others: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}
        mode = kernel.settings.trust.evidence
        self._off = mode == "off"
        self._judge = ProvenanceJudge(mode)

    def view(
        self, standing: Standing, tools: Mapping[str, ToolDescriptor], keyed: KeyedHash
    ) -> SessionView:
        """Return how a session sees the calls of its agent; nothing is read until it is asked."""
        return SessionView(
            lambda: self._sessions.of(standing.principal, standing.lineage),
            lambda: self._catalogues.of(tools),
            keyed,
        )

    def family(self, standing: Standing) -> tuple[str, ...]:
        """Return the agents whose secrets an agent has: its line, and what was merged into it."""
        who, links = standing.principal, self._kernel.entered.revision()[1]
        known = self._others.get((who.tenant, who.agent_key))
        if known is None or known[0] != links:
            if len(self._others) >= _KEPT:
                self._others.clear()
            known = (links, tuple(self._kernel.entered.others(who)))
            self._others[who.tenant, who.agent_key] = known
        return (*standing.lineage, *known[1]) if known[1] else standing.lineage

    def note_premise(self, standing: Standing) -> None:
        """Tell the recording of a session what entered it by no call of its own."""
        who = standing.principal
        if self._off or not self._kernel.recordings.begin(who):
            return
        foreign = self._sessions.of(who, standing.lineage).foreign
        if foreign:
            self._kernel.recordings.premise(
                who, PREMISE, foreign, lambda: [each.as_json() for each in foreign]
            )

    def restore(self, who: Principal, entries: list[dict[str, Any]]) -> None:
        """Let enter again what a recording says had entered a session by no call of its own."""
        self._kernel.entered.add(who, [Entry.from_json(each) for each in entries])

    def trapped(self, tools: Mapping[str, ToolDescriptor]) -> frozenset[str]:
        """Return the tools that must trap for what they carry outside; the judge looks at it."""
        return frozenset() if self._off else self._catalogues.outward(tools)

    def judge(self, facts: Facts) -> Iterator[Finding]:
        """Find what the session has against a call."""
        yield from self._judge.judge(facts)

    def decided(self, facts: Facts, verdict: Verdict) -> None:
        """Remember a call that may run, and why one may not."""
        self.explanations.keep(facts, verdict)
        if verdict.allowed or verdict.approval:
            self.intake.began(facts.operation, facts.descriptor, facts.effect)

    def observed(self, who: Principal, observation: Observation, *, secret: bool) -> None:
        """Take what entered a session."""
        self.intake.observed(who, observation, secret=secret)
        # Read now what was written: the next check need not.
        self._sessions.of(who, self._kernel.agents.lineage(who))

    def ended(self, who: Principal, outcome: Outcome) -> None:
        """Label what a call has written."""
        self.intake.ended(who, outcome)

    def expire(self) -> None:
        """Let go of texts and explanations whose time is over."""
        self._kernel.entered.expire(self.intake.digests)
        self.explanations.expire()
