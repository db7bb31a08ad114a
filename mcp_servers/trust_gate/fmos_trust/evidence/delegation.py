"""What the request hands over: "pay the bill in F", "do what the e-mail from A says".

A narrow grant: only sources that the request names, and never passages that speak to the assistant.
"""

from __future__ import annotations

import re

from fmos_trust.evidence.intent import Request
from fmos_trust.evidence.normal import canonical, words
from fmos_trust.evidence.words import STOP, stem, word_set

#: Hands over whatever a source says: any tool that it asks for.
_HANDS_OVER_ALL = re.compile(
    r"\b(?:follow(?:ing)?|do|perform|complete|execute|carry out|take care of|act on|implement"
    r"|process|handle|work through|go through|finish|solve|tick off)\b[^.!?]{0,60}?"
    r"\b(?:instructions?|tasks?|to-?dos?|actions?|steps?|requests?|list|what|everything|whatever"
    r"|items?|things?|checklist|points?|errands?|chores?|duties|assignments?)\b"
    r"|\b(?:take care of|see to|handle|do|finish|complete) (?:it all|(?:all|each|both)(?: of)?"
    r" (?:it|them|these|those|this|that))\b"
    r"|\bwork (?:it|them|this|that|those|these|off|on|through)\b"
    r"|\b(?:do|follow|handle|everything|whatever|just as)\b[^.!?]{0,20}"
    r"\b(?:it|he|she|they|the \w+|\w+) (?:says?|asks?|wants?|tells?|requests?)\b"
)
#: Hands over who, when and how much, for what the request asks for itself.
_HANDS_OVER = re.compile(
    r"\b(?:pay|settle|adjust|update|change|apply|adapt|act|respond|reply|proceed|plan|book"
    r"|schedule|set up|create|add|send|invite|correct|order)\b[^.!?]{0,80}?\b(?:accordingly"
    r"|according to|as (?:described|requested|specified|stated|listed|written|mentioned|noted|asked"
    r"|in|per)|based on|per the|specified in|described in|listed (?:in|on)|given in"
    r"|found (?:in|on|at)|mentioned in"
    r"|from the (?:file|email|note|message|page|document|invoice|bill))\b"
    r"|\b(?:pay|settle|process|clear)\b[^.!?]{0,40}?\b(?:bills?|invoices?|notice|fine|statement)\b"
    r"|\b(?:it|he|she|they|the \w+) (?:says?|asks?|wants?|mentions?|suggests?|proposed|proposes"
    r"|recommends?|names?|lists?|gives?)\b"
    r"|\baccordingly\b"
)
_POINTS_AT = re.compile(
    r"\b(?:e-?mail|address|number|account|details?|info(?:rmation)?|link|url|time|date|place"
    r"|location|iban|contact|instructions?)\b[^.!?]{0,50}?\b(?:is|are|can be found|stands?|on|in|at"
    r"|from|which|that)\b"
    r"|\b(?:check|read|see|look (?:at|in|up)|visit|open|find|use)\b"
)

#: A path or a link says which source it is; a name says only what it is about.
_LOCATES = re.compile(r"[\w-]\.[a-z]{2,6}\b|/")

#: Words of paths and links that say nothing of which one it is.
_ANYWHERE = STOP | word_set("www http https com org net io txt md pdf csv json html doc docx xlsx")
#: Share of a place's words that the request must say.
_ENOUGH = 0.6


class Delegation:
    """What the request of one session hands over, and to which sources."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.any_tool = bool(_HANDS_OVER_ALL.search(request.body))
        self.hands_over = self.any_tool or bool(_HANDS_OVER.search(request.body))
        self._points_at = self.hands_over or bool(_POINTS_AT.search(request.body))
        self._known: dict[str, float] = {}

    def grant(self, place: str, beside: tuple[str, ...]) -> float:
        """Return how far a source may supply targets: 1 handed over, 0.5 pointed at, 0 not.

        Args:
            place: where the source was read (path, link, query), as the call said it.
            beside: the fields that stand beside the text (sender, title).
        """
        spoken = sum(self._request.mentions(each) for each in beside)
        if self.hands_over and (spoken or self._named(place)):
            return 1.0
        if spoken > 1 or (spoken and len(beside) > 1 and self._named(place)):
            return 0.5
        pointed = self._points_at and bool(_LOCATES.search(place))
        return 0.5 if pointed and self._named(place) else 0.0

    def _named(self, place: str) -> bool:
        """Return whether the request names where a source was read."""
        value = canonical(place)
        if not value:
            return False
        if self._request.says(value, exact=True) >= 1.0:
            return True
        found = {word for word in words(value) if word not in _ANYWHERE and not word.isdigit()}
        said = sum(stem(word) in self._request.stems for word in found)
        return len(found) > 1 and said >= _ENOUGH * len(found)
