"""Finds equations in prose: `12 % of 250 is 30`, `3 * (4 + 5) = 27`, `the sum of 1, 2 and 3 is 6`.

A sentence becomes tokens; what stands around an equals sign, as far as it is one expression, is an
equation. Ranges, dates and versions are not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from fmos.verify.expression import NoExpression, bounded, compute
from fmos.verify.numbers import Printed, read_number

Kind = Literal["number", "operator", "open", "close", "percent", "of", "relation", "other"]

#: A line is cut here; longer ones are data, not prose.
MAX_LINE = 4_000
_MAX_TEXT = 200_000
_MAX_TOKENS = 200
_TRIES = 40
#: How far an approximate equation may be off.
NEAR = Fraction(2, 100)

#: What a line must have, so that most are passed over at once: a relation and two numbers.
_MAY = re.compile(
    r"[=≈≃~]|\b(?:is|equals?|makes|gives|comes to|adds? up to|amounts to|sum to|total|of)\b",
    re.IGNORECASE,
)
_TWO = re.compile(r"\d\D+\d")
_WORDS = re.compile(
    r"(?P<approx>≈|~=|≃|(?:is|equals|makes|gives)\s+(?:about|around|roughly|approximately|nearly)\b"
    r"|=\s*(?:~|about\b|roughly\b|approximately\b)|~)"
    r"|(?P<relation>==?|\b(?:is equal to|equals|equal|is|makes|gives|comes to|adds up to"
    r"|add up to|amounts to)\b)"
    r"|(?P<percent>%|\b(?:percent|per cent|pct)\b)"
    r"|(?P<of>\bof\b)"
    r"|(?P<word>\b(?:plus|minus|times|divided by|multiplied by|modulo|mod)\b)"
    r"|(?P<operator>\*\*|[-+*/^×·÷−–⋅]|(?<=[\d )])x(?=[ (]?\d))"
    r"|(?P<open>\()|(?P<close>\))"
    r"|(?P<currency>[$€£¥])"
    r"|(?P<space>[ \t\u00a0]+)"
    r"|(?P<other>\w+|.)",
    re.IGNORECASE,
)
_OPERATORS = {
    "×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "plus": "+",
    "minus": "-", "times": "*", "divided by": "/", "multiplied by": "*", "modulo": "%", "mod": "%",
    "x": "*",
}  # fmt: skip
#: What begins a line of a list: not a minus sign, and not a factor.
_MARKER = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_DATE = re.compile(r"\b\d{4}-\d{1,2}(?:-\d{1,2})?\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b")
_LIST = re.compile(
    r"\b(?P<what>sum|total|average|mean|product) of\s+(?P<items>[^=:]{3,2000}?)\s*"
    r"(?:=|≈|:|\b(?P<about>is (?:about|roughly|approximately))|\bis\b|\bequals\b|\bcomes to\b)\s*"
    r"[$€£¥]?\s*(?P<result>-?\d[^\s]*)",
    re.IGNORECASE,
)
_ADD_UP = re.compile(
    r"(?P<items>[$€£¥]?\d[^=:a-zA-Z]{1,400}?\band\s[^=:a-zA-Z]{1,60}?)\s*"
    r"\b(?:add up to|sum to|total)\s+(?P<about>about |roughly )?[$€£¥]?\s*(?P<result>-?\d[^\s]*)",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\s*(?:,\s+(?:and\s+)?|;\s*(?:and\s+)?|\s+and\s+|\s*&\s*|\s+)[$€£¥]?\s*")


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of a sentence; `spaced` says whether space is on both sides."""

    kind: Kind
    text: str
    start: int
    end: int
    number: Printed | None = None
    approximate: bool = False
    in_words: bool = False


@dataclass(frozen=True, slots=True)
class Equation:
    """What is computed, and the number that it is said to be.

    `readings` are the values that the left side can have: `100 + 10 %` is 110 or 100.1.
    """

    left: str
    right: str
    readings: tuple[Fraction, ...]
    said: Printed
    sign: int
    percent: bool
    approximate: bool

    @property
    def holds(self) -> bool:
        """Whether a reading is what is said, as far as its digits are printed."""
        factor = Fraction(100 if self.percent else 1) * self.sign
        values = [value * factor for value in self.readings]
        if self.approximate:
            return any(self.said.is_near(value, NEAR) for value in values)
        return any(self.said.admits(value) for value in values)


def equations_in(text: str) -> Iterator[Equation]:
    """Yield the equations of a text's first 200,000 characters, line by line."""
    for line in text[:_MAX_TEXT].splitlines():
        if len(line) <= MAX_LINE and _MAY.search(line) and _TWO.search(line):
            yield from _of_line(line)


