"""Expressions of numbers: parsed by Python's own parser, computed exactly, and never executed.

Only the operators below and placeholders for numbers get through, exponents are small whole
numbers, and every value is bounded, so that no expression takes long or needs much memory.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

_MAX_NODES = 400
_MAX_DEPTH = 40
_MAX_EXPONENT = 64
_MAX_BITS = 8192
_SHORT = 100


class NoExpression(ValueError):
    """A text is no expression that is computed here."""


def compute(text: str, values: Mapping[str, Any], *, check: Callable[[Any], None]) -> Any:
    """Return the value of an expression whose numbers are the names in `values`.

    `check` looks at each value between and raises where it grows too large.

    Raises:
        NoExpression: if it is not one, or larger than what is computed.
        ZeroDivisionError: if it divides by zero.
    """
    # Numbers are placeholders, so that most sentences have one of a few short expressions.
    parsed = _remembered(text) if len(text) <= _SHORT else _parsed(text)
    if isinstance(parsed, str):
        raise NoExpression(parsed)
    return _value(parsed, values, check, 0)


def bounded(value: Fraction) -> None:
    """Refuse a fraction of more than some thousand bits.

    Raises:
        NoExpression: if it is one.
    """
    if value.numerator.bit_length() > _MAX_BITS or value.denominator.bit_length() > _MAX_BITS:
        raise NoExpression("its value is too large")


def _parsed(text: str) -> ast.expr | str:
    """Return an expression, or why it is none."""
    if len(text) > 20 * _MAX_NODES or _nesting(text) > _MAX_DEPTH:
        return "it is too long"
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "it is not complete"
    if sum(1 for _ in ast.walk(tree)) > 3 * _MAX_NODES:
        return "it is too long"
    return tree.body


_remembered = functools.lru_cache(maxsize=1024)(_parsed)


def _value(
    node: ast.expr, values: Mapping[str, Any], check: Callable[[Any], None], depth: int
) -> Any:
    if depth > 2 * _MAX_NODES:
        raise NoExpression("it is too deep")
    if isinstance(node, ast.Name) and node.id in values:
        return values[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        operand = _value(node.operand, values, check, depth + 1)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp):
        left = _value(node.left, values, check, depth + 1)
        right = _value(node.right, values, check, depth + 1)
        result = _operated(node.op, left, right)
        check(result)
        return result
    raise NoExpression("it has something else than numbers and operators")


def _operated(operator: ast.operator, left: Any, right: Any) -> Any:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.Mod() if isinstance(left, Fraction):
            return left % right
        case ast.Pow():
            return _power(left, right)
        case _:
            raise NoExpression("it has an operator that is not computed")


def _power(base: Any, exponent: Any) -> Any:
    if not isinstance(exponent, Fraction) or exponent.denominator != 1:
        raise NoExpression("an exponent is not whole")
    if abs(exponent) > _MAX_EXPONENT:
        raise NoExpression(f"an exponent is above {_MAX_EXPONENT}")
    return base ** int(exponent)


def _nesting(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        deepest = max(deepest, depth)
    return deepest
