"""Finds what the rules of rules.toml describe, in time that grows with the text's length alone.

One search for keywords says which rules are tried at all. With google-re2 every pattern is linear;
without it the standard library's `re` runs the same patterns with their repeats bounded, over long
texts in overlapping windows.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any, NamedTuple

from fmos.redaction.checks import CHECKS, Check, entropy

#: Every class that a rule may have; each rule's id may be named in place of one.
CLASSES = ("secrets", "pii", "financial", "identity", "contact")

_SHORTEST = 8
#: The rule that only a name tells of.
GENERIC = "assigned-secret"
_BOUND = 1024
_WINDOW = 65_536
_OVERLAP = 4_096
_OPEN = re.compile(r"\{(\d+),\}")
_PEM_BEGIN = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_LONGEST = 8_192
_PEM_LINE = re.compile(rb"[A-Za-z0-9+/=]{20,}")


class Span(NamedTuple):
    """Where a value is in a text, and which rule found it."""

    start: int
    end: int
    rule: Rule


@dataclass(frozen=True)
class Rule:
    """One rule: a pattern, and what else makes its matches count."""

    id: str
    description: str
    regex: str
    classes: tuple[str, ...]
    keywords: tuple[str, ...]
    group: int
    entropy: float
    check: Check | None

    @cached_property
    def expression(self) -> Any:
        """The compiled pattern: RE2's where it is installed."""
        return _compile(self.regex)

    def matches(self, text: bytes) -> Iterator[Span]:
        """Yield every value in a text of one byte a character."""
        for match in self.expression.finditer(text):
            start, end = match.span(self.group)
            value = text[start:end]
            if len(value) < self._shortest or (self.entropy and entropy(value) < self.entropy):
                continue
            if self.check:
                counts = self.check(text, match.start(), match.groups(b""))
                if not counts:
                    continue
                end = end if counts is True else start + counts
            if not _is_placeholder(value, self.classes):
                yield Span(start, end, self)

    @property
    def _shortest(self) -> int:
        return 6 if "pii" in self.classes or self.id.endswith("-password") else _SHORTEST


_PRIVATE_KEY = Rule("private-key", "PEM private key", "", ("secrets",), (), 0, 0.0, None)


def rules() -> tuple[Rule, ...]:
    """Return the rules of the data file, and the one for PEM keys, which no pattern tells."""
    return (*_catalogue().rules, _PRIVATE_KEY)


def find(text: str, classes: Collection[str] = ("secrets",)) -> list[Span]:
    """Return where a text holds what these classes (or rule ids) name, in order.

    Spans do not overlap: where two rules find something, the one that says most of it wins.
    """
    data = as_bytes(text)
    wanted = _catalogue().wanted(frozenset(classes), data)
    found = [span for rule in wanted for span in _matches(rule, data)]
    if "secrets" in classes or _PRIVATE_KEY.id in classes:
        found += _private_keys(data)
    return _without_overlaps(found)


class _AsciiOf(dict[int, int]):
    """Translates each character to the ASCII one that it equals, such as a full-width letter."""

    def __missing__(self, code: int) -> int:
        import unicodedata  # noqa: PLC0415 - only texts beyond ASCII need it

        plain = unicodedata.normalize("NFKD", chr(code))
        if not plain.isascii() and len(plain) > 1:
            plain = plain[0]  # a letter with its accent
        self[code] = ord(plain) if len(plain) == 1 and plain.isascii() else 0x7F
        return self[code]


_ASCII_OF = _AsciiOf({code: code for code in range(128)})


def as_bytes(text: str) -> bytes:
    """Return a text with one byte a character, so that places in both are the same."""
    return text.encode() if text.isascii() else text.translate(_ASCII_OF).encode()


def _private_keys(data: bytes) -> Iterator[Span]:
    """Each long line of a PEM private key counts, so that a part of it is found too."""
    after = 0
    while (begin := data.find(b"-----BEGIN ", after)) >= 0:
        header = _PEM_BEGIN.match(data, begin)
        after = begin + 11
        if header is None:
            continue
        stop = header.end() + _PEM_LONGEST
        end = data.find(b"-----END", header.end(), stop)
        after = end if end >= 0 else min(stop, len(data))
        for line in _PEM_LINE.finditer(data, header.end(), after):
            yield Span(line.start(), line.end(), _PRIVATE_KEY)


