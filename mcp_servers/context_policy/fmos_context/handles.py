"""Reads parts of a paged-out text: a span of it, or the lines that match a pattern."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from fmos.errors import ArgumentError
from fmos_context.model import Span

#: A span stays below the hard cap of the size rule, or reading it would page it out again.
_SPAN_BYTES = 16 * 1024
_PATTERN_SECONDS = 5
_SHOWN_CHARACTERS = 80

#: A pattern without these takes time in proportion to the text.
_REPEATS = frozenset("*+{?")

_SEARCH = """
import json, re, sys
pattern, text = json.load(sys.stdin)
search = re.compile(pattern).search
json.dump([n for n, line in enumerate(text.split("\\n")) if search(line)], sys.stdout)
"""


def span(text: str, offset: int, limit: int, *, matches: int | None = None) -> Span:
    """Return at most `limit` characters from `offset`.

    Raises:
        ArgumentError: if the offset is beyond the end.
    """
    if offset > len(text):
        raise ArgumentError(
            f"argument 'offset': {offset} is beyond the end, at {len(text)} characters",
            hint="start at 0 or at the next_offset of the call before",
        )
    part = text[offset : offset + limit]
    data = part.encode()
    if len(data) > _SPAN_BYTES:
        part = data[:_SPAN_BYTES].decode("utf-8", "ignore")
    end = offset + len(part)
    next_offset = end if end < len(text) else None
    return Span(text=part, offset=offset, total=len(text), next_offset=next_offset, matches=matches)


def matching_lines(text: str, pattern: str) -> list[str]:
    """Return the lines that match, each as `number: line`, counted from 1.

    Raises:
        ArgumentError: if the pattern is not a regular expression, or takes too long.
    """
    try:
        search = re.compile(pattern).search
    except (re.error, OverflowError, RecursionError) as error:
        raise ArgumentError(
            f"argument 'pattern': {_shown(pattern)} is not a regular expression: {error}",
            hint="put a backslash before the characters .^$*+?{}[]|() to find them as they are",
        ) from error
    lines = text.split("\n")
    if _REPEATS.isdisjoint(pattern):
        found = [number for number, line in enumerate(lines) if search(line)]
    else:
        found = _search_apart(text, pattern)
    return [f"{number + 1}: {lines[number]}" for number in found]


def _search_apart(text: str, pattern: str) -> list[int]:
    """Search in a process of its own: only that can be stopped when a pattern backtracks."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=json.dumps([pattern, text]).encode(),
            stdout=subprocess.PIPE,
            timeout=_PATTERN_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise ArgumentError(
            f"argument 'pattern': {_shown(pattern)} took longer than {_PATTERN_SECONDS} s",
            hint="use a simpler pattern, without one repeat inside another",
        ) from error
    found: list[int] = json.loads(done.stdout)
    return found


def _shown(pattern: str) -> str:
    cut = pattern if len(pattern) <= _SHOWN_CHARACTERS else pattern[: _SHOWN_CHARACTERS - 3] + "..."
    return repr(cut)
