"""The servers' own seams: what an agent without a contract must not get, asked of each server.

An adapter can only hand an operation over; that the owner of its kind refuses is shown here, in a
home whose platform policy demands contracts. Without that policy such an agent may have memories
and model calls within the other policies, so that a server can be used alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fmos.check.canary import CanarySession
from fmos.check.seams import Seam, source_of
from fmos.serving.discovery import discover
from fmos.types import Operation, OperationKind


def seams() -> Iterator[Seam]:
    """Yield one seam per operation that changes or spends something."""
    for kind, tool, arguments in _operations():
        yield Seam(f"without_contract.{tool}", _file_of(tool), kind, _drive(kind, tool, arguments))


def _file_of(tool: str) -> str:
    """Return where the server's tool is written."""
    for toolset in discover().found.values():
        if hasattr(toolset, tool):
            return source_of(getattr(toolset, tool))
    return tool


def _operations() -> Iterator[tuple[OperationKind, str, dict[str, Any]]]:
    model = Operation(
        kind=OperationKind.MODEL_GENERATE, name="canary", cost_estimate={"tokens": 1000}
    )
    tool = Operation(kind=OperationKind.TOOL_CALL, name="canary")
    yield OperationKind.MODEL_GENERATE, "budget_admit", {"operation": model.model_dump(mode="json")}
    yield OperationKind.TOOL_CALL, "trust_check", {"operation": tool.model_dump(mode="json")}
    yield OperationKind.MEMORY_WRITE, "memory_write", {"text": "a canary"}


def _drive(
    kind: OperationKind, tool: str, arguments: dict[str, Any]
) -> Callable[[CanarySession], None]:
    def drive(session: CanarySession) -> None:
        session.demand_contracts()
        session.must_refuse(kind, tool, arguments)

    return drive
