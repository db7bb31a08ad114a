"""Commands: the programs that a line starts, what it redirects, and what it would change."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fmos_trust.commands import Judgement, Started, read_command
from fmos_trust.operators.model import text_of, unreadable

_MOST = 65_536


@dataclass(frozen=True, slots=True)
class CommandValue:
    """A command line or argument vector that could be read whole.

    `programs` are the names of all that it starts, also through sudo, xargs or `sh -c`.
    `redirections` are pairs of operator and target. `effects` says what it would change.
    """

    text: str
    programs: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    redirections: tuple[tuple[str, str], ...]
    effects: tuple[str, ...]

    @property
    def only_reads(self) -> bool:
        """Whether nothing in it changes anything, as far as it can be told."""
        return not self.effects


def command_of(value: str | Sequence[str]) -> CommandValue:
    """Return what a command line, or an argument vector that no shell reads, would start.

    Raises:
        OperatorError: if it cannot be read, or computes what it starts.
    """
    if isinstance(value, str):
        return _of_line(text_of("a command", value, _MOST).strip())
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise unreadable("a command", value, "it is neither text nor a list of words")
    words = tuple(text_of("a command", word, _MOST) for word in value)
    return _value(shlex.join(words), read_command(words), words)


@functools.lru_cache(maxsize=512)
def _of_line(text: str) -> CommandValue:
    return _value(text, read_command(text), text)


def _value(text: str, found: Judgement, value: object) -> CommandValue:
    if found.unreadable:
        raise unreadable("a command", value if isinstance(value, str) else text, found.unreadable)
    return CommandValue(
        text=text,
        programs=tuple(_names(found.started)),
        words=tuple(each.words for each in found.started),
        redirections=tuple(pair for each in found.started for pair in each.redirections),
        effects=found.findings,
    )


def _names(started: Sequence[Started]) -> Iterator[str]:
    yield from dict.fromkeys(each.program for each in started if each.program)