def _of_line(line: str) -> Iterator[Equation]:
    rest = line = _MARKER.sub("", line)
    for pattern in (_LIST, _ADD_UP):
        for found in pattern.finditer(line):
            equation = _of_list(found)
            if equation is not None:
                rest = rest.replace(found[0], " ; ")
                yield equation
    tokens = _tokens(_DATE.sub(lambda date: "@" * len(date[0]), rest))
    for run in _runs(tokens):
        yield from _of_run(run)


def _tokens(line: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(line):
        number = read_number(line, at) if line[at].isdigit() or line[at] == "." else None
        if number is not None and not _is_part(line, at, number.end):
            found.append(Token("number", number.text, at, number.end, number))
            at = number.end
            continue
        match = _WORDS.match(line, at)
        if match is None:
            at += 1
            continue
        token = _token(match, number is not None)
        if token is not None:
            found.append(token)
        at = number.end if number is not None else match.end()
    return found


def _is_part(line: str, start: int, end: int) -> bool:
    """Return whether a number is a part of a word, a version, or a list without spaces."""
    before, after = line[max(0, start - 2) : start], line[end : end + 2]
    times_before = len(before) == 2 and before[1] in "xX" and before[0].isdigit()
    glued = bool(before) and (before[-1].isalpha() or before[-1] in "_#@") and not times_before
    listed = len(before) == 2 and before[-1] in ",." and before[0].isdigit()
    dotted = len(after) == 2 and after[0] in ",." and after[1].isdigit()
    times = after[:1] in ("x", "X") and line[start:end] != "0"  # 5x3, but not 0x10
    word = (bool(after) and after[0].isalpha() and not times) or after[:1] == "_"
    return glued or listed or dotted or word


def _token(match: re.Match[str], in_number: bool) -> Token | None:
    kind = match.lastgroup or "other"
    text, start, end = match[0], match.start(), match.end()
    if in_number or kind == "other":
        return Token("other", text, start, end)
    if kind in ("space", "currency"):
        return None
    if kind in ("approx", "relation"):
        words = text[0].isalpha()
        return Token("relation", text, start, end, approximate=kind == "approx", in_words=words)
    if kind in ("word", "operator"):
        spelled = _OPERATORS.get(text.lower(), text)
        return Token("operator", spelled, start, end, in_words=kind == "word")
    return Token(kind, text, start, end)  # type: ignore[arg-type]


def _runs(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    run: list[Token] = []
    for token in tokens:
        if token.kind == "other":
            if len(run) > 2:
                yield run
            run = []
        else:
            run.append(token)
    if len(run) > 2:
        yield run


def _of_run(run: Sequence[Token]) -> Iterator[Equation]:
    """Yield an equation for each relation between two sides of which one computes something."""
    at = [index for index, token in enumerate(run) if token.kind == "relation"]
    for order, index in enumerate(at):
        before = run[at[order - 1] + 1 if order else 0 : index][-_MAX_TOKENS:]
        after = run[index + 1 : at[order + 1] if order + 1 < len(at) else len(run)][:_MAX_TOKENS]
        relation = run[index]
        left, right = _longest(before, suffix=True), _longest(after, suffix=False)
        if not left or not right:
            continue
        if not _computes(left):
            left, right = right, left
        equation = _equation(left, right, relation)
        if equation is not None:
            yield equation


def _longest(tokens: Sequence[Token], *, suffix: bool) -> list[Token]:
    """Return the longest end (or beginning) of the tokens that is one expression."""
    count = len(tokens)
    for size in range(count, max(0, count - _TRIES), -1):
        part = list(tokens[count - size :] if suffix else tokens[:size])
        if size < count:
            cut = tokens[count - size - 1] if suffix else tokens[size]
            if cut.kind not in ("number", "relation", "close" if suffix else "open"):
                continue  # a piece of a larger expression is not what is claimed
        if _readings(part):
            return part
    return []


def _computes(tokens: Sequence[Token]) -> bool:
    followed = itertools.pairwise(tokens)
    divides = any(a.kind == "percent" and b.kind in ("number", "open") for a, b in followed)
    return divides or any(token.kind in ("operator", "of") for token in tokens[1:])


def _equation(left: list[Token], right: list[Token], relation: Token) -> Equation | None:
    if not _computes(left) or (relation.in_words and _is_range(left)):
        return None
    said, sign, percent = _said(right)
    if said is None:
        values = _readings(right)  # both sides compute: they must be the same
        exact = Printed(values[0], Fraction(0), _spelled(right), 0)
        said, sign, percent = exact, 1, False
    return Equation(
        left=_spelled(left),
        right=_spelled(right),
        readings=_readings(left),
        said=said,
        sign=sign,
        percent=percent,
        approximate=relation.approximate,
    )


def _said(tokens: Sequence[Token]) -> tuple[Printed | None, int, bool]:
    """Return the printed number of a side that is only that, its sign, and if it is a percent."""
    rest, sign = list(tokens), 1
    if rest and rest[0].kind == "operator" and rest[0].text in "+-":
        sign = -1 if rest[0].text == "-" else 1
        rest = rest[1:]
    percent = len(rest) == 2 and rest[1].kind == "percent"
    if rest and rest[0].number is not None and (len(rest) == 1 or percent):
        return rest[0].number, sign, percent
    return None, 1, False


def _is_range(tokens: Sequence[Token]) -> bool:
    """Return whether a hyphen or slash without spaces stands between numbers: `pages 3-5`."""
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        tight = before.end == token.start and token.end == after.start
        if token.kind == "operator" and token.text == "-" and tight and not token.in_words:
            return True
    return False


def _readings(tokens: Sequence[Token]) -> tuple[Fraction, ...]:
    """Return the values that an expression can have; none if it is not one."""
    found: list[Fraction] = []
    for relative in (False, True):
        code, values, differs = _code(tokens, relative)
        if relative and not differs:
            break
        try:
            value = compute(code, values, check=bounded)
        except (NoExpression, ZeroDivisionError):
            continue
        found.append(value)
    return tuple(dict.fromkeys(found))


def _code(tokens: Sequence[Token], relative: bool) -> tuple[str, dict[str, Fraction], bool]:
    """Return the expression with names for its numbers.

    With `relative` a percent that is added or taken away is one of what stands before it.
    """
    parts: list[str] = []
    values: dict[str, Fraction] = {}
    differs = False
    for index, token in enumerate(tokens):
        if token.number is not None:
            name = f"n{len(values)}"
            values[name] = token.number.value
            parts.append(name)
        elif token.kind == "percent":
            follows = tokens[index + 1].kind if index + 1 < len(tokens) else ""
            if follows in ("number", "open"):  # 7 % 3 is the rest of a division
                parts.append("%")
                continue
            values["hundred"] = Fraction(100)
            sign = parts[-2] if len(parts) > 2 else ""
            if sign in ("+", "-") and follows != "of" and len(parts) >= 3:
                differs = True
                if relative:
                    number = parts.pop()
                    parts.pop()
                    values["one"] = Fraction(1)
                    parts = ["(", *parts, ")", "*", "(", "one", sign, number, "/", "hundred", ")"]
                    continue
            parts.append("/hundred")
        elif token.kind == "of":
            parts.append("*")
        else:
            parts.append(token.text)
    return " ".join(parts), values, differs


def _spelled(tokens: Sequence[Token]) -> str:
    return " ".join(token.text for token in tokens).replace("( ", "(").replace(" )", ")")


def _of_list(found: re.Match[str]) -> Equation | None:
    """Return the equation of a sum, average or product of listed numbers."""
    numbers = _listed(found["items"])
    text = found["result"]
    sign = -1 if text.startswith("-") else 1
    said = read_number(text, 1 if sign < 0 else 0)
    if numbers is None or said is None:
        return None
    what = (found.groupdict().get("what") or "sum").lower()
    total = sum(numbers, Fraction(0))
    if what == "product":
        total = Fraction(1)
        for number in numbers:
            total *= number
            if total.numerator.bit_length() > 8192:
                return None
    elif what in ("average", "mean"):
        total /= len(numbers)
    left = f"{what} of {len(numbers)} numbers"
    about = bool(found["about"]) or "≈" in found[0]
    return Equation(left, said.text, (total,), said, sign, False, about)


def _listed(text: str) -> list[Fraction] | None:
    """Return the numbers of a list with nothing else in it, or None."""
    found: list[Fraction] = []
    at, text = 0, text.strip().lstrip("$€£¥ ")
    while at < len(text):
        sign = -1 if text[at] == "-" else 1
        number = read_number(text, at + (sign < 0))
        if number is None:
            return None
        found.append(sign * number.value)
        at = number.end
        between = _BETWEEN.match(text, at)
        if at < len(text) and (between is None or between.end() == at):
            return None
        at = between.end() if between else at
    return found if len(found) > 1 else None