def _matches(rule: Rule, data: bytes) -> Iterator[Span]:
    if _re2() is not None or len(data) <= _WINDOW:
        yield from rule.matches(data)
        return
    for begin in range(0, len(data), _WINDOW - _OVERLAP):
        for span in rule.matches(data[begin : begin + _WINDOW]):
            yield Span(span.start + begin, span.end + begin, rule)


def _without_overlaps(found: list[Span]) -> list[Span]:
    """Drop what overlaps something more telling: any assigned value says the least."""
    if len(found) < 2:
        return found
    kept: list[Span] = []
    for span in sorted(found, key=lambda each: each.start):
        while kept and span.start < kept[-1].end and _tells_more(span, kept[-1]):
            kept.pop()
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def _tells_more(span: Span, other: Span) -> bool:
    if (span.rule.id == GENERIC) != (other.rule.id == GENERIC):
        return other.rule.id == GENERIC
    return span.end - span.start > other.end - other.start


class _Catalogue:
    """The rules of the data file, and the keywords that say which of them a text needs."""

    def __init__(self, found: tuple[Rule, ...], allowed: Iterable[str]) -> None:
        self.rules = found
        self.placeholders = [_compile(each) for each in allowed]
        self._always: dict[frozenset[str], tuple[Rule, ...]] = {}
        self._owner: list[Rule] = []
        self._words: list[str] = []
        for rule in found:
            for word in rule.keywords:
                self._words.append(word)
                self._owner.append(rule)
        self._search = self._searcher()

    def wanted(self, classes: frozenset[str], data: bytes) -> list[Rule]:
        """Return the rules of the classes that have a keyword in the text, or have none at all."""
        picked = self._always.get(classes)
        if picked is None:
            picked = tuple(each for each in self.rules if classes & {*each.classes, each.id})
            self._always[classes] = picked
        with_word = {self._owner[index].id for index in self._search(data.lower())}
        return [each for each in picked if not each.keywords or each.id in with_word]

    def _searcher(self) -> Callable[[bytes], Iterable[int]]:
        """Return what gives the indexes of the keywords in a text."""
        re2 = _re2()
        words = [word.encode() for word in self._words]
        if re2 is None:
            return lambda data: [index for index, word in enumerate(words) if word in data]
        together = re2.Set.SearchSet()
        for word in self._words:
            together.Add(re2.escape(word))
        together.Compile()
        return lambda data: together.Match(data) or ()  # it gives None for none


@lru_cache(maxsize=1)
def _catalogue() -> _Catalogue:
    text = resources.files("fmos.redaction").joinpath("rules.toml").read_text(encoding="utf-8")
    told = tomllib.loads(text)
    return _Catalogue(tuple(map(_rule, told["rules"])), told["allowlist"]["regexes"])


def _rule(told: dict[str, Any]) -> Rule:
    checks = [tag[6:] for tag in told["tags"] if tag.startswith("check:")]
    return Rule(
        id=told["id"],
        description=told["description"],
        regex=told["regex"],
        classes=tuple(tag for tag in told["tags"] if tag in CLASSES),
        keywords=tuple(told.get("keywords", ())),
        group=told.get("secretGroup", 0),
        entropy=told.get("entropy", 0.0),
        check=CHECKS[checks[0]] if checks else None,
    )


def _is_placeholder(value: bytes, classes: tuple[str, ...]) -> bool:
    if "secrets" not in classes:
        return False
    return any(each.search(value) for each in _catalogue().placeholders)


@lru_cache(maxsize=1)
def _re2() -> Any:
    try:
        import re2  # noqa: PLC0415 - an extra; 5 ms, which most commands do not need
    except ImportError:
        return None
    return re2


def _compile(regex: str) -> Any:
    re2 = _re2()
    if re2 is None:
        return re.compile(_OPEN.sub(rf"{{\1,{_BOUND}}}", regex).encode())
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return re2.compile(regex.encode(), options)
