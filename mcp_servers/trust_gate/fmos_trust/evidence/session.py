"""The evidence of one session: observes what the user and the tools said, judges calls.

In memory and without a model; `to_json` keeps everything that judging needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmos_trust.evidence import score as scoring
from fmos_trust.evidence.catalogue import Catalogue, Tool, ToolFacts
from fmos_trust.evidence.delegation import Delegation
from fmos_trust.evidence.explain import reasons
from fmos_trust.evidence.features import Features
from fmos_trust.evidence.intent import Request
from fmos_trust.evidence.provenance import Index, Provenance
from fmos_trust.evidence.score import FEATURES, Decision, Weights
from fmos_trust.evidence.sources import LONGEST_TEXT
from fmos_trust.evidence.values import Reader

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks against a call: a score from 0 to 1, what it means, and why."""

    score: float
    decision: Decision
    reasons: tuple[tuple[str, str], ...]
    features: dict[str, float]


_NOTHING = Evidence(0.0, "allow", (), dict.fromkeys(FEATURES, 0.0))


class SessionEvidence:
    """Who asked for a call: the user, or a stranger's text. Not thread-safe."""

    def __init__(self, weights: Weights | None = None) -> None:
        self._weights = weights or scoring.load()
        self._request, self._index = Request(), Index()
        self._events: list[dict[str, Any]] = []
        self._renew()

    @property
    def index(self) -> Index:
        """What tools brought into the session, by value."""
        return self._index

    def observe_user(self, text: str) -> None:
        """Take what the user said; it may imply tools and name targets."""
        text = text[:LONGEST_TEXT]
        self._events.append({"user": text})
        self._request.add(text)
        self._renew()

    def observe_tool(
        self, tool: str, text: str, *, trusted: bool = False, source: str = ""
    ) -> None:
        """Take what a tool gave back.

        Args:
            tool: the tool's name, for explanations.
            text: its output; what is beyond 64 KiB is not looked at.
            trusted: whether no stranger can write into it.
            source: where it was read: the call's path, link or query, in words.
        """
        text = text[:LONGEST_TEXT]
        self._events.append({"tool": tool, "text": text, "trusted": trusted, "source": source})
        self._index.observe(text, tool, source, trusted)
        self._provenance.renew()
        self._features.renew()

    def judge(self, tool: Tool, arguments: Mapping[str, Any], catalogue: Catalogue) -> Evidence:
        """Return the evidence on a call that has not run yet."""
        facts = catalogue.facts(tool)
        if not facts.changes and not _goes_out(facts, arguments):
            return _NOTHING
        given = self._reader.read(facts, arguments)
        features = self._features.of(facts, given)
        score = self._weights.score(features)
        decision = self._weights.decide(score)
        why = () if decision == "allow" else tuple(reasons(facts, given, features))
        return Evidence(score, decision, why, features)

    def implied(self, tool: ToolFacts) -> float:
        """Return from 0 to 1 how much the user's request implies a tool."""
        return self._request.implies(tool)

    def to_json(self) -> dict[str, Any]:
        """Return what was observed, as JSON data."""
        return {"version": _VERSION, "events": [dict(each) for each in self._events]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], weights: Weights | None = None) -> SessionEvidence:
        """Return the session that `to_json` told of.

        Raises:
            ValueError: the data are of another version.
        """
        if data.get("version") != _VERSION:
            raise ValueError(f"evidence of version {data.get('version')!r}, not {_VERSION}")
        session = cls(weights)
        for each in data["events"]:
            if "user" in each:
                session.observe_user(each["user"])
            else:
                session.observe_tool(
                    each["tool"], each["text"], trusted=each["trusted"], source=each["source"]
                )
        return session

    def _renew(self) -> None:
        """Begin anew with what depends on the request."""
        delegation = Delegation(self._request)
        self._provenance = Provenance(self._request, self._index, delegation)
        self._features = Features(self._request, self._index, self._provenance, delegation)
        self._reader = Reader(self._request, self._provenance)


def _goes_out(facts: ToolFacts, arguments: Mapping[str, Any]) -> bool:
    """Return whether a looking tool carries values to an address outside."""
    if not facts.outward:
        return False
    return any(facts.roles.get(name) == "url" and value for name, value in arguments.items())
