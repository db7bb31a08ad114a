"""Says what a shell command would change, by reading it the way a shell would.

Every simple command of a line is judged by itself; a line that cannot be read, and a program that
is not known to read only, count as changing something. Never runs anything and never expands
variables. What is known of programs is in program_tables.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fmos_trust.programs import judge, paths_in, program_of
from fmos_trust.shell import MOST_CHARACTERS, Line, Simple, UnreadableCommandError, read_line

_MAX_DEPTH = 8
_HARMLESS_TARGETS = frozenset(
    ("/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/fd/1", "/dev/fd/2", "-")
)
_WRITING = frozenset((">", ">>", ">|", "&>", "&>>", ">&", "<>"))
_TOO_DEEP = "commands are nested too deeply to be judged"


@dataclass(frozen=True, slots=True)
class Started:
    """One program that a command starts, and whether it changes anything itself.

    `paths` are its words that may be paths.
    """

    program: str
    words: tuple[str, ...]
    redirections: tuple[tuple[str, str], ...]
    paths: tuple[str, ...]
    changes: bool

    @property
    def written(self) -> tuple[str, ...]:
        """The targets that it writes to by redirection."""
        return tuple(to for operator, to in self.redirections if _writes(operator, to))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a command does that may not be taken back, one sentence each; empty is harmless.

    `unreadable` says why it could not be read, or is empty; `started` is all that was read.
    """

    findings: tuple[str, ...] = ()
    unreadable: str = ""
    started: tuple[Started, ...] = ()

    @property
    def destructive(self) -> bool:
        """Whether anything was found."""
        return bool(self.findings)


@dataclass(slots=True)
class _Reading:
    findings: dict[str, None] = field(default_factory=dict)
    started: list[Started] = field(default_factory=list)
    unreadable: str = ""

    def add(self, finding: str) -> None:
        if finding:
            self.findings[finding] = None

    def give_up(self, why: str, finding: str = "") -> None:
        self.unreadable = self.unreadable or why
        self.add(finding or f"the command cannot be read ({why})")


def judge_command(command: str | Sequence[str]) -> Judgement:
    """Judge a command line, or an argument vector that no shell will read."""
    return read_command(command)


def read_command(command: str | Sequence[str]) -> Judgement:
    """Return what a command line, or an argument vector, starts and would change."""
    return _read(command if isinstance(command, str) else tuple(command))


@functools.lru_cache(maxsize=256)
def _read(command: str | tuple[str, ...]) -> Judgement:
    reading = _Reading()
    if isinstance(command, str):
        _read_line(command, 0, reading)
    elif sum(map(len, command)) > MOST_CHARACTERS:
        reading.give_up(f"it is longer than {MOST_CHARACTERS:,} characters")
    else:
        _read_words(Simple(words=command), 0, reading)
    return Judgement(tuple(reading.findings), reading.unreadable, tuple(reading.started))


def _read_line(text: str, depth: int, reading: _Reading) -> None:
    if depth > _MAX_DEPTH:
        reading.give_up(_TOO_DEEP, _TOO_DEEP)
        return
    try:
        line = read_line(text)
    except UnreadableCommandError as error:
        reading.give_up(str(error))
        return
    _read_parts(line, depth, reading)


def _read_parts(line: Line, depth: int, reading: _Reading) -> None:
    for inner in line.substitutions:
        _read_line(inner, depth + 1, reading)
    for simple in line.commands:
        for finding in _in_redirections(simple):
            reading.add(finding)
        _read_words(simple, depth, reading)


def _in_redirections(simple: Simple) -> Iterator[str]:
    for operator, target in simple.redirections:
        if _writes(operator, target):
            verb = "appends to" if operator.endswith(">>") else "overwrites"
            yield f"{operator[-2:].strip('&|<') or '>'!r} {verb} {target!r}"


def _writes(operator: str, target: str) -> bool:
    duplicates = operator == ">&" and (target.isdigit() or target == "-")
    return operator in _WRITING and not duplicates and target not in _HARMLESS_TARGETS


def _read_words(simple: Simple, depth: int, reading: _Reading, *, fed: bool = False) -> None:
    ruling = judge(simple, fed=fed)
    reading.add(ruling.finding)
    if simple.words or simple.redirections:
        program = program_of(simple.words[0]) if simple.words else ""
        paths = tuple(paths_in(simple.words[1:], ruling.text))
        changes = bool(ruling.finding)
        started = Started(program, simple.words, simple.redirections, paths, changes)
        reading.started.append(started)
    if (ruling.vectors or ruling.lines) and depth >= _MAX_DEPTH:
        reading.give_up(_TOO_DEEP, _TOO_DEEP)
        return
    for words in ruling.vectors:
        inner = Simple(words=words, piped=simple.piped, redirections=simple.redirections)
        _read_words(inner, depth + 1, reading, fed=ruling.fed or fed)
    for text in ruling.lines:
        _read_line(text, depth + 1, reading)
