"""What a call reaches by its text: protected places, and paths and addresses outside the scope.

Judges three kinds of arguments alike: those with a role, those that nobody declared but that look
like a path or an address, and the words of commands. What a computed word of a command stands for
cannot be told; the sandbox in which commands run is what keeps them out of the home.
"""

from __future__ import annotations

import fnmatch
import functools
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fmos.contract.globs import SYSTEM_AREA, in_system_area
from fmos.contract.model import Security
from fmos.traps.paths import looks_like_path
from fmos_trust.commands import Started, read_command
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding, finding
from fmos_trust.operators import OperatorError, PathValue, emails_of, in_scopes, path_of, shown
from fmos_trust.shell import COMPUTED, Loose

#: Files by which the programs that hold an agent are configured, and the hooks they run.
CLIENT_FILES = (
    ".claude", ".claude.json", ".mcp.json", "claude_desktop_config.json", ".cursor/mcp.json",
    ".vscode/mcp.json", ".codeium/windsurf/mcp_config.json", ".gemini/settings.json",
    ".codex/config.toml", ".autogen", ".fmos", ".git/hooks", ".git/config",
)  # fmt: skip
_CLIENT_PARTS = tuple(tuple(name.split("/")) for name in CLIENT_FILES)
_CLIENT_WORD = re.compile("|".join(re.escape(name.rsplit("/", 1)[-1]) for name in CLIENT_FILES))
_FMOS_PROGRAM = re.compile(r"(?:fmos(?:-[a-z-]+)?|agentfs)(?:\.exe)?").fullmatch
_FMOS_MODULE = re.compile(r"\b(?:fmos_(?:cli|trust|memory|context|budget)|fmos\.[a-z]|agentfs\.)")
_APPROVES = re.compile(r"\bfmos(?:_cli)?\b.{0,200}?\bapprove\b", re.DOTALL)
_QUOTING = re.compile(r"['\"\\]")
_HARMLESS_FILES = frozenset(
    ("/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/zero",
     "/dev/urandom", "/dev/random", "/dev/fd/0", "/dev/fd/1", "/dev/fd/2")
)  # fmt: skip
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://").match
_FILE_URL = re.compile(r"\s*file:", re.IGNORECASE).match
_ADDRESS = re.compile(r"[^<>]*<[^\s<>@]+@[^\s<>@]+>\s*|\s*(?:mailto:)?[^\s<>@,;]+@[^\s<>@,;]+\s*")
_ADDRESS_AT_MOST = 320
_NAMES_PATH = re.compile(r"path|file|dir|folder|dest|target|save|output|src|source|location", re.I)
_NAMES_ADDRESS = re.compile(
    r"\bto\b|_to\b|\bto_|mail|address|recipient|\bb?cc\b|attendee|participant|invite|share", re.I
)
_BRACES = re.compile(r"\{([^{}]{0,200})\}")
_DEEPEST = 32
_REMEMBERED = 512
_MOST_TEXTS = 20_000
_MOST_STRAY = 256

#: Name of the argument, the text, and whether it looks like a path; else it is like an address.
Stray = list[tuple[str, str, bool]]


def reach_rules(facts: Facts) -> Iterator[Finding]:
    """Find what a call reaches and may not, in all of its arguments."""
    try:
        stray = _stray_texts(facts)
    except _TooManyError:
        yield _denied("the arguments hold more values than can be judged")
        return
    yield from protected_places(facts, stray)
    yield from scope_of_commands(facts)
    yield from scope_of_undeclared(facts, stray)


class _TooManyError(Exception):
    """The arguments hold more values than are looked at."""


def protected_places(facts: Facts, stray: Stray) -> Iterator[Finding]:
    """Find arguments that reach the kernel's own area, the home, or a client's configuration."""
    area = _area_of(facts.home, facts.private)
    writes = facts.effect != "read"
    for text in _path_texts(facts, stray):
        try:
            short = len(text) <= _REMEMBERED
            place = (_place if short else _Area.place_of)(area, text, writes=writes)
        except OperatorError as error:
            yield _denied(str(error))
            return
        if place:
            yield _denied(f"{shown(text)} reaches {place}, which no tool may")
            return
    for command in _commands(facts):
        place = _reached_by(command, area)
        if place:
            yield _denied(f"the command reaches {place}, which no tool may")
            return


