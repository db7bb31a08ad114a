"""What entered a session through tools: whole fields of structured output, and prose.

A field is a short value with its neighbours (the record); prose is what a stranger can write:
long values and running text, kept as passages with the words of their suspect sentences.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fmos_trust.evidence.instructions import (
    SUSPECT,
    order_score,
    sentences,
    taints,
    weighed,
)
from fmos_trust.evidence.normal import atoms, canonical, dates, decoded, numbers, plain, words
from fmos_trust.evidence.words import STOP, stem

LONGEST_TEXT = 65_536
_LONGEST_PARSED = 200_000
_LONGEST_FIELD = 90
_DEEPEST = 12
_MOST_FIELDS = 4_000
#: A line of more words than this may be a sentence without an end.
_WORDY = 4

#: A key has four words at most: longer ones are sentences.
_KEY = re.compile(
    r"^(?P<indent>[ \t]*(?:- )*)"
    r"(?P<key>[A-Za-z_]\w{0,40}(?:[ .()/-]{1,2}\w{1,30}){0,3}\)?):(?: +(?P<value>\S.*))?$"
)
_ITEM = re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)]) +(?P<value>\S.*)$")
_PROSE = re.compile(r"[a-z]{2,} [a-z]{2,} .*[.!?](?:\s|$)|\n", re.IGNORECASE)
_ROW = re.compile(r" *\| *|\t+| {3,}")


@dataclass(frozen=True, slots=True)
class Field:
    """One short value of a tool's output."""

    value: str
    key: str
    record: int


@dataclass(frozen=True, slots=True)
class Passage:
    """One prose text of a tool's output with what its suspect sentences name."""

    source: int
    record: int
    text: str
    spaced: str
    words: frozenset[str]
    atoms: frozenset[str]
    dates: frozenset[tuple[int, int]]
    numbers: frozenset[str]
    orders: tuple[tuple[float, float, str], ...]  # (score, speaks, sentence), worst first
    score: float  # how much its worst sentence reads like an order
    speaks: float  # how much it speaks to the assistant


def split(text: str) -> Found:
    """Return the fields and the prose of a text."""
    text = text[:LONGEST_TEXT]
    found = Found()
    data = _parsed(text)
    if data is not None:
        found.walk(data, "", found.new_record(), 0)
    elif not _lines_of_keys(text, found):
        _plain_lines(text, found)
    return found


class Found:
    """The fields and the prose of one text; `inside` are fields of several words."""

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.prose: list[tuple[int, str]] = []
        self.inside: list[str] = []
        self.records = 0

    def new_record(self) -> int:
        """Return the number of a record that begins here."""
        self.records += 1
        return self.records - 1

    def put(self, key: str, value: str, record: int) -> None:
        """Take a value: short ones are fields, long ones and sentences are prose."""
        if len(value) <= _LONGEST_FIELD and not _PROSE.search(value.strip()):
            self.keep(key, value, record)
            if value.count(" ") >= 3 and order_score(plain(value)) > SUSPECT:
                self.prose.append((record, value))
        elif value.strip():
            self.prose.append((record, value))
            self.fields += _stated(value, record)

    def keep(self, key: str, value: str, record: int) -> None:
        """Take a field."""
        if value and len(self.fields) < _MOST_FIELDS:
            self.fields.append(Field(value, key, record))
            if " " in value:
                self.inside.append(value)

    def walk(self, data: Any, key: str, record: int, depth: int) -> None:
        """Take a parsed value; each object is a record of its own."""
        if depth > _DEEPEST:
            return
        if isinstance(data, dict):
            mine = self.new_record()
            for name, value in data.items():
                key = str(name)
                named = " " in key or key[:1].isupper()
                at = self.new_record() if named and len(data) > 1 else mine
                if named or not key.isidentifier():
                    self.put("", key, at)
                self.walk(value, str(name), at, depth + 1)
        elif isinstance(data, list | tuple | set):
            for value in data:
                self.walk(value, key, record, depth + 1)
        elif data is not None:
            self.put(key, str(data), record)


def _stated(text: str, record: int) -> list[Field]:
    """Return the `key: value` lines of prose, which are weaker than fields; key begins with ~."""
    if ":" not in text:
        return []
    found = (_KEY.match(line) for line in text.splitlines()[:200])
    return [
        Field(match["value"], f"~{match['key'].strip()}", record)
        for match in found
        if match and match["value"] and len(match["value"]) <= _LONGEST_FIELD
    ]


def _parsed(text: str) -> Any:
    """Return the data of JSON or of a Python literal; None where it is neither."""
    start = text.lstrip()[:1]
    if start not in "[{(" or not start or len(text) > _LONGEST_PARSED:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _lines_of_keys(text: str, found: Found) -> bool:
    """Take `key: value` lines as YAML writes them; False where the text is something else."""
    lines = text.splitlines()
    if not lines or not _KEY.match(lines[0]) or sum(bool(_KEY.match(one)) for one in lines) < 2:
        return False
    reader = _Keyed(found)
    for line in lines:
        reader.take(line)
    reader.close()
    return True


