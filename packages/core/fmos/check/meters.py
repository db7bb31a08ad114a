"""Which limits of a budget bind: tried with real operations in a temporary home, not looked up."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fmos.client import Client, connect
from fmos.errors import BudgetExceededError, FmosError
from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Operation, OperationKind, Principal

_CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: {agent}
capabilities: ["probe", "model.generate", "memory.write"]
budgets: {{ {resource}: 0 }}
"""
_TOOL = ToolDescriptor(name="probe", effect="write")


def metered(resources: Iterable[str]) -> frozenset[str]:
    """Return the resources of which an agent with a limit of 0 can do less than everything.

    Tried are a model call that is admitted with its tokens, a checked tool call and a memory.
    """
    wanted = sorted(set(resources))
    if not wanted:
        return frozenset()
    with (
        tempfile.TemporaryDirectory(prefix="fmos-check-") as folder,
        Kernel.open(Path(folder) / "home") as kernel,
    ):
        return frozenset(name for name in wanted if _binds(kernel, name))


def _binds(kernel: Kernel, resource: str) -> bool:
    agent = f"meter-{resource.replace('_', '-')}"
    kernel.contracts.save(_CONTRACT.format(agent=agent, resource=resource))
    with connect(Principal(agent=agent, session="probe"), kernel=kernel) as client:
        client.call("trust_register_tools", {"tools": [_TOOL.model_dump(mode="json")]})
        return any(_refused(client, name, arguments) for name, arguments in _operations())


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    model = Operation(kind=OperationKind.MODEL_GENERATE, name="probe", cost_estimate={"tokens": 1})
    tool = Operation(kind=OperationKind.TOOL_CALL, name="probe")
    yield "budget_admit", {"operation": model.model_dump(mode="json")}
    yield "trust_check", {"operation": tool.model_dump(mode="json")}
    yield "memory_write", {"text": "probe", "namespace": "probe"}


def _refused(client: Client, tool: str, arguments: dict[str, Any]) -> bool:
    try:
        answer = client.call(tool, arguments)
    except BudgetExceededError:
        return True
    except FmosError:  # refused for another reason, which says nothing about the limit
        return False
    reasons = answer.get("reasons") or ()
    return any(str(reason["code"]).startswith("budget.") for reason in reasons if _denies(answer))


def _denies(answer: dict[str, Any]) -> bool:
    return answer.get("decision") == "deny"