def scope_of_commands(facts: Facts) -> Iterator[Finding]:
    """Find words and redirections of commands that lie outside the contract's paths."""
    security = facts.contract.security if facts.contract is not None else None
    if security is None or not is_narrow(security):
        return
    for command in _commands(facts):
        judgement = read_command(command)
        if judgement.unreadable:
            yield _unclear("the command cannot be read, so its paths cannot be told")
            return
        yield from _CommandScope(security).judge(judgement.started)


def scope_of_undeclared(facts: Facts, stray: Stray) -> Iterator[Finding]:
    """Find values in arguments without a role that are paths or addresses out of the scope."""
    if facts.contract is None:
        return
    security = facts.contract.security
    narrow, addressed = is_narrow(security), bool(security.recipient_scopes())
    reads = facts.effect == "read"
    for name, text, is_path in stray:
        if is_path and narrow:
            yield from _stray_path(name, text, security, reads=reads)
        elif not is_path and addressed and not reads:
            yield from _stray_address(name, text, security)


def is_narrow(security: Security) -> bool:
    """Return whether there are paths outside of a contract's scopes."""
    scopes = (*security.read_scopes(), *security.write_scopes())
    return any("/**" not in scope for scope in scopes)


@dataclass(frozen=True, slots=True)
class _Area:
    """The home by all its names, folded and split."""

    homes: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]

    def place_of(self, text: str, *, writes: bool) -> str:
        """Return what a path reaches that it may not; empty for any other path.

        Raises:
            OperatorError: if the path cannot be judged.
        """
        path = path_of(text)
        absolute = text.startswith("/")
        for reading in path.readings:
            folded = _folded(reading)
            if any(folded == home or folded.startswith(f"{home}/") for home in self.homes):
                return "the kernel's own area"
            parts = folded.strip("/").split("/")
            if not absolute and ".fmos" in parts:
                return "the kernel's own area"
            if writes and any(_holds(parts, each) for each in _CLIENT_PARTS):
                return "the configuration of a program that holds agents"
        return ""

    def may_match(self, word: str) -> bool:
        """Return whether a word with wildcards may become a path of the home."""
        if not any(char in word for char in "*?[{"):
            return False
        return any(self._may_become(each, word) for each in _alternatives(word.casefold()))

    def _may_become(self, pattern: str, word: str) -> bool:
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        if any(part[:1] == "." and _globbed(part, ".fmos") for part in parts):
            return True
        if not word.startswith("/"):
            return False
        return any(
            len(parts) >= len(home) and all(map(_globbed, parts, home)) for home in self.parts
        )


@functools.lru_cache(maxsize=64)
def _area_of(home: str, private: tuple[str, ...]) -> _Area:
    names = {home, *private, SYSTEM_AREA} - {""}
    homes = tuple(sorted(_folded(name) for name in names))
    return _Area(homes, tuple(tuple(name.strip("/").split("/")) for name in homes))


@functools.lru_cache(maxsize=4096)
def _place(area: _Area, text: str, *, writes: bool) -> str:
    return area.place_of(text, writes=writes)


def _alternatives(word: str) -> list[str]:
    """Return what the first braces of a word expand to; inner and further ones match anything."""
    match = _BRACES.search(word)
    if match is None:
        return [word]
    rest = _BRACES.sub("*", word[match.end() :])
    return [f"{word[: match.start()]}{each}{rest}" for each in match[1].split(",")]


def _globbed(pattern: str, name: str) -> bool:
    hidden = name.startswith(".") and not pattern.startswith(".")
    return not hidden and fnmatch.fnmatchcase(name, pattern)


def _folded(path: str) -> str:
    """Return a path as file systems without case, and Windows, would compare it."""
    return "/".join(part.rstrip(" .") or part for part in path.casefold().split("/"))


def _holds(parts: list[str], wanted: tuple[str, ...]) -> bool:
    """Return whether a path has these names one after the other."""
    first = wanted[0]
    return any(
        part == first and tuple(parts[at : at + len(wanted)]) == wanted
        for at, part in enumerate(parts)
    )


def _path_texts(facts: Facts, stray: Stray) -> Iterator[str]:
    yield from facts.texts("path")
    yield from (text for text in facts.texts("url") if _FILE_URL(text))
    yield from (text for _, text, is_path in stray if is_path)


