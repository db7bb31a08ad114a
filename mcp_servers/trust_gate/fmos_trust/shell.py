"""Reads a shell command line into simple commands, redirections and substitutions.

Built on shlex with punctuation characters. Quoted punctuation is hidden from shlex first, so that
`grep ">" f` is not a redirection. What this reader does not understand it refuses.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_PUNCTUATION = "();<>|&\n"
_SHIFT = 0xE000  # private use area: quoted punctuation travels through shlex as these
_HIDE = str.maketrans({c: chr(_SHIFT + ord(c)) for c in _PUNCTUATION})
_SHOW = str.maketrans({chr(_SHIFT + ord(c)): c for c in _PUNCTUATION})
#: What stands for a substitution in a word: its text is judged apart.
COMPUTED = "$()"
_OPERATORS = (
    "&>>", "<<<", "<<-", "&>", ">>", ">|", ">&", "<<", "<&", "<>", "&&", "||", ";;", "|&",
    "|", ";", "&", "(", ")", "\n", "<", ">",
)  # fmt: skip
_REDIRECTIONS = frozenset(("&>>", "<<<", "<<", "<<-", "&>", ">>", ">|", ">&", "<&", "<>", "<", ">"))
_DESCRIPTOR = re.compile(r"(?<![^\s();<>|&])\d+(?=[<>])")
_PIPES = frozenset(("|", "|&"))
_RESERVED = frozenset(
    ("{", "}", "!", "if", "then", "else", "elif", "fi", "do", "done", "while", "until", "coproc")
)


class UnreadableCommandError(ValueError):
    """The text is not a command line that this reader understands."""


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
    if "\0" in text or any(_SHIFT <= ord(c) < _SHIFT + 256 for c in text):
        raise UnreadableCommandError("it holds characters that no command needs")
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
    return Line(tuple(_commands(list(_split(tokens)))), tuple(scanner.substitutions))


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
        else:
            self._emit(char, toggles=char == '"' or (char == "'" and not self._quote))

    def _emit(self, char: str, *, toggles: bool) -> None:
        if toggles:
            self._quote = "" if self._quote else char
        self.out.append(char.translate(_HIDE) if self._quote and not toggles else char)
        self._at += 1

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
        self.out.append(COMPUTED.translate(_HIDE))
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


def _split(tokens: list[str]) -> Iterator[_Token]:
    """Cut runs of punctuation such as `>&` or `)|` into operators."""
    for token in tokens:
        if token == "" or token[0] not in _PUNCTUATION:
            yield _Token(token.translate(_SHOW), False)
            continue
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
