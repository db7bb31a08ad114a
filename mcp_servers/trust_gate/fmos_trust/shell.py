"""Reads a shell command line into simple commands, redirections and substitutions.

Built on shlex with punctuation characters. Quoted punctuation is hidden from shlex first, so that
`grep ">" f` is not a redirection. What this reader does not understand it refuses.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_PUNCTUATION = "();<>|&\n"
_EXPANDED = "$*?[]{}~#"
_SHIFT = 0xE000  # private use area: quoted punctuation travels through shlex as these
_HIDE = str.maketrans({c: chr(_SHIFT + ord(c)) for c in _PUNCTUATION + _EXPANDED})
_HIDE_IN_DOUBLE = {code: to for code, to in _HIDE.items() if code != ord("$")}
_SHOW = str.maketrans({chr(_SHIFT + ord(c)): c for c in _PUNCTUATION + _EXPANDED})
#: What stands for a substitution in a word: its text is judged apart.
COMPUTED = "$()"
_OPERATORS = (
    "&>>", "<<<", "<<-", "&>", ">>", ">|", ">&", "<<", "<&", "<>", "&&", "||", ";;", "|&",
    "|", ";", "&", "(", ")", "\n", "<", ">",
)  # fmt: skip
_REDIRECTIONS = frozenset(("&>>", "<<<", "<<", "<<-", "&>", ">>", ">|", ">&", "<&", "<>", "<", ">"))
_DESCRIPTOR = re.compile(r"(?<![^\s();<>|&])\d+(?=[<>])")
_LIVE = re.compile(r"\$|^-?[*?\[]|\{[^{}]*(?:,|\.\.)")
_TRICKY_EXPANSION = re.compile(r"\$\{[^}]*[@!\[]")
_QUOTES_IN_COMMENT = frozenset("'\"`\\$")
#: Longer texts are not read: nobody types them, and reading takes time.
MOST_CHARACTERS = 4_096
_MOST_COMMANDS = 400
_LONGEST_RUN = 64
_PIPES = frozenset(("|", "|&"))
_RESERVED = frozenset(
    ("{", "}", "!", "if", "then", "else", "elif", "fi", "do", "done", "while", "until", "coproc")
)


class UnreadableCommandError(ValueError):
    """The text is not a command line that this reader understands."""


class Loose(str):
    """A word that a shell expands, so that it may become other words, and options."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Simple:
    """One program with its arguments. `piped`: its input comes from another command."""

    words: tuple[str, ...] = ()
    redirections: tuple[tuple[str, str], ...] = ()
    piped: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """All simple commands of a line, and the text of its command substitutions."""

    commands: tuple[Simple, ...]
    substitutions: tuple[str, ...]


def read_line(text: str) -> Line:
    """Read a command line.

    Raises:
        UnreadableCommandError: if it uses a form that is not understood, or a quote is open.
    """
    if len(text) > MOST_CHARACTERS:
        raise UnreadableCommandError(f"it is longer than {MOST_CHARACTERS:,} characters")
    if "\0" in text or any(_SHIFT <= ord(c) < _SHIFT + 256 for c in text):
        raise UnreadableCommandError("it holds characters that no command needs")
    if _TRICKY_EXPANSION.search(text):
        raise UnreadableCommandError("it computes with ${..}")
    scanner = _Scanner(text.replace("\\\n", "").replace("\r", "\n"))
    scanner.run()
    # `2>` names a descriptor, not an argument.
    text = _DESCRIPTOR.sub("", "".join(scanner.out))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise UnreadableCommandError(str(error).rstrip(".").lower()) from error
    commands = tuple(itertools.islice(_commands(list(_split(tokens))), _MOST_COMMANDS))
    if len(commands) + len(scanner.substitutions) >= _MOST_COMMANDS:
        raise UnreadableCommandError(f"it has {_MOST_COMMANDS} commands and more")
    return Line(commands, tuple(scanner.substitutions))


