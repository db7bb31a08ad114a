"""What a filter says about values, and a match condition about namespaces.

As in LangGraph's `InMemoryStore`, but where that raises because two values have no order (text and
a number, or nothing there), such a value does not match here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from langgraph.store.base import MatchCondition


def _ordered(compare: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    """Return a comparison of numbers that is false for what is none."""

    def holds(value: Any, wanted: Any) -> bool:
        try:
            return compare(float(value), float(wanted))
        except (TypeError, ValueError):
            return False

    return holds


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": eq,
    "$ne": ne,
    "$gt": _ordered(gt),
    "$gte": _ordered(ge),
    "$lt": _ordered(lt),
    "$lte": _ordered(le),
}


def check_filter(wanted: Any) -> None:
    """Look through a filter, so that a wrong one fails also where there is nothing to filter.

    Raises:
        ValueError: an operator is not one of $eq, $ne, $gt, $gte, $lt and $lte.
    """
    if isinstance(wanted, Mapping):
        names = [str(name) for name in wanted]
        if any(name.startswith("$") for name in names):
            for name in names:
                _operator(name)
            return
        wanted = list(wanted.values())
    if isinstance(wanted, list | tuple):
        for each in wanted:
            check_filter(each)


def matches(value: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Return whether an item's value is what a filter asks for."""
    return all(_holds(value.get(name), each) for name, each in (wanted or {}).items())


def _holds(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if any(str(name).startswith("$") for name in wanted):
            return all(_operator(name)(value, each) for name, each in wanted.items())
        return isinstance(value, Mapping) and matches(value, wanted)
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(wanted)
            and all(map(_holds, value, wanted))
        )
    return bool(value == wanted)


def _operator(name: str) -> Callable[[Any, Any], bool]:
    found = _OPERATORS.get(name)
    if found is None:
        raise ValueError(f"a filter has the operators {', '.join(_OPERATORS)}, not {name!r}")
    return found


def select_namespaces(
    namespaces: Iterable[tuple[str, ...]],
    conditions: Sequence[MatchCondition] | None,
    max_depth: int | None,
) -> list[tuple[str, ...]]:
    """Return the namespaces that fulfil all conditions, cut to a depth, sorted, each once."""
    found = (each for each in namespaces if all(_fits(rule, each) for rule in conditions or ()))
    return sorted({each[:max_depth] for each in found})


def _fits(condition: MatchCondition, namespace: tuple[str, ...]) -> bool:
    path = condition.path
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"a namespace matches by prefix or suffix, not {condition.match_type!r}")
    if len(namespace) < len(path):
        return False
    is_prefix = condition.match_type == "prefix"
    part = namespace[: len(path)] if is_prefix else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
