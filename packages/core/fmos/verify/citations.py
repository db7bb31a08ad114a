"""The citation verifier: what is cited stands in the source that is named.

A quotation must be there word for word, but for case, quotes, spaces and at most one word in ten. A
sentence counts as supported if a passage has 60 % of its words that matter and every number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar

from fmos.verify.model import Claim, Context, Finding, Source, refuted, supported, undecided
from fmos.verify.numbers import Printed, numbers_in
from fmos.verify.passages import Match, Reader, find, negated, normalised

#: The share of a quotation's words that a passage must have.
QUOTED = 0.9
#: The share of a sentence's words that matter from which it is supported, and below which refuted.
STATED = 0.6
UNRELATED = 0.15

_MAX_QUOTES = 20
_SPELLED = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "dozen": 12, "half": Fraction(1, 2),
}  # fmt: skip


class CitationVerifier:
    """Looks cited statements up in their sources, which a citation may pin by content digest."""

    name = "citations"
    claim_types = ("citation",)
    cost: ClassVar[Mapping[str, int]] = {"verifier_runs": 1}

    def __init__(self) -> None:
        self._reader = Reader()

    def check(self, claim: Claim, context: Context) -> Finding:
        """Return whether what is cited stands in one of the sources that are named."""
        if not claim.sources:
            return undecided("it names no source")
        sources: list[Source] = []
        for named in claim.sources[:_MAX_QUOTES]:
            name, _, pin = named.partition("@sha256:")
            source = context.sources.find(name)
            if source is None:
                return refuted(f"there is no source {name!r}")
            if pin and not source.digest.startswith(pin.lower()):
                return refuted(
                    f"the source {name!r} is not the one that was cited",
                    f"{name} has sha256 {source.digest[:16]}, cited was {pin[:16]}",
                )
            sources.append(source)
        quotes = [str(quote) for quote in claim.content.get("quotes", ())][:_MAX_QUOTES]
        statement = str(claim.content.get("statement", claim.text))
        wrong = self._quotations(quotes, sources)
        if wrong is not None:
            return wrong
        missing = self._missing_number(statement, sources)
        if missing is not None:
            return refuted(f"the number {missing} is not in {_listed(sources)}", *_digests(sources))
        if quotes:
            return supported(f"the quotation is in {_listed(sources)}", *_digests(sources))
        return self._stated(statement, sources)

    def _quotations(self, quotes: Sequence[str], sources: Sequence[Source]) -> Finding | None:
        for quote in quotes:
            source, match = self._best(quote, sources)
            if match.share < QUOTED:
                return refuted(
                    f"the quotation {_short(quote)} is not in {_listed(sources)}",
                    f"nearest, with {match.share:.0%} of its words: {match.passage!r}",
                    confidence=1 - match.share / 2,
                )
            if match.how == "by its words" and negated(normalised(quote)) != negated(match.passage):
                return refuted(
                    f"the quotation {_short(quote)} denies what is in {source.name!r}, or the"
                    " other way round",
                    match.passage,
                )
        return None

    def _stated(self, statement: str, sources: Sequence[Source]) -> Finding:
        source, match = self._best(statement, sources, numbers=False)
        if not match.how and numbers_in(statement):
            return supported(f"its numbers are in {_listed(sources)}", confidence=0.5)
        if match.share == 1 and match.how != "by its words":
            return supported(f"it is in {source.name!r} {match.how}", *_digests([source]))
        line = f"{match.share:.0%} of its words are together in {source.name!r}: {match.passage!r}"
        if match.share < UNRELATED:
            return refuted(
                f"{_listed(sources)} says nothing of the kind", line, confidence=1 - match.share
            )
        if match.share < STATED:
            return undecided(
                f"only {match.share:.0%} of its words are together in {source.name!r}",
                line,
                confidence=match.share,
            )
        if negated(normalised(statement)) != negated(match.passage):
            return undecided(f"it and {source.name!r} do not deny the same", line)
        return supported(
            f"{match.share:.0%} of its words are together in {source.name!r}",
            line,
            *_digests([source]),
            confidence=match.share,
        )

    def _best(
        self, text: str, sources: Sequence[Source], *, numbers: bool = True
    ) -> tuple[Source, Match]:
        found = [
            (source, find(text, source, self._reader.read(source), numbers=numbers))
            for source in sources
        ]
        return max(found, key=lambda each: each[1].share)

    def _missing_number(self, statement: str, sources: Sequence[Source]) -> str | None:
        """Return a number of the statement that none of the sources has, or None."""
        wanted = numbers_in(statement)
        if not wanted:
            return None
        known: set[Fraction] = set()
        for source in sources:
            known |= _known_numbers(source)
        ordered = sorted(known)
        for number in wanted:
            if not any(_has(ordered, variant) for variant in _variants(number, statement)):
                return number.text
        return None


def _known_numbers(source: Source) -> set[Fraction]:
    found = {number.value for number in numbers_in(source.text)}
    words = set(normalised(source.text).split())
    return found | {Fraction(value) for word, value in _SPELLED.items() if word in words}


def _variants(number: Printed, statement: str) -> list[Printed]:
    """Return a number as it is; a percent may be written as a fraction in the source."""
    if f"{number.text}%" not in statement and f"{number.text} %" not in statement:
        return [number]
    share = Printed(number.value / 100, number.half_unit / 100, number.text, number.end)
    return [number, share]


def _has(ordered: Sequence[Fraction], number: Printed) -> bool:
    """Return whether one of the values is the number, as far as its digits are printed."""
    # A whole number is not the rounding of a fraction near it, unless it is a rounded large one.
    slack = number.half_unit if number.half_unit != Fraction(1, 2) else Fraction(0)
    at = bisect_left(ordered, number.value - slack)
    return at < len(ordered) and ordered[at] <= number.value + slack


def _listed(sources: Sequence[Source]) -> str:
    return " or ".join(repr(source.name) for source in sources)


def _digests(sources: Sequence[Source]) -> list[str]:
    return [f"{source.name}@sha256:{source.digest[:16]}" for source in sources]


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:97] + "...")
