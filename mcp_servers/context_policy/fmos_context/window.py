"""Chooses what of a session fits a budget: pure functions over items, no files.

Pinned items and the last user message always stay. An assistant's calls and their results are one
unit: shown together or dropped together. The newest units are shown whole, older ones with stubs
for their long texts, and the oldest are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fmos_context.model import Item

#: The part of the free budget that the newest units may take whole before older ones get stubs.
_RECENT_SHARE = 0.5

_CALL_SEPARATOR = re.compile(r"[,\s]+")


@dataclass(frozen=True, slots=True)
class Unit:
    """Items that are shown or dropped together, in order.

    `whole` is its tokens with every text as long as the size rule allows, `least` with a stub for
    every text that is not required and has one.
    """

    items: tuple[Item, ...]
    required: bool
    whole: int
    least: int


@dataclass(frozen=True, slots=True)
class Window:
    """The choice: items shown whole, items shown as a stub, items left out. By ordinal."""

    whole: frozenset[int]
    reduced: frozenset[int]
    dropped: tuple[int, ...]


def required_tokens(units: Iterable[Unit]) -> int:
    """Return what the units that must be shown cost at least."""
    return sum(unit.least for unit in units if unit.required)


def group(items: Sequence[Item]) -> list[Unit]:
    """Return the items as units, in the order of their first item.

    A result belongs to the nearest assistant message before it that made a call of that id.
    """
    last_user = max((item.ordinal for item in items if item.role == "user"), default=-1)
    members: dict[int, list[Item]] = {}
    caller: dict[str, int] = {}
    for item in items:
        owner = item.ordinal
        if item.role == "assistant" and item.call_id:
            caller.update(dict.fromkeys(_CALL_SEPARATOR.split(item.call_id), owner))
        elif item.role == "tool":
            owner = caller.get(item.call_id, owner) if item.call_id else owner
        members.setdefault(owner, []).append(item)
    return [_unit(items, last_user) for items in members.values()]


def _unit(items: Sequence[Item], last_user: int) -> Unit:
    required, whole, least = False, 0, 0
    for item in items:
        required = required or item.pinned or item.ordinal == last_user
        whole += item.tokens_shown
        least += _cost_least(item)
    return Unit(tuple(items), required, whole, least)


def _cost_least(item: Item) -> int:
    return item.tokens_shown if item.pinned or item.role == "user" else item.tokens_least


def everything(units: Sequence[Unit]) -> Window:
    """Return the choice that shows every unit whole."""
    return _window(units, set(range(len(units))), set(range(len(units))))


def choose(units: Sequence[Unit], budget: int) -> Window:
    """Return what to show in at most `budget` tokens; the required units must fit it."""
    left = budget - required_tokens(units)
    kept = {index for index, unit in enumerate(units) if unit.required}
    whole: set[int] = set()
    newest_first = range(len(units) - 1, -1, -1)

    recent = int(left * _RECENT_SHARE)
    for index in newest_first:
        extra = units[index].whole - (units[index].least if index in kept else 0)
        if extra > recent:
            break
        recent, left = recent - extra, left - extra
        kept.add(index)
        whole.add(index)
    for index in newest_first:
        if index in kept:
            continue
        if units[index].least > left:
            break
        left -= units[index].least
        kept.add(index)
    for index in newest_first:
        extra = units[index].whole - units[index].least
        if index in kept and index not in whole and extra <= left:
            left -= extra
            whole.add(index)
    return _window(units, kept, whole)


def _window(units: Sequence[Unit], kept: set[int], whole: set[int]) -> Window:
    shown: set[int] = set()
    reduced: set[int] = set()
    dropped: list[int] = []
    for index, unit in enumerate(units):
        for item in unit.items:
            if index not in kept:
                dropped.append(item.ordinal)
            elif index in whole or _cost_least(item) == item.tokens_shown:
                shown.add(item.ordinal)
            else:
                reduced.add(item.ordinal)
    return Window(frozenset(shown), frozenset(reduced), tuple(sorted(dropped)))