class _Scanner:
    """Hides quoted punctuation and cuts out command substitutions, following the quotes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.out: list[str] = []
        self.substitutions: list[str] = []
        self._at = 0
        self._quote = ""

    def run(self) -> None:
        """Scan the whole text."""
        while self._at < len(self.text):
            self._step()

    def _step(self) -> None:
        char = self.text[self._at]
        if self._quote == "'":
            self._emit(char, toggles=char == "'")
        elif char == "\\":
            self.out.append(self.text[self._at : self._at + 2].translate(_HIDE))
            self._at += 2
        elif self.text.startswith(("$'", '$"'), self._at) and not self._quote:
            raise UnreadableCommandError("it uses $'..' quoting")
        elif self._opens_substitution(char):
            self._cut()
        elif char == "#" and not self._quote and self._begins_word():
            self._comment()
        else:
            self._emit(char, toggles=char == '"' or (char == "'" and not self._quote))

    def _emit(self, char: str, *, toggles: bool) -> None:
        if toggles:
            self._quote = "" if self._quote else char
        hidden = _HIDE if self._quote == "'" else _HIDE_IN_DOUBLE
        self.out.append(char.translate(hidden) if self._quote and not toggles else char)
        self._at += 1

    def _begins_word(self) -> bool:
        return self._at == 0 or self.text[self._at - 1] in f" \t{_PUNCTUATION}"

    def _comment(self) -> None:
        """Pass over a comment; a shell that reads none must see the same commands."""
        end = self.text.find("\n", self._at)
        end = len(self.text) if end < 0 else end
        comment = self.text[self._at : end]
        if _QUOTES_IN_COMMENT & set(comment):
            raise UnreadableCommandError("it has quotes in a comment")
        self.out.append(comment)
        self._at = end

    def _opens_substitution(self, char: str) -> bool:
        if char == "`" or self.text.startswith("$(", self._at):
            return True
        return not self._quote and self.text.startswith(("<(", ">("), self._at)

    def _cut(self) -> None:
        if self.text[self._at] == "`":
            start, end = self._at + 1, self.text.find("`", self._at + 1)
        else:
            start, end = self._at + 2, self._closing(self._at + 2)
        if end < 0:
            raise UnreadableCommandError("a substitution is not closed")
        self.substitutions.append(self.text[start:end])
        self.out.append(COMPUTED.translate(_HIDE_IN_DOUBLE))  # its `$` stays live
        self._at = end + 1

    def _closing(self, start: int) -> int:
        """Find the matching parenthesis. A wrong guess leaves an odd quote, which is refused."""
        depth = 1
        for position in range(start, len(self.text)):
            depth += {"(": 1, ")": -1}.get(self.text[position], 0)
            if depth == 0:
                return position
        return -1


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    operator: bool


def _word(token: str) -> str:
    shown = token.translate(_SHOW)
    return Loose(shown) if _LIVE.search(token) else shown


def _split(tokens: list[str]) -> Iterator[_Token]:
    """Cut runs of punctuation such as `>&` or `)|` into operators."""
    for token in tokens:
        if token == "" or token[0] not in _PUNCTUATION:
            yield _Token(_word(token), False)
            continue
        if len(token) > _LONGEST_RUN:
            raise UnreadableCommandError("it has a long run of operators")
        if token.startswith("()"):
            raise UnreadableCommandError("it defines a function")
        while token:
            operator = next(o for o in _OPERATORS if token.startswith(o))
            yield _Token(operator, True)
            token = token[len(operator) :]


def _commands(tokens: list[_Token]) -> Iterator[Simple]:
    words: list[str] = []
    redirections: list[tuple[str, str]] = []
    piped = False
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        if not token.operator:
            words.append(token.text)
        elif token.text in _REDIRECTIONS:
            if position >= len(tokens) or tokens[position].operator:
                raise UnreadableCommandError(f"{token.text!r} has no target")
            redirections.append((token.text, tokens[position].text))
            position += 1
        else:
            yield Simple(_without_reserved(words), tuple(redirections), piped)
            # A group that a pipe feeds: `x | (cat; sh)` keeps its input until the next pipe.
            piped = token.text in _PIPES or (piped and token.text in ("(", ";", "\n", "&&", "||"))
            words, redirections = [], []
    yield Simple(_without_reserved(words), tuple(redirections), piped)


def _without_reserved(words: list[str]) -> tuple[str, ...]:
    start = 0
    while start < len(words) and words[start] in _RESERVED:
        start += 1
    return tuple(words[start:])
