"""The arithmetic verifier: recomputes the equations in a claim, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar

from fmos.verify.equations import Equation, equations_in
from fmos.verify.model import Claim, Context, Finding, refuted, supported, undecided
from fmos.verify.numbers import Printed, read_number, shown

_MAX_EQUATIONS = 200
_MAX_LISTED = 100_000


class ArithmeticVerifier:
    """Recomputes equations in text, and totals of listed numbers.

    A result counts as right if the exact value, rounded to the digits printed, is what is printed;
    an approximate one (`about`, `≈`) may be off by 2 %.
    """

    name = "arithmetic"
    claim_types = ("arithmetic",)
    cost: ClassVar[Mapping[str, int]] = {"verifier_runs": 1}

    def check(self, claim: Claim, context: Context) -> Finding:
        """Return whether every equation of the claim holds."""
        if "numbers" in claim.content:
            return _total(claim.content)
        text = claim.text
        if "expression" in claim.content:
            text = f"{claim.content['expression']} = {claim.content.get('result', '')}"
        found: list[Equation] = []
        for equation in equations_in(text):
            found.append(equation)
            if not equation.holds:
                return _wrong(equation)
            if len(found) >= _MAX_EQUATIONS:
                break
        if not found:
            return undecided("there is no equation in it that can be computed")
        checked = tuple(f"{each.left} = {_value(each)}" for each in found[:8])
        return supported(f"{_count(len(found))} recomputed", *checked)


def _wrong(equation: Equation) -> Finding:
    return refuted(
        f"{equation.left} is {_value(equation)}, not {_said(equation)}",
        f"{equation.left} = {_value(equation)}",
    )


def _value(equation: Equation) -> str:
    factor = 100 if equation.percent else 1
    values = " or ".join(shown(value * factor) for value in equation.readings)
    return f"{values} %" if equation.percent else values


def _said(equation: Equation) -> str:
    sign = "-" if equation.sign < 0 else ""
    return f"{sign}{equation.said.text}{' %' if equation.percent else ''}"


def _count(number: int) -> str:
    return f"{number} equation{'' if number == 1 else 's'}"


def _total(content: Mapping[str, Any]) -> Finding:
    """Check the total, or the average, of listed numbers."""
    listed = content["numbers"]
    if not isinstance(listed, list | tuple) or not 0 < len(listed) <= _MAX_LISTED:
        return undecided("`numbers` is no list of numbers")
    numbers = [_signed(str(each)) for each in listed]
    said = _signed(str(content.get("result", "")))
    if said is None or any(number is None for number in numbers):
        return undecided("a number in it cannot be read")
    total = sum((number.value for number in numbers if number is not None), Fraction(0))
    what = str(content.get("operation", "sum"))
    if what in ("average", "mean"):
        total /= len(numbers)
    elif what != "sum":
        return undecided(f"{what!r} is not computed here, only sum and average")
    line = f"the {what} of the {len(numbers)} numbers is {shown(total)}"
    if said.admits(total):
        return supported(line)
    return refuted(f"{line}, not {said.text}")


def _signed(text: str) -> Printed | None:
    """Return a number with its sign."""
    text = text.strip().replace("−", "-")
    negative = text.startswith("-")
    number = read_number(text, 1 if negative else 0)
    if number is None or number.end != len(text):
        return None
    value = -number.value if negative else number.value
    return Printed(value, number.half_unit, text, number.end)