class _Keyed:
    """Reads `key: value` lines; a value goes on over lines until its quote ends or a key comes."""

    def __init__(self, found: Found) -> None:
        self._found, self._record = found, found.new_record()
        self._key, self._quote = "", ""
        self._parts: list[str] = []
        self._indent = -1

    def take(self, line: str) -> None:
        """Take the next line."""
        keyed = None if self._quote else _KEY.match(line)
        item = None if self._quote or keyed else _ITEM.match(line)
        if keyed or item:
            self.close()
        value = self._keyed(keyed) if keyed else item["value"] if item else line
        if not self._quote and value.startswith(("'", '"')) and not _closed(value):
            self._quote = value[0]
        elif self._quote and _ends(value, self._quote):
            self._quote = ""
        if value.strip() or self._parts:
            self._parts.append(value.strip())

    def _keyed(self, match: re.Match[str]) -> str:
        """Take a key, which may begin a record, and return what stands behind it."""
        indent = len(match["indent"])
        if match["indent"].rstrip().endswith("-") and self._indent in (-1, indent):
            self._record, self._indent = self._found.new_record(), indent
        self._key = match["key"].strip()
        return match["value"] or ""

    def close(self) -> None:
        """Put down the value that was read."""
        if self._parts:
            self._found.put(self._key, _unfolded("\n".join(self._parts)), self._record)
            self._parts.clear()


def _closed(value: str) -> bool:
    return _ends(value[1:], value[0])


def _ends(value: str, quote: str) -> bool:
    bare = value.rstrip()
    trailing = len(bare) - len(bare.rstrip(quote))
    return trailing % 2 == 1 and not (quote == '"' and bare[:-1].endswith("\\"))


def _unfolded(value: str) -> str:
    """Undo YAML's folding of a quoted text: one line end is a space, two are one."""
    if not value.startswith(("'", '"')):
        return value if "\n" not in value else re.sub(r"\n(?!\n)", " ", value)
    quote = value[0]
    bare = value[1:].removesuffix(quote)
    bare = (
        bare.replace("''", "'") if quote == "'" else bare.replace("\\n", "\n").replace('\\"', '"')
    )
    return re.sub(r"(?<!\n)\n(?!\n)", " ", bare).replace("\n\n", "\n")


def _plain_lines(text: str, found: Found) -> None:
    """Take running text: short lines that are no sentences are a list, the rest is prose."""
    record = found.new_record()
    lines = [line for line in text.splitlines() if line.strip()]
    short = [line for line in lines if len(line) <= _LONGEST_FIELD and not _PROSE.search(line)]
    if len(short) < len(lines) or any(line.count(" ") >= _WORDY for line in lines):
        found.prose.append((record, text))
    if len(short) < len(lines):
        found.fields += _stated(text, record)
        return
    many = len(lines) > 1
    beside = found.new_record()
    for line in lines:
        at = found.new_record() if many else beside
        head, colon, rest = line.partition(":")
        for part in re.split(r"[,;]", rest) if colon else ():
            found.keep(head.strip(), part.strip(), beside)
        if colon:
            found.keep(head.strip(), rest.strip(), beside)
        for cell in _ROW.split(line):
            found.keep("", _unmarked(cell), at)


def _unmarked(cell: str) -> str:
    match = _ITEM.match(cell)
    return (match["value"] if match else cell).strip()


def passage(source: int, record: int, text: str) -> Passage:
    """Return a prose text as a passage, with what its encoded parts say."""
    body = plain(text)
    hidden = decoded(text)
    if hidden:
        body = "\n".join([body, *(plain(each) for each in hidden)])
    each = list(sentences(body))[:2_000]
    scored = [weighed(one) for one in each]
    speaking = [speaks for _, speaks in scored]
    reached = taints([score for score, _ in scored], speaking)
    orders = sorted(
        (
            (score, strength, one)
            for score, strength, one in zip(reached, speaking, each, strict=True)
            if score >= SUSPECT
        ),
        reverse=True,
    )[:64]
    suspect = "\n".join(one for _, _, one in orders)
    spaced = f" {' '.join(words(body))} "
    return Passage(
        source=source,
        record=record,
        text=body,
        spaced=spaced,
        words=frozenset(map(stem, set(words(suspect)) - STOP)),
        atoms=frozenset(atoms(suspect)),
        dates=dates(suspect),
        numbers=frozenset(numbers(suspect)),
        orders=tuple(orders),
        score=orders[0][0] if orders else 0.0,
        speaks=max((speaks for _, speaks, _ in orders), default=0.0),
    )


def field_values(fields: list[Field]) -> Iterator[tuple[str, Field]]:
    """Yield the canonical form of each field's value."""
    for each in fields:
        if value := canonical(each.value):
            yield value, each
