"""The units verifier: conversions and dimensions, by pint."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, ClassVar

import pint

from fmos.verify.expression import NoExpression, compute
from fmos.verify.model import Claim, Context, Finding, refuted, supported, undecided
from fmos.verify.numbers import Printed, read_number, shown

_MAX_LINE = 4_000
_MAX_TEXT = 200_000
_MAX_FOUND = 100
_MAX_TERMS = 40
#: How far an approximate conversion may be off.
_NEAR = Fraction(2, 100)

#: Words of sentences that are also names of units.
_PROSE = frozenset(
    {
        *("a", "an", "and", "are", "as", "at", "be", "by", "do", "for", "from", "has", "in", "is"),
        *("it", "items", "minus", "more", "of", "on", "or", "people", "per", "percent", "plus"),
        *("than", "that", "the", "then", "this", "times", "to", "us", "was", "were", "with"),
    }
)
_NAME = r"(?:°\s?[CF]|[A-Za-zµμΩ%][A-Za-zµμΩ]{0,24})(?:[²³]|\^?-?[1-9](?![\d.]))?"
#: What a line must have, so that most are passed over at once: two numbers, and a unit after one.
_TWO = re.compile(r"\d\D+\d")
_MEASURED = re.compile(r"\d[ \t\u00a0]*[°%A-Za-zµμΩ]")
_UNIT = re.compile(rf"{_NAME}(?:(?:\s?[/·*]\s?|\sper\s){_NAME}){{0,4}}")
_RELATION = re.compile(
    r"(?P<about>≈|~|=\s*~|(?:is|equals)\s+(?:about|around|roughly|approximately|nearly)\b)"
    r"|=|(?:is equal to|is the same as|equals|is|are|makes|gives)\b"
)
_OPERATOR = re.compile(r"[-+*/×÷−]|\b(?:plus|minus|times|divided by)\b")
_SPELLED = {"×": "*", "÷": "/", "−": "-", "plus": "+", "minus": "-", "times": "*",
            "divided by": "/"}  # fmt: skip
_EXPONENTS = str.maketrans({"²": "^2", "³": "^3", "·": "*", "μ": "µ"})
_DEGREES = {"°c": "degC", "°f": "degF", "celsius": "degC", "fahrenheit": "degF"}


@dataclass(frozen=True, slots=True)
class _Quantity:
    """A number with its unit as written, or without one."""

    number: Printed
    sign: int
    unit: str

    @property
    def text(self) -> str:
        return f"{'-' if self.sign < 0 else ''}{self.number.text} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class _Statement:
    """Terms with operators between them, and what they are said to be, if anything is said."""

    terms: tuple[_Quantity, ...]
    operators: tuple[str, ...]
    said: _Quantity | None
    about: bool

    @property
    def text(self) -> str:
        parts = [self.terms[0].text]
        for operator, term in zip(self.operators, self.terms[1:], strict=True):
            parts += [operator, term.text]
        return " ".join(parts)


class UnitsVerifier:
    """Converts quantities, and finds sums and comparisons of quantities that have none in common.

    A result counts as right if it is, rounded to the digits printed; an approximate one may be off
    by 2 %.
    """

    name = "units"
    claim_types = ("units",)
    cost: ClassVar[Mapping[str, int]] = {"verifier_runs": 1}

    def check(self, claim: Claim, context: Context) -> Finding:
        """Return whether every conversion in the claim holds and no dimensions are mixed."""
        found: list[str] = []
        for statement in _statements(claim.text):
            finding = _judge(statement)
            if finding is None:
                continue
            if finding.verdict != "supported":
                return finding
            found += finding.evidence
            if len(found) >= _MAX_FOUND:
                break
        if not found:
            return undecided("there are no quantities in it that can be compared")
        return supported(f"{len(found)} converted", *found[:8])


def has_quantities(text: str) -> bool:
    """Return whether there is something in a text for the verifier."""
    return any(True for _ in _statements(text))


def _judge(statement: _Statement) -> Finding | None:
    """Return what is found of one statement; None where it says nothing to be checked."""
    try:
        with localcontext() as precision:
            precision.prec = 40
            value = _computed(statement)
            if statement.said is None:
                return None
            return _compared(statement, statement.said, value)
    except pint.DimensionalityError as error:
        what = statement.text + (f" = {statement.said.text}" if statement.said else "")
        return refuted(
            f"{what}: {error.units1} and {error.units2} are not of one dimension", str(error)
        )
    except (pint.errors.PintError, NoExpression, ArithmeticError, ValueError) as error:
        return undecided(f"{statement.text} cannot be computed: {error}")


def _computed(statement: _Statement) -> Any:
    values = {f"n{index}": _quantity(term) for index, term in enumerate(statement.terms)}
    parts = ["n0"]
    for index, operator in enumerate(statement.operators, 1):
        parts += [operator, f"n{index}"]
    return compute(" ".join(parts), values, check=lambda value: None)


def _compared(statement: _Statement, said: _Quantity, value: Any) -> Finding:
    unit = _parsed(said.unit)
    if not hasattr(value, "to"):  # all units are gone: a plain number
        value = _registry().Quantity(value)
    magnitude = Fraction(value.to(unit if unit is not None else "dimensionless").magnitude)
    signed = magnitude * said.sign
    right = said.number.is_near(signed, _NEAR) if statement.about else said.number.admits(signed)
    line = f"{statement.text} = {shown(magnitude)} {said.unit}".rstrip()
    if right:
        return supported("", line)
    return refuted(f"{line}, not {said.text}", line)


def _quantity(term: _Quantity) -> Any:
    value = term.number.value * term.sign
    magnitude = Decimal(value.numerator) / Decimal(value.denominator)
    unit = _parsed(term.unit)
    return _registry().Quantity(magnitude, unit) if unit is not None else magnitude


def _statements(text: str) -> Iterator[_Statement]:
    for line in text[:_MAX_TEXT].splitlines():
        if len(line) <= _MAX_LINE and _TWO.search(line) and _MEASURED.search(line):
            yield from _of_line(line)


def _of_line(line: str) -> Iterator[_Statement]:
    at = 0
    while at < len(line):
        first = _term(line, at) if _begins(line, at) else None
        if first is None:
            at += 1
            continue
        statement, at = _statement(line, *first)
        if statement is not None:
            yield statement


def _begins(line: str, at: int) -> bool:
    if not line[at].isdigit() and line[at] not in "-−":
        return False
    before = line[at - 1] if at else " "
    return not (before.isalnum() or before in ".,_#")


def _statement(line: str, first: _Quantity, at: int) -> tuple[_Statement | None, int]:
    """Return what begins with a quantity, and where it ends."""
    terms, operators = [first], []
    while len(terms) < _MAX_TERMS:
        operator = _OPERATOR.match(line, _skip(line, at))
        follows = _term(line, _skip(line, operator.end())) if operator else None
        if operator is None or follows is None:
            break
        operators.append(_SPELLED.get(operator[0], operator[0]))
        terms.append(follows[0])
        at = follows[1]
    relation = _RELATION.match(line, _skip(line, at))
    said = _term(line, _skip(line, relation.end())) if relation else None
    units = [term.unit for term in (*terms, *((said[0],) if said else ())) if term.unit]
    if said is not None:
        at = said[1]
    mixes = {"+", "-"} & set(operators) and len(units) == len(terms)
    if (said is None and not mixes) or not units or (said and not said[0].unit and not operators):
        return None, at
    about = bool(relation and relation["about"])
    return _Statement(tuple(terms), tuple(operators), said[0] if said else None, about), at


def _term(line: str, at: int) -> tuple[_Quantity, int] | None:
    sign = 1
    if line[at : at + 1] in ("-", "−"):
        sign, at = -1, _skip(line, at + 1)
    number = read_number(line, at) if at < len(line) else None
    if number is None:
        return None
    start = _skip(line, number.end)
    found = _UNIT.match(line, start)
    while found:
        text = found[0]
        if _parsed(text) is not None:
            return _Quantity(number, sign, text), found.end()
        shorter = re.search(r"(?:\s?[/·*]\s?|\sper\s)[^/·*]*$", text)
        found = (
            re.compile(re.escape(text[: shorter.start()])).match(line, start) if shorter else None
        )
    return _Quantity(number, sign, ""), number.end


def _skip(line: str, at: int) -> int:
    while at < len(line) and line[at] in " \t\u00a0":
        at += 1
    return at


@functools.lru_cache(maxsize=1)
def _registry() -> Any:
    exact: Any = Decimal  # pint's annotation knows only float
    return pint.UnitRegistry(non_int_type=exact, autoconvert_offset_to_baseunit=True)


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """Return the unit of a text, or None for one that is none."""
    if not text or len(text) > 100 or text.lower() in _PROSE:
        return None
    spelled = text.translate(_EXPONENTS).replace(" per ", "/")
    names: Sequence[str] = re.split(r"(\s?[/*]\s?)", spelled)
    whole = "".join(_DEGREES.get(name.replace(" ", "").lower(), name) for name in names)
    whole = re.sub(r"(?<=[A-Za-z])(-?[1-9])(?![\d.])", r"^\1", whole)
    try:
        return _registry().parse_units(whole)
    except Exception:  # pint raises what its tokeniser and parser raise
        return None
