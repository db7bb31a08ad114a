"""Sorts the errors of tools by what can be done about them, from their words alone."""

from __future__ import annotations

import re

#: In this order: what passes by itself comes first, so that a retry of it is never held up.
_KINDS: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE), advice)
    for kind, pattern, advice in (
        (
            "transient",
            r"time[sd]?[ -]?out|temporar|try again|retry|rate.?limit|too many requests|\b429\b"
            r"|\b50[0234]\b|unavailable|overload|busy|locked|connection|network|not (?:yet )?ready"
            r"|in progress|pending|still (?:running|processing)|throttl|deadline|unreachable",
            "it may pass: wait before trying again",
        ),
        (
            "not found",
            r"not found|no such|does ?n[o']t exist|unknown|\b404\b|missing|KeyError|no \w+ with",
            "look up the name or id first, and use one that was returned",
        ),
        (
            "not allowed",
            r"permission|forbidden|denied|not allowed|unauthori[sz]ed|\b40[13]\b|access",
            "this account may not do that: do not repeat it, tell the user",
        ),
        (
            "exists already",
            r"already exists|duplicate|conflict|\b409\b|in use",
            "it is there already: read it, or choose another name",
        ),
        (
            "wrong value",
            r"invalid|malformed|must be|expected|validation|ValueError|TypeError|bad request"
            r"|\b4(?:00|22)\b|format|out of range|parse|required",
            "read the tool's description again and give what it asks for",
        ),
    )
)

OTHER = "error"


def kind_of(text: str) -> str:
    """Return what kind of error a text tells of: `transient`, `not found` and so on."""
    head = text[:2000]
    return next((kind for kind, pattern, _ in _KINDS if pattern.search(head)), OTHER)


def advice_on(kind: str) -> str:
    """Return what to do about a kind of error."""
    return next((advice for each, _, advice in _KINDS if each == kind), "change the call")


def is_transient(kind: str) -> bool:
    """Return whether the same call may succeed the next time."""
    return kind == "transient"
