"""Merges three versions of a text by line, where the two sides changed different lines.

Lines end with a newline. Why this is not a library: docs/decisions/0005.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from io import BytesIO

MAX_BYTES = 1 << 20
_MAX_LINES = 20_000
# A stretch without any line that is unique on both sides is compared in full up to this product.
_MAX_COMPARED = 40_000
# What comparing may cost for each line; beyond it, what is left counts as different.
_WORK_PER_LINE = 16
_FULL_COST = 16
Lines = Sequence[bytes]
Match = tuple[int, int]
"""The number of a line in the base, and of the same line in a side."""


def merge(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """Return the text with the changes of both sides, or None where they cannot be merged.

    They cannot when a version is binary (it has a NUL or is not UTF-8), above 1 MiB or 20,000
    lines, or when both sides changed the same or neighbouring lines in different ways.
    """
    if not all(_is_text(each) for each in (base, ours, theirs)):
        return None
    old, mine, their = (BytesIO(each).readlines() for each in (base, ours, theirs))
    merged: list[bytes] = []
    for start, stop in _stretches(old, mine, their):
        was = old[start[0] : stop[0]]
        here, there = mine[start[1] : stop[1]], their[start[2] : stop[2]]
        if here == there or there == was:
            merged += here
        elif here == was:
            merged += there
        else:
            return None
    return b"".join(merged)


def _is_text(data: bytes) -> bool:
    if len(data) > MAX_BYTES or b"\0" in data or data.count(b"\n") > _MAX_LINES:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


Triple = tuple[int, int, int]


def _stretches(old: Lines, mine: Lines, their: Lines) -> Iterator[tuple[Triple, Triple]]:
    """Cut the three texts at each base line that both sides kept; the line is a stretch itself."""
    here, there = dict(matches(old, mine)), dict(matches(old, their))
    last: Triple = (0, 0, 0)
    for line in sorted(here.keys() & there.keys()):
        at: Triple = (line, here[line], there[line])
        if at != last:
            yield last, at
        last = (at[0] + 1, at[1] + 1, at[2] + 1)
        yield at, last
    yield last, (len(old), len(mine), len(their))


def matches(one: Lines, other: Lines) -> list[Match]:
    """Return pairs of equal lines, both numbers growing (patience diff).

    Lines that are unique on both sides split the texts; between them, equal beginnings and ends
    are taken, and what is left is compared in full while that is cheap. The work is bounded.
    """
    found: list[Match] = []
    left = _WORK_PER_LINE * (len(one) + len(other))
    waiting = [(0, len(one), 0, len(other))]
    while waiting:
        low, high, low2, high2 = waiting.pop()
        while low < high and low2 < high2 and one[low] == other[low2]:
            found.append((low, low2))
            low, low2 = low + 1, low2 + 1
        while low < high and low2 < high2 and one[high - 1] == other[high2 - 1]:
            high, high2 = high - 1, high2 - 1
            found.append((high, high2))
        if low == high or low2 == high2 or left < 0:
            continue
        left -= high - low + high2 - low2
        anchors = _anchors(one[low:high], other[low2:high2])
        if anchors:
            waiting += _between(anchors, low, high, low2, high2)
        elif (high - low) * (high2 - low2) <= _MAX_COMPARED:
            left -= (high - low) * (high2 - low2) // _FULL_COST
            found += _in_full(one[low:high], other[low2:high2], low, low2)
    return sorted(found)


def _between(
    anchors: list[Match], low: int, high: int, low2: int, high2: int
) -> Iterator[tuple[int, int, int, int]]:
    """Return the stretches that begin at an anchor, and the one before the first."""
    starts = [(low, low2), *((low + line, low2 + line2) for line, line2 in anchors)]
    ends = [*starts[1:], (high, high2)]
    for (start, start2), (end, end2) in zip(starts, ends, strict=True):
        yield start, end, start2, end2


def _anchors(one: Lines, other: Lines) -> list[Match]:
    """Return the longest growing run of lines that are unique on both sides."""
    counts, counts2 = Counter(one), Counter(other)
    where = {line: number for number, line in enumerate(other) if counts2[line] == 1}
    pairs = [
        (number, where[line])
        for number, line in enumerate(one)
        if counts[line] == 1 and line in where
    ]
    return _longest_growing(pairs)


def _longest_growing(pairs: list[Match]) -> list[Match]:
    """Return a longest part of pairs, sorted by the first number, whose second one grows too."""
    tails: list[int] = []
    tail_pairs: list[int] = []
    previous: list[int] = []
    for number, (_, second) in enumerate(pairs):
        place = bisect_left(tails, second)
        previous.append(tail_pairs[place - 1] if place else -1)
        tails[place : place + 1] = [second]
        tail_pairs[place : place + 1] = [number]
    found: list[Match] = []
    number = tail_pairs[-1] if tail_pairs else -1
    while number >= 0:
        found.append(pairs[number])
        number = previous[number]
    return found[::-1]


def _in_full(one: Lines, other: Lines, low: int, low2: int) -> Iterator[Match]:
    for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks():
        for step in range(block.size):
            yield low + block.a + step, low2 + block.b + step
