"""What a request says: its values, and how much each sentence implies a tool.

The same measure is used for the user's words and for a stranger's, so that they can be compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from fmos_trust.evidence.catalogue import ToolFacts
from fmos_trust.evidence.instructions import sentences
from fmos_trust.evidence.normal import atoms, canonical, dates, numbers, plain, words
from fmos_trust.evidence.words import ACTIONS, NOTHING, OBJECTS, SELF_EVIDENT, STOP, stem, word_set

_CAPITAL = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'-]+|['\"“‘]([^'\"”’]{2,60})['\"”’]")
_TO_USER = re.compile(
    r"\b(?:tell|give|show|get|find|let|inform|advise|remind|recommend|suggest|read|list|print)"
    r" (?:me|us)\b(?: know)?|\b(?:it|he|she|they|the \w+) (?:says?|said|tells?|mentions?)\b"
)
#: Verbs of several words, by one of one word.
_PHRASES = (
    (re.compile(r"\blet (?!me\b|us\b)(.{1,60}?) know\b"), r"notify \1"),
    (re.compile(r"\b(?:get|getting) rid of\b|\bthrow (?:\w+ ){0,3}(?:away|out)\b"
                r"|\btake (?:\w+ ){0,3}(?:off|out|down)\b"), "remove"),
    (re.compile(r"\bturn\b(.{1,60}?)\binto\b"), r"create\1as"),
    (re.compile(r"\b(?:reach out to|get in touch with|drop a line to|pass on to|hand over to)\b"),
     "message"),
)  # fmt: skip
#: Before a word that is a verb here and a noun elsewhere: mail, message, order, plan.
_BEFORE_VERBS = word_set(
    "to please and then also or you just kindly will i can could would should must shall now"
    " finally first we not let lets"
) | {""}
#: More words than this are a text, not a name.
_LONGEST_NAME = 10
_SAME_GROUP = 0.85
_OTHER_SENTENCE = 0.75
_ONLY_ACTION = 0.4
_ONLY_OBJECT = 0.1


@dataclass(frozen=True, slots=True)
class Saying:
    """One sentence as stems and what they do and are about."""

    stems: frozenset[str]
    verbs: frozenset[str]
    actions: frozenset[str]
    objects: frozenset[str]
    evident: frozenset[str]


@dataclass(frozen=True, slots=True)
class Match:
    """How much a sentence speaks of a tool's action and of its object, each from 0 to 1."""

    action: float
    object: float

    @property
    def both(self) -> float:
        """How much the sentence implies the tool."""
        if self.action and self.object:
            return self.action * self.object
        return _ONLY_ACTION * self.action + _ONLY_OBJECT * self.object


@lru_cache(maxsize=4096)
def saying(sentence: str) -> Saying:
    """Return a plain sentence in terms of stems; what is told to the user is left out."""
    for phrase, verb in _PHRASES:
        sentence = phrase.sub(verb, sentence)
    said = words(_TO_USER.sub(" ", sentence))
    stems = frozenset(map(stem, said))
    verbs = frozenset(
        stem(word)
        for before, word in zip(("", *said), said, strict=False)
        if before in _BEFORE_VERBS or stem(word) not in OBJECTS
    )
    return Saying(
        stems,
        verbs & ACTIONS.keys(),
        frozenset(group for one in verbs for group in ACTIONS.get(one, NOTHING)),
        frozenset(group for one in stems for group in OBJECTS.get(one, NOTHING)),
        frozenset(group for one in verbs for group in SELF_EVIDENT.get(one, NOTHING)),
    )


def match(said: Saying, tool: ToolFacts) -> Match:
    """Return how much one sentence speaks of a tool."""
    action = _SAME_GROUP if tool.actions & said.actions else 0.0
    if tool.verb in said.verbs:
        action = 1.0
    if not tool.objects or tool.objects & said.stems or tool.groups & said.evident:
        thing = 1.0
    elif tool.groups & said.objects:
        thing = _SAME_GROUP
    else:
        thing = 0.5 if len(tool.beside & said.stems - STOP) >= 2 else 0.0
    return Match(action, thing)


def implied(said: list[Saying], tool: ToolFacts) -> float:
    """Return from 0 to 1 how much sentences together imply a tool."""
    found = [match(one, tool) for one in said]
    best = max((one.both for one in found), default=0.0)
    action = max((one.action for one in found), default=0.0)
    thing = max((one.object for one in found), default=0.0)
    apart = _OTHER_SENTENCE * action * thing
    return max(best, apart)


@dataclass(slots=True)
class Request:
    """What the user said in a session."""

    texts: list[str] = field(default_factory=list)
    body: str = ""
    padded: str = " "
    stems: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    atoms: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    dates: frozenset[tuple[int, int]] = frozenset()
    sayings: list[Saying] = field(default_factory=list)
    _implied: dict[str, float] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """Take what the user said."""
        self.texts.append(text)
        body = plain(text)
        said = words(body)
        self.body += body + "\n"
        self.padded += " ".join(said) + " "
        self.stems |= {stem(word) for word in said if word not in STOP}
        self.atoms |= set(atoms(body))
        self.numbers |= numbers(body)
        self.dates |= dates(body)
        self.sayings += [saying(each) for each in sentences(body)]
        named = (match[1] or match[0] for match in _CAPITAL.finditer(text))
        found = {stem(word) for each in named for word in words(plain(each))}
        self.names |= {one for one in found if one not in STOP and len(one) > 1}
        self._implied.clear()

    def implies(self, tool: ToolFacts) -> float:
        """Return from 0 to 1 how much the request implies a tool; once per request and tool."""
        found = self._implied.get(tool.name)
        if found is None:
            found = self._implied[tool.name] = implied(self.sayings, tool)
        return found

    def says(self, value: str, exact: bool = False) -> float:
        """Return from 0 to 1 how much of a canonical value is in the user's words."""
        if not value:
            return 1.0
        if value in self.atoms or value in self.numbers:
            return 1.0
        parts = words(value)
        if not parts:
            return 1.0 if value in self.body else 0.0
        if f" {' '.join(parts)} " in self.padded:
            return 1.0
        if exact or "@" in value or any(map(str.isdigit, value)):
            return 0.0
        stems = {stem(word) for word in parts if word not in STOP}
        return 0.9 * len(stems & self.stems) / len(stems) if stems else 0.9

    def names_date(self, text: str) -> bool:
        """Return whether a date is one that the user named, whatever its year."""
        found = dates(text)
        return bool(found) and found <= self.dates

    def mentions(self, text: str) -> bool:
        """Return whether the user speaks of something with one of the names in a short text."""
        value = canonical(text)
        if len(value) > 2 and not value.isdigit() and self.says(value) >= 0.9:
            return value not in STOP
        stems = {stem(word) for word in words(value) if word not in STOP and len(word) > 2}
        if len(stems) > _LONGEST_NAME:
            return False
        return bool(stems & self.names) or len(stems & self.stems) * 2 > len(stems)
