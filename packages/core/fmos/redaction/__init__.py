"""Finds secrets and personal data in a text, and takes them out of what people and models read.

The rules are data (rules.toml), tried by engine.py. The trust gate watches for what `find_secrets`
finds; what is shown or exported is `redacted`, which also hides values that merely look random.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from fmos.redaction.engine import CLASSES, GENERIC, Span, find, rules

__all__ = [
    "CLASSES", "GENERIC", "Found", "Redactor", "Span", "find", "find_secrets", "hidden_spans",
    "keys_in", "redacted", "rules", "texts_in",
]  # fmt: skip

#: Bits a character from which a run of letters and digits looks random, as detect-secrets has it.
_RANDOM_BITS = 4.5
_RANDOM = re.compile(r"[A-Za-z0-9+/_=-]{24,512}")


@dataclass(frozen=True, slots=True)
class Found:
    """A secret in a text."""

    kind: str
    value: str


def find_secrets(text: str) -> tuple[Found, ...]:
    """Return every secret in a text, each value once."""
    values = {text[span.start : span.end]: span.rule.id for span in reversed(find(text))}
    return tuple(Found(kind, value) for value, kind in reversed(values.items()))


def hidden_spans(text: str, spans: Collection[Span], name: Callable[[Span], str]) -> str:
    """Return a text with each span, in order and without overlaps, replaced by its name."""
    parts: list[str] = []
    done = 0
    for span in spans:
        parts += (text[done : span.start], name(span))
        done = span.end
    return "".join((*parts, text[done:])) if parts else text


class Redactor:
    """Takes secrets out of the texts of one session; a value found in one is hidden in all."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._expression: re.Pattern[str] | None = None

    def learn(self, value: Any) -> None:
        """Look for secrets in every text of a JSON value, so that `redacted` hides them."""
        for text in texts_in(value):
            for item in find_secrets(text):
                if item.value not in self._known:
                    self._known[item.value] = item.kind
                    self._expression = None

    def redacted(self, value: Any) -> Any:
        """Return a JSON value with every secret in its texts replaced by `<kind>`."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {self._text(str(key)): self.redacted(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.redacted(each) for each in value]
        return value

    def _text(self, text: str) -> str:
        self.learn(text)
        if self._known:
            text = self._values().sub(lambda match: f"<{self._known[match[0]]}>", text)
        return _RANDOM.sub(_hidden_if_random, text)

    def _values(self) -> re.Pattern[str]:
        """One expression for all known values, so that many of them take one pass."""
        if self._expression is None:
            longest_first = sorted(self._known, key=len, reverse=True)
            self._expression = re.compile("|".join(map(re.escape, longest_first)))
        return self._expression


def redacted(text: str) -> str:
    """Return a text with every secret that it shows by itself replaced by `<kind>`."""
    return str(Redactor().redacted(text))


def _hidden_if_random(match: re.Match[str]) -> str:
    return "<high-entropy>" if _looks_random(match[0]) else match[0]


def _looks_random(run: str) -> bool:
    """Whether a run has capitals, small letters and digits, and as many kinds as random text."""
    mixed = (str.isupper, str.islower, str.isdigit)
    if run.count("/") > 2 or not all(any(map(kind, run)) for kind in mixed):
        return False
    counts = Counter(run).values()
    bits = -sum(count / len(run) * math.log2(count / len(run)) for count in counts)
    return bits >= min(_RANDOM_BITS, 0.9 * math.log2(len(run)))


def texts_in(value: Any, *, numbers: bool = False, keys: bool = True) -> Iterator[str]:
    """Yield every text in a JSON value, `keys` included, and with `numbers` each number as one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            if keys:
                yield str(key)
            yield from texts_in(each, numbers=numbers, keys=keys)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts_in(each, numbers=numbers, keys=keys)
    elif numbers and value is not None and not isinstance(value, bool):
        yield str(value)


def keys_in(value: Any) -> Iterator[str]:
    """Yield the names of all fields in a JSON value."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from keys_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from keys_in(each)
