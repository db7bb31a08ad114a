"""What a person reads of a call: readable, whole as far as that can be, and nothing invisible.

Long arguments show their head, their tail, and the places of the middle that the findings name.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fmos.types import Reason

_HEAD = 196_608
_TAIL = 65_536
_AROUND = 200
_PLACES = 8
_NAMED = re.compile(r"'([^']{2,200})'|\"([^\"]{2,200})\"|`([^`]{2,200})`|([\w./~-]{2,200})")


def arguments_text(arguments: Mapping[str, Any], reasons: Sequence[Reason]) -> str:
    """Return a call's arguments as JSON in which every character can be seen."""
    text = visible(json.dumps(arguments, ensure_ascii=False, sort_keys=True, separators=(",", ":")))
    if len(text) <= _HEAD + _TAIL:
        return text
    middle = text[_HEAD:-_TAIL]
    parts = [text[:_HEAD], f"\n... {len(middle)} of {len(text)} characters are left out here ..."]
    parts += [f"\n... in them: {place} ..." for place in _places(middle, reasons)]
    return "".join([*parts, "\n", text[-_TAIL:]])


def visible(text: str) -> str:
    """Escape what has no shape of its own, or changes what stands around it.

    Control characters, bidirectional marks, invisible and combining-only characters, and spaces
    that are none; also single surrogates.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    if char == " " or (char.isprintable() and char not in _BLANK):
        return char
    return _escaped(char)


#: Printable to Python, and nothing to be seen.
_BLANK = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u034f") | frozenset(
    chr(each) for each in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text of several lines, each with nothing invisible in it."""
    return [visible(line.expandtabs(4)) for line in text.split("\n")]


def scripts_of(text: str) -> tuple[str, ...]:
    """Return the scripts that letters of a text are of where there are several.

    `раypal` has letters of two: one that looks like another is what deceives.
    """
    scripts = {
        unicodedata.name(char, "?").split(" ", 1)[0] for char in text if char.isalpha()
    }  # fmt: skip
    return tuple(sorted(scripts)) if len(scripts) > 1 else ()


def _escaped(char: str) -> str:
    number = ord(char)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _places(middle: str, reasons: Sequence[Reason]) -> Iterator[str]:
    """Yield what stands around the first places in a text that the findings name."""
    shown = 0
    for word in dict.fromkeys(_words(reasons)):
        at = middle.find(word)
        if at < 0 or shown >= _PLACES:
            continue
        shown += 1
        yield middle[max(0, at - _AROUND) : at + len(word) + _AROUND]


def _words(reasons: Sequence[Reason]) -> Iterator[str]:
    """Yield what the findings quote first, then their single words."""
    found = [match for each in reasons for match in _NAMED.finditer(each.message)]
    yield from (text for match in found for text in match.groups()[:3] if text)
    yield from (match[4] for match in found if match[4])
