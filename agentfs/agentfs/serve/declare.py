"""Marks methods as tools; the door to MCP (`protocol`) finds them by that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__agentfs_tool__"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What MCP is told about a tool beside its arguments; its docstring is the description."""

    title: str
    read_only: bool
    destructive: bool
    idempotent: bool


def tool(
    title: str, *, read_only: bool = False, destructive: bool = False, idempotent: bool = False
) -> Callable[[F], F]:
    """Mark a method as a tool; none of them reaches anything outside of the volume."""

    def mark(function: F) -> F:
        declared = Declaration(title, read_only, destructive, read_only or idempotent)
        setattr(function, _MARK, declared)
        return function

    return mark


def tools(*owners: object) -> list[tuple[Declaration, Callable[..., Any]]]:
    """Return the tools of some objects, as bound methods, in the order of their definition."""
    return [
        (getattr(function, _MARK), getattr(owner, name))
        for owner in owners
        for name, function in vars(type(owner)).items()
        if hasattr(function, _MARK)
    ]
