"""Names with versions (`asr_local_v2`) and ranges of them (`asr_local_v2..v3`).

A version is what follows a last `v` that begins the name or stands after `_`, `-`, `@` or `/`.
Versions compare as numbers: `v2`, `v2.0` and `v02` are the same, and `v2.10` is above `v2.9`.
Ranges include both ends; `v3.1` is above `v3`, so it is not in `v2..v3`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from fmos.errors import ArgumentError

Version = tuple[int, ...]

_VERSIONED = re.compile(r"(?P<base>(?:.*[_\-@/])?)v(?P<version>[0-9]{1,9}(?:\.[0-9]{1,9}){0,5})")
_DOTS = ".."


@dataclass(frozen=True, slots=True)
class VersionedName:
    """One thing: its text as written, what it is a version of, and which; () without a version."""

    text: str
    base: str
    version: Version = ()

    @property
    def identity(self) -> tuple[str, Version]:
        """What two spellings of the same thing have in common."""
        return self.base, self.version


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a document asks for: one thing, or every version of it from `low` to `high`."""

    text: str
    low: VersionedName
    high: VersionedName

    @property
    def is_range(self) -> bool:
        """Whether more than one version answers."""
        return self.low.version != self.high.version

    def admits(self, name: VersionedName) -> bool:
        """Return whether a thing is what is asked for."""
        return self.low.base == name.base and (
            self.low.version <= name.version <= self.high.version
            if self.low.version
            else not name.version
        )


@functools.lru_cache(maxsize=4096)
def parse_name(text: str) -> VersionedName:
    """Return the parts of a name; one without a version is its own base."""
    found = _VERSIONED.fullmatch(text)
    if found is None:
        return VersionedName(text, text)
    return VersionedName(text, found["base"], parse_version(found["version"]))


def parse_version(text: str) -> Version:
    """Return the numbers of `2.1` or `v2.1`, without zeros at the end.

    Raises:
        ArgumentError: naming the text that is no version.
    """
    digits = text.removeprefix("v").split(".")
    if not all(part.isascii() and part.isdigit() for part in digits):
        raise ArgumentError(
            f"{text!r} is not a version", hint="write numbers joined by dots, such as v2 or v2.1"
        )
    numbers = [int(part) for part in digits]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@functools.lru_cache(maxsize=4096)
def parse_wanted(text: str) -> Wanted:
    """Return what `asr_local_v2`, `asr_local_v2..v3` or `v2.1..v3` asks for.

    Raises:
        ArgumentError: naming the range, if an end has no version, the ends are of two things, or
            the range is empty.
    """
    if _DOTS not in text:
        name = parse_name(text)
        return Wanted(text, name, name)
    first, _, last = text.partition(_DOTS)
    low, high = parse_name(first.strip()), parse_name(last.strip())
    if not low.version or not high.version:
        end = first if not low.version else last
        raise ArgumentError(
            f"the range {text!r} is not complete: {end.strip()!r} has no version",
            hint="write both ends with a version, such as asr_local_v2..v3",
        )
    if high.base not in ("", low.base):
        raise ArgumentError(
            f"the range {text!r} joins two things: {low.base!r} and {high.base!r}",
            hint="write one range for each of them",
        )
    text_of_high = high.text if high.base else low.base + high.text
    high = VersionedName(text_of_high, low.base, high.version)
    if low.version > high.version:
        raise ArgumentError(
            f"the range {text!r} is empty: its first version is above its last",
            hint="write the lower version first",
        )
    return Wanted(text, low, high)
