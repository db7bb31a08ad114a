"""Says whether a shell command destroys something, by reading it the way a shell would.

Every simple command of a line is judged by itself; a line that cannot be read is destructive.
Never runs anything and never expands variables: a program name that is computed cannot be judged
and counts as destructive. Which programs destroy is in programs.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fmos_trust.programs import judge
from fmos_trust.shell import Line, Simple, UnreadableCommandError, read_line

_MAX_DEPTH = 8
_HARMLESS_TARGETS = frozenset(
    ("/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/fd/1", "/dev/fd/2", "-")
)
_OVERWRITING = frozenset((">", ">|", "&>", ">&"))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a command does that cannot be taken back, one sentence each; empty is harmless."""

    findings: tuple[str, ...] = ()

    @property
    def destructive(self) -> bool:
        """Whether anything was found."""
        return bool(self.findings)


def judge_command(command: str | Sequence[str]) -> Judgement:
    """Judge a command line, or an argument vector that no shell will read."""
    if isinstance(command, str):
        found = _in_line(command, 0)
    else:
        found = _in_words(Simple(words=tuple(command)), 0)
    return Judgement(tuple(dict.fromkeys(found)))


def _in_line(text: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        yield "commands are nested too deeply to be judged"
        return
    try:
        line = read_line(text)
    except UnreadableCommandError as error:
        yield f"the command cannot be read ({error})"
        return
    yield from _in_parts(line, depth)


def _in_parts(line: Line, depth: int) -> Iterator[str]:
    for inner in line.substitutions:
        yield from _in_line(inner, depth + 1)
    for simple in line.commands:
        yield from _in_redirections(simple)
        yield from _in_words(simple, depth)


def _in_redirections(simple: Simple) -> Iterator[str]:
    for operator, target in simple.redirections:
        duplicates = operator == ">&" and (target.isdigit() or target == "-")
        if operator in _OVERWRITING and not duplicates and target not in _HARMLESS_TARGETS:
            yield f"'>' overwrites {target!r}"


def _in_words(simple: Simple, depth: int) -> Iterator[str]:
    ruling = judge(simple)
    if ruling.finding:
        yield ruling.finding
    for words in ruling.vectors:
        if depth >= _MAX_DEPTH:
            yield "commands are nested too deeply to be judged"
            return
        inner = Simple(words=words, piped=simple.piped, redirections=simple.redirections)
        yield from _in_words(inner, depth + 1)
    for text in ruling.lines:
        yield from _in_line(text, depth + 1)
