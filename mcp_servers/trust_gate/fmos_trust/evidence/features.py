"""The features of a call: a few numbers from 0 to 1, each of which only ever speaks against it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from fmos_trust.evidence.catalogue import SAID, TARGETS, TERMS, ToolFacts
from fmos_trust.evidence.delegation import Delegation
from fmos_trust.evidence.intent import Request, Saying, implied, match, saying
from fmos_trust.evidence.normal import atoms, canonical, dates, plain, words
from fmos_trust.evidence.provenance import Index, Provenance
from fmos_trust.evidence.values import Given
from fmos_trust.evidence.words import STOP, stem

#: How much of a call a value is.
_OF_TARGET, _OF_TERM, _OF_WORDS, _AT_LEAST = 3.0, 2.0, 1.0, 1.0
#: What an order counts in a passage that the request hands over.
_HANDED = 0.3
_GRANTED_INTENT = 0.9
_MOST_WORDS = 200
_MOST_ATOMS = 32
_LEAKS = 2
#: How much a link or an address in what is said speaks against it, by where it came from.
_CONTENT = {"order": 1.0, "text": 0.6, "near": 0.6}
_NOT_STRANGE = ("user", "trusted", "linked")


class Features:
    """Measures the calls of one session."""

    def __init__(
        self, request: Request, index: Index, provenance: Provenance, delegation: Delegation
    ) -> None:
        self._request, self._index = request, index
        self._provenance, self._delegation = provenance, delegation
        self._prompted: dict[str, tuple[int, float]] = {}
        self._granted: dict[str, float] = {}

    def renew(self) -> None:
        """Forget what was found out about grants: there is more to look at."""
        self._granted.clear()

    def of(self, tool: ToolFacts, given: Sequence[Given]) -> dict[str, float]:
        """Return the features of a call."""
        asked = self._asked(tool)
        target = _worst(given, TARGETS)
        unasked = (1.0 - asked) ** 2 if tool.changes else 0.0
        return {
            "unasked": unasked,
            "target": target,
            "terms": _worst(given, TERMS),
            "ordered": self._ordered(given),
            "prompted": max(0.0, self._prompts(tool) - asked) if tool.changes else 0.0,
            "content": self._content(tool, given),
            "leak": self._leak(given) * max(target, unasked),
            "destructive": unasked if tool.destructive else 0.0,
        }

    def _asked(self, tool: ToolFacts) -> float:
        """Return how much the user, or what the user handed over to, implies a tool."""
        found = self._request.implies(tool)
        if not self._delegation.any_tool:
            return found
        granted = self._granted.get(tool.name)
        if granted is None:
            granted = max((implied(said, tool) for said in self._handed_over()), default=0.0)
            self._granted[tool.name] = granted = granted * _GRANTED_INTENT
        return max(found, granted)

    def _handed_over(self) -> list[list[Saying]]:
        passages = map(self._index.passages.__getitem__, self._provenance.granted())
        return [
            [saying(line) for line in each.text.split("\n")]
            for each in passages
            if self._provenance.grant(each) >= 1.0
        ]

    def _prompts(self, tool: ToolFacts) -> float:
        """Return how much a stranger's order implies a tool."""
        seen, best = self._prompted.get(tool.name, (0, 0.0))
        for order in self._index.suspects[seen:]:
            weight = _HANDED if self._provenance.grant(order) else 1.0
            for strength, _, sentence in order.orders:
                sure = weight * math.sqrt(strength)
                if sure > best:
                    best = max(best, sure * match(saying(sentence), tool).both)
        self._prompted[tool.name] = (len(self._index.suspects), best)
        return best

    def _ordered(self, given: Sequence[Given]) -> float:
        """Return the largest share of a call that one text or record explains and nobody else."""
        copied, suspected = self._copied(given), self._index.suspected
        if not suspected:
            return copied
        unsaid = [
            (each, _OF_TARGET if each.role in TARGETS else _OF_TERM)
            for each in given
            if each.role not in SAID and each.origin.kind not in _NOT_STRANGE
        ]
        said = self._said(given)
        found: dict[int, float] = {}
        for each, weight in unsaid:
            for at in self._naming(each):
                found[at] = found.get(at, 0.0) + weight
        for one in said:
            for at in suspected.get(one, ()):
                found[at] = found.get(at, 0.0) + _OF_WORDS / len(said)
        total = sum(weight for _, weight in unsaid) + _AT_LEAST + _OF_WORDS * bool(said)
        shares = (self._weight(at) * share / total for at, share in found.items())
        return max(copied, *shares) if found else copied

    def _copied(self, given: Sequence[Given]) -> float:
        """Return the share of a call that is copied from one record nobody spoke of."""
        found: dict[int, int] = {}
        for each in given:
            if each.origin.kind != "user" and each.value:
                for record in set(self._provenance.unlinked(each.value)):
                    found[record] = found.get(record, 0) + 1
        most = max(found.values(), default=0)
        return most / len(given) if most > 1 else 0.0

    def _said(self, given: Sequence[Given]) -> set[str]:
        """Return the stems of what is said that the user did not say."""
        texts = (plain(each.text) for each in given if each.role in SAID)
        found = {
            stem(one) for text in texts for one in words(text)[:_MOST_WORDS] if one not in STOP
        }
        return found - self._request.stems

    def _naming(self, each: Given) -> Collection[int]:
        """Return the suspect passages that name a value."""
        suspected = self._index.suspected
        if each.role == "when":
            return {at for day in dates(plain(each.text)) for at in suspected.get(day, ())}
        return self._index.suspects_with(each.value)

    def _weight(self, at: int) -> float:
        found = self._index.suspects[at]
        return _HANDED if self._provenance.grant(found) else found.score

    def _content(self, tool: ToolFacts, given: Sequence[Given]) -> float:
        """Return how far what is said carries links or addresses of strangers."""
        texts = (plain(each.text) for each in given if each.role in SAID)
        found = (atom for text in texts for atom in atoms(text)[:_MOST_ATOMS])
        kinds = [self._provenance.of(atom, tool).kind for atom in found if "." in atom]
        return max((_CONTENT.get(kind, 0.0) for kind in kinds), default=0.0)

    def _leak(self, given: Sequence[Given]) -> float:
        """Return how much of what tools returned leaves, in what is said or inside of a link."""
        if any(each.role == "url" and each.origin.kind in ("nowhere", "near") for each in given):
            return 1.0
        found: set[str] = set()
        for each in given:
            if each.role in SAID:
                parts = plain(each.text).replace(";", " ").replace(",", " ").split()[:_MOST_WORDS]
                found |= {canonical(one) for one in parts if any(map(str.isdigit, one))}
        leaving = [one for one in found & self._index.atoms if self._request.says(one) < 1.0]
        return min(1.0, len(leaving) / _LEAKS)


def _worst(given: Sequence[Given], roles: Collection[str]) -> float:
    return max((each.strange for each in given if each.role in roles), default=0.0)
