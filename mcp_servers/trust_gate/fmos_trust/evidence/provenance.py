"""Where a value of a call came from: the user, a field, a text that strangers can write, nowhere.

Values are indexed when they are observed; looking one up costs a few dictionary accesses.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from fmos_trust.evidence.catalogue import ToolFacts
from fmos_trust.evidence.delegation import Delegation
from fmos_trust.evidence.intent import Request, implied, saying
from fmos_trust.evidence.normal import atoms, canonical, dates, near, plain, words
from fmos_trust.evidence.sources import Found, Passage, field_values, passage, split
from fmos_trust.evidence.words import ACTIONS, STOP, stem

Kind = Literal[
    "user", "trusted", "linked", "beside", "field", "granted", "text", "order", "near", "nowhere"
]

_MOST_ORIGINS = 6
_ORDERS_TOOL = 0.3
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: which kind of place, and which one, in words."""

    kind: Kind
    where: str = ""
    other: str = ""


@dataclass(slots=True)
class Record:
    """One record of a structured output: the words of its short fields."""

    source: int
    words: frozenset[str]
    values: tuple[str, ...]


@dataclass(slots=True)
class Index:
    """Everything that tools brought into a session, by value."""

    places: list[str] = field(default_factory=list)
    read_at: list[str] = field(default_factory=list)
    trusted: set[int] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)
    fields: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    passages: list[Passage] = field(default_factory=list)
    suspects: list[Passage] = field(default_factory=list)
    suspected: dict[str | tuple[int, int], list[int]] = field(default_factory=dict)
    tokens: dict[str, set[int]] = field(default_factory=dict)
    atoms: set[str] = field(default_factory=set)
    inside: dict[str, int] = field(default_factory=dict)
    listed: set[int] = field(default_factory=set)

    def observe(self, text: str, tool: str, read_at: str, trusted: bool) -> None:
        """Take the output of a tool, and where it was read."""
        source = len(self.places)
        self.places.append(f"{tool}({read_at})" if read_at else tool)
        self.read_at.append(read_at)
        if trusted:
            self.trusted.add(source)
        found = split(text)
        first = len(self.records)
        self._add_records(source, found)
        for value, each in field_values(found.fields):
            known = self.fields.setdefault(value, [])
            if len(known) < _MOST_ORIGINS:
                known.append((first + each.record, each.key))
            if any(map(str.isdigit, value)) or "@" in value:
                self.atoms.add(value)
        for part in found.inside:
            for atom in atoms(plain(part)):
                self.inside.setdefault(atom, source)
                self.atoms.add(atom)
        many = found.records > 1
        for record, part in found.prose:
            self._add_passage(passage(source, first + record, part), many)

    def _add_records(self, source: int, found: Found) -> None:
        values: list[list[str]] = [[] for _ in range(found.records)]
        for each in found.fields:
            if len(values[each.record]) < 40 and not each.key.startswith("~"):
                values[each.record].append(each.value)
        all_words = [
            {stem(w) for one in mine for w in words(one.lower()) if w not in STOP}
            for mine in values
        ]
        full = [(named, mine) for named, mine in zip(all_words, values, strict=True) if mine]
        shared = set.intersection(*(named for named, _ in full)) if len(full) > 1 else set[str]()
        common = (
            {one for one in full[0][1] if all(one in mine for _, mine in full)} if shared else ()
        )
        for named, mine in zip(all_words, values, strict=True):
            own = tuple(one for one in mine if one not in common)
            self.records.append(Record(source, frozenset(named - shared), own))

    def _add_passage(self, found: Passage, many: bool) -> None:
        at = len(self.passages)
        self.passages.append(found)
        if many:
            self.listed.add(found.source)
        for token in set(found.spaced.split()):
            self.tokens.setdefault(token, set()).add(at)
        if found.orders and found.source not in self.trusted:
            self._add_suspect(found)

    def _add_suspect(self, found: Passage) -> None:
        at = len(self.suspects)
        self.suspects.append(found)
        for _, _, sentence in found.orders:
            saying(sentence)  # read now, so that no decision waits for it
        for named in (found.words, found.atoms, found.numbers, found.dates):
            for one in named:
                self.suspected.setdefault(one, []).append(at)

    def texts_with(self, value: str) -> set[int]:
        """Return the passages that have all words of a canonical value."""
        postings: list[set[int]] = []
        for part in words(value)[:12]:
            found = self.tokens.get(part)
            if found is None:
                return set()
            postings.append(found)
        return set.intersection(*postings) if postings else set()

    def suspects_with(self, value: str) -> Collection[int]:
        """Return the suspect passages in whose orders a canonical value stands."""
        if value in self.suspected:
            return self.suspected[value]
        stems = {stem(word) for word in words(value) if word not in STOP}
        postings = [self.suspected.get(one) for one in stems]
        if not postings or not all(postings):
            return ()
        return set.intersection(*(set(each) for each in postings if each))


def _is_name(word: str) -> bool:
    """Return whether a word may be a name: letters, and no word of general requests."""
    return len(word) > 2 and word.isalpha() and word not in STOP and stem(word) not in ACTIONS


def _holds(found: Passage, value: str) -> bool:
    return f" {' '.join(words(value))} " in found.spaced


