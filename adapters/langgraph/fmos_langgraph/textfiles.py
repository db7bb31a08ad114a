"""Text files as a model sees them: lines that end in LF, searched for and replaced literally."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

# Atomic, so that the end of a line is never taken for two.
_LINE_END = r"(?>\r\n|\r|\n)"


class Line(NamedTuple):
    """A line of a file that holds what was searched for; `number` counts from 1."""

    path: str
    number: int
    text: str


class Search:
    """A literal search in one file after the other, up to a number of lines and a time."""

    def __init__(self, pattern: str, max_count: int | None, seconds: float) -> None:
        """Take the text to find, the most lines to return, and the time for all files."""
        self._pattern = pattern
        self._needle = pattern.encode(errors="surrogatepass")
        self._max_count = max_count
        self._deadline = time.monotonic() + seconds
        self.found: list[Line] = []
        self.problems: list[str] = []
        self.truncated = False

    def add(self, path: str, raw: bytes) -> bool:
        """Add the matches in a file and say whether to look at another."""
        text = decode(raw) if self._needle in raw else None
        for number, line in enumerate(_lines(text) if text else (), 1):
            if self._pattern not in line:
                continue
            if self._max_count is not None and len(self.found) >= self._max_count:
                self.truncated = True
                return False
            self.found.append(Line(path, number, line))
        return not self.is_late()

    def is_late(self) -> bool:
        """Say whether the time is up, and note it."""
        self.truncated = time.monotonic() > self._deadline
        return self.truncated


def decode(raw: bytes) -> str | None:
    """Return the text of a file, or None where it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def unix(text: str) -> str:
    """Return a text with all line ends as LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(text: str) -> list[str]:
    return unix(text).removesuffix("\n").split("\n")


def replace_lines(text: str, old: str, new: str) -> str:
    """Replace one text by another wherever it is; both are given with line ends as LF.

    What is not replaced keeps its line ends, and new lines end as the first one of the text.
    """
    if "\r" not in text:
        return text.replace(old, new)
    pattern = _LINE_END.join(re.escape(line) for line in old.split("\n"))
    first = re.search(_LINE_END, text)
    end = first.group() if first else "\n"
    return re.sub(pattern, lambda _: new.replace("\n", end), text)