def _stray_texts(facts: Facts) -> Stray:
    """Return what in arguments without a role looks like a path or an address, and its name."""
    found: Stray = []
    for looked_at, (name, text) in enumerate(_undeclared(facts)):
        if looks_like_path(text):
            found.append((name, text, True))
        elif _looks_like_address(text):
            found.append((name, text, False))
        if len(found) > _MOST_STRAY or looked_at > _MOST_TEXTS:
            raise _TooManyError
    return found


def _undeclared(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield each text in an argument without a role, with the name that it stands under."""
    given, roles = facts.operation.arguments, facts.roles
    waiting: list[tuple[str, Any, int]] = [
        (name, value, 0) for name, value in reversed(given.items()) if name not in roles
    ]
    while waiting:
        name, value, depth = waiting.pop()
        if isinstance(value, str):
            yield name, value
        elif depth >= _DEEPEST and isinstance(value, Mapping | list | tuple):
            raise _TooManyError
        elif isinstance(value, Mapping):
            waiting.extend((str(key), each, depth + 1) for key, each in value.items())
            waiting.extend((name, str(key), depth + 1) for key in value)
        elif isinstance(value, list | tuple):
            waiting.extend((name, each, depth + 1) for each in value)


def _commands(facts: Facts) -> Iterator[str | tuple[str, ...]]:
    for value in facts.values("command"):
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            yield tuple(str(word) for word in value)


@functools.lru_cache(maxsize=256)
def _reached_by(command: str | tuple[str, ...], area: _Area) -> str:
    """Return what a command reaches or runs that no agent may; empty for any other."""
    text = command if isinstance(command, str) else " ".join(command)
    plain = _QUOTING.sub("", text).casefold()
    if any(home in plain for home in area.homes) or "fmos_home" in plain:
        return "the kernel's own area"
    if _APPROVES.search(plain):
        return "the programs of FMOS itself"
    judgement = read_command(command)
    for started in judgement.started:
        if _runs_fmos(started):
            return "the programs of FMOS itself"
        for word in _all_words(started):
            place = _place_of_word(word, area, changes=started.changes or word in started.written)
            if place:
                return place
    return ""


def _runs_fmos(started: Started) -> bool:
    name = posixpath.basename(started.program)
    if _FMOS_PROGRAM(name) or (any(c in name for c in "*?[") and fnmatch.fnmatch("fmos", name)):
        return True
    if not started.changes:
        return False
    words = started.words[1:]
    named = any(_FMOS_PROGRAM(posixpath.basename(word)) for word in words[:4])
    return named or any(_FMOS_MODULE.search(word) for word in words)


def _place_of_word(word: str, area: _Area, *, changes: bool) -> str:
    if area.may_match(word):
        return "the kernel's own area"
    if "/" not in word and "fmos" not in word.casefold() and not looks_like_path(word):
        return _client_file(word) if changes else ""
    if _URL(word) and not _FILE_URL(word):
        return ""
    try:
        return area.place_of(word, writes=changes)
    except OperatorError:
        return ""  # a pattern or a text; the scope judges what is a path


def _client_file(word: str) -> str:
    found = _CLIENT_WORD.fullmatch(word)
    return "the configuration of a program that holds agents" if found else ""


def _all_words(started: Started) -> Iterator[str]:
    for word in started.words[1:]:
        yield word
        if "://" not in word:
            yield from (part for mark in "=@:," for part in word.split(mark)[1:])
        if word.startswith("-") and len(word) > 2:
            yield word[2:]
    yield from (target for _, target in started.redirections)


class _CommandScope:
    """Follows a command line, and the folder it is in, against the contract's paths."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self._folder: str | None = None

    def judge(self, started: Iterable[Started]) -> Iterator[Finding]:
        for each in started:
            for word in each.paths:
                yield from self._word(word, each)
            for operator, target in each.redirections:
                yield from self._target(operator, target, each)
            if each.program in ("cd", "pushd"):
                self._enter(each)

    def _enter(self, started: Started) -> None:
        word = next((word for word in started.words[1:] if not word.startswith("-")), "~")
        try:
            self._folder = path_of(word, self._folder or "/").text
        except OperatorError:
            self._folder = "/"

    def _word(self, word: str, started: Started) -> Iterator[Finding]:
        if isinstance(word, Loose) and ("$" in word or COMPUTED in word):
            yield _unclear(f"where {shown(word)} leads cannot be told")
            return
        found = self._path(word)
        if found is None:
            return
        if isinstance(found, str):
            yield _unclear(found)
        elif not (self._may(found, write=False) or self._may(found, write=True)):
            yield _outside(word, self._security)
        elif started.changes and not self._may(found, write=True):
            yield _unclear(f"the command may change {shown(word)}, which may only be read")

    def _target(self, operator: str, target: str, started: Started) -> Iterator[Finding]:
        if operator in ("<<", "<<-", "<<<") or target.isdigit() or target == "-":
            return
        if isinstance(target, Loose) and "$" in target:
            yield _unclear(f"where {shown(target)} leads cannot be told")
            return
        found = self._path(target)
        if isinstance(found, str):
            yield _unclear(found)
        elif found is not None and not self._may(found, write=target in started.written):
            yield _outside(target, self._security)

    def _path(self, word: str) -> PathValue | str | None:
        """Return the path that a word names, why it cannot be told, or None for no path."""
        if word in _HARMLESS_FILES or not word or (_URL(word) and not _FILE_URL(word)):
            return None
        looks = looks_like_path(word)
        if not looks and self._folder is None:
            return None  # below the folder in which the command starts
        try:
            if self._folder is None and _is_relative(word):
                escapes = posixpath.normpath(word).startswith("..")
                return f"{shown(word)} leaves the folder it starts in" if escapes else None
            return path_of(word, self._folder or "/")
        except OperatorError as error:
            return str(error) if looks else None

    def _may(self, path: PathValue, *, write: bool) -> bool:
        security = self._security
        return _allowed(path, security, write=write)


def _is_relative(word: str) -> bool:
    return not word.lstrip().startswith(("/", "~", "\\")) and not _FILE_URL(word)


def _allowed(path: PathValue, security: Security, *, write: bool) -> bool:
    if any(in_system_area(reading) for reading in path.readings):
        return False
    return in_scopes(path, security.write_scopes() if write else security.read_scopes())


def _stray_path(name: str, text: str, security: Security, *, reads: bool) -> Iterator[Finding]:
    try:
        inside = _allowed(path_of(text), security, write=not reads)
    except OperatorError:
        inside = False
    if not inside:
        effect = "deny" if _NAMES_PATH.search(name) else "ask"
        yield finding(
            effect,
            "execution",
            "trust.path_scope",
            f"the argument {name[:80]!r} holds the path {shown(text)}, which is outside of what "
            "this agent may use",
            rule="path-scope",
            change="give a path inside the contract's scope",
        )


def _looks_like_address(text: str) -> bool:
    return len(text) <= _ADDRESS_AT_MOST and "@" in text and _ADDRESS.fullmatch(text) is not None


def _stray_address(name: str, text: str, security: Security) -> Iterator[Finding]:
    try:
        inside = all(security.may_send_to(each.text) for each in emails_of(text))
    except OperatorError:
        inside = False
    if not inside:
        effect = "deny" if _NAMES_ADDRESS.search(name) else "ask"
        yield finding(
            effect,
            "execution",
            "trust.recipient",
            f"the argument {name[:80]!r} holds the address {shown(text)}, which is not a "
            "recipient of this agent",
            rule="recipient",
            change="use an address that the contract lists",
        )


def _denied(message: str) -> Finding:
    return finding(
        "deny",
        "execution",
        "trust.system_area",
        message,
        rule="system-area",
        change="leave it out: no consent lifts this; what FMOS keeps has tools of its own",
    )


def _outside(word: str, security: Security) -> Finding:
    scopes = (*security.read_scopes(), *security.write_scopes())
    listed = ", ".join(dict.fromkeys(glob for scope in scopes for glob in scope))
    return finding(
        "deny",
        "execution",
        "trust.path_scope",
        f"the command names {shown(word)}, which is outside of what this agent may use ({listed})",
        rule="path-scope",
        change="name a path inside the scope",
    )


def _unclear(why: str) -> Finding:
    return finding(
        "ask",
        "execution",
        "trust.path_scope.unclear",
        f"{why}, and this agent may only use some paths: a person has to agree",
        rule="path-scope",
        change="write plain paths inside the contract's scope",
    )