class Provenance:
    """Looks up the values of one session."""

    def __init__(self, request: Request, index: Index, delegation: Delegation) -> None:
        self._request, self._index, self._delegation = request, index, delegation
        self._linked: dict[int, bool] = {}
        self._handed: set[int] = set()
        self._chosen: dict[int, bool] = {}
        self._weighed = 0
        self._granted: dict[tuple[int, int], float] = {}

    def of(self, value: str, tool: ToolFacts, exact: bool = False) -> Origin:
        """Return where a canonical value came from; the most trustworthy place counts."""
        if self._request.says(value, exact) >= 0.9:
            return Origin("user", "your request")
        stated = self._fields(value)
        if stated is not None and stated.kind not in ("field", "beside"):
            return stated
        places = self._index.texts_with(value)
        return self._of_text(value, tool, places) or stated or self._nowhere(value)

    def of_date(self, text: str) -> Origin:
        """Return where the day of a time came from: a stranger's order, or nowhere."""
        for day in dates(plain(text)):
            for at in self._index.suspected.get(day, ()):
                found = self._index.suspects[at]
                if not self.grant(found):
                    return Origin("order", self._place(found.source))
        return Origin("nowhere")

    def _of_text(self, value: str, tool: ToolFacts, places: set[int]) -> Origin | None:
        """Return the origin of a value that stands in prose; a field counts more than prose."""
        passages = self._index.passages
        for at in places:
            if passages[at].source in self._index.trusted and _holds(passages[at], value):
                return Origin("trusted", self._place(passages[at].source))
        for at in places & self.granted():
            if _holds(passages[at], value) and self._is_granted(passages[at], value, tool):
                return Origin("granted", self._place(passages[at].source))
        ordering = self._index.suspects_with(value)
        if ordering:
            return Origin("order", self._place(self._index.suspects[min(ordering)].source))
        if value in self._index.fields and self._fields(value) is not None:
            return None
        for at in places:
            if _holds(passages[at], value):
                return Origin("text", self._place(passages[at].source))
        if value in self._index.inside:
            return Origin("text", self._place(self._index.inside[value]))
        return None

    def granted(self) -> set[int]:
        """Return the passages that the request hands over or points at."""
        passages = self._index.passages
        for at in range(self._weighed, len(passages)):
            if self.grant(passages[at]):
                self._handed.add(at)
        self._weighed = len(passages)
        return self._handed

    def _fields(self, value: str) -> Origin | None:
        best: Origin | None = None
        for record, key in self._index.fields.get(value, ()):
            source = self._index.records[record].source
            if source in self._index.trusted:
                return Origin("trusted", self._place(source), key)
            if key.startswith("~"):
                continue
            if self.is_linked(record):
                return Origin("linked", self._place(source), key)
            if self._is_chosen(source):
                best = Origin("beside", self._place(source), key)
            elif best is None:
                best = Origin("field", self._place(source), key)
        return best

    def _is_chosen(self, source: int) -> bool:
        """Return whether the user said what was read there: its name, its day."""
        found = self._chosen.get(source)
        if found is None:
            place, request = self._index.read_at[source], self._request
            found = bool(place) and (request.mentions(place) or request.names_date(place))
            self._chosen[source] = found
        return found

    def unlinked(self, value: str) -> list[int]:
        """Return the records with a canonical value that the user did not speak of."""
        return [
            record
            for record, key in self._index.fields.get(value, ())
            if not key.startswith("~")
            and self._index.records[record].source not in self._index.trusted
            and not self.is_linked(record)
        ]

    def is_linked(self, record: int) -> bool:
        """Return whether a record has a field that the user spoke of."""
        found = self._linked.get(record)
        if found is None:
            beside = self._index.records[record]
            found = any(map(self._request.mentions, beside.values))
            found = found or self._is_handed_over(beside)
            self._linked[record] = found
        return found

    def renew(self) -> None:
        """Forget what was found out about links: there is more to look at."""
        self._linked.clear()

    def _is_handed_over(self, beside: Record) -> bool:
        """Return whether a text that the request hands over or points at names the record."""
        granted = self.granted()
        if not granted:
            return False
        named = (words(plain(each)) for each in beside.values if len(each) <= _LONGEST_NAME)
        found = {one for each in named for one in each if _is_name(one)}
        found |= {one for each in beside.values if (one := canonical(each)).isalpha()} - STOP
        return any(
            self._index.passages[at].source != beside.source
            for one in found
            for at in self._index.tokens.get(one, ())
            if at in granted
        )

    def grant(self, found: Passage) -> float:
        """Return how far the request hands over to a passage."""
        key = (found.source, found.record)
        grant = self._granted.get(key)
        if grant is None:
            listed = found.source in self._index.listed and bool(
                self._index.records[found.record].words
            )
            place = "" if listed else self._index.read_at[found.source]
            beside = self._index.records[found.record].values
            grant = self._granted[key] = self._delegation.grant(place, beside)
        return 0.0 if found.speaks >= 0.35 else grant

    def _is_granted(self, found: Passage, value: str, tool: ToolFacts) -> bool:
        """Return whether the request lets a passage supply a value for a tool.

        What is handed over may order; what is only pointed at may inform, not order this very tool.
        """
        grant = self.grant(found)
        if grant >= 1.0 or not grant:
            return grant > 0
        holding = [one for _, _, one in found.orders if value in one]
        return not holding or implied([saying(one) for one in holding], tool) < _ORDERS_TOOL

    def _nowhere(self, value: str) -> Origin:
        points = len(value) >= 6 and " " not in value and not dates(value)
        if points and (twin := near(value, self._index.atoms)):
            return Origin("near", other=twin)
        return Origin("nowhere")

    def _place(self, source: int) -> str:
        return self._index.places[source]
