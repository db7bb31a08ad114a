"""What an adapter brings to be checked: its seams, found by the entry-point group `fmos.seams`.

A seam is one way in which a framework reaches a tool, a model or the agent's state. Its `drive`
uses that way with real objects of the framework; what happened is looked up in the journal.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fmos.drivers import Drivers, Group
from fmos.types import OperationKind

if TYPE_CHECKING:
    from fmos.check.canary import CanarySession

#: The adapters. All that are installed are checked: a check leaves nothing out.
SEAMS = Group(
    "fmos.seams",
    "adapter",
    {"langgraph": "fmos_langgraph.seams:seams", "services": "fmos.check.services:seams"},
    versioned=False,
    open=True,
    extras={"services": "servers"},
)


@dataclass(frozen=True, slots=True)
class Seam:
    """One entry point of an adapter.

    Args:
        name: Dotted, unique in its adapter, such as `agent.ainvoke`.
        file: `path:line` of the code that runs there; see `source_of`.
        kind: What an agent asks for there.
        drive: Uses the seam; it may raise what the framework raises.
        intercepts: False where the adapter says itself that calls here do not reach the gate.
        reason: With `intercepts=False`: why not.
        hint: With `intercepts=False`: the way out.
    """

    name: str
    file: str
    kind: OperationKind
    drive: Callable[[CanarySession], None]
    intercepts: bool = True
    reason: str = ""
    hint: str = ""


Provider: TypeAlias = Callable[[], Iterable[Seam]]


def source_of(code: Any) -> str:
    """Return where a function or class is written, as `package/module.py:line`."""
    code = inspect.unwrap(code)
    path = Path(inspect.getsourcefile(code) or "?")
    _, line = inspect.getsourcelines(code)
    # The module's name says where the package begins, also in one without an `__init__.py`.
    depth = code.__module__.count(".") + (path.name == "__init__.py")
    return f"{'/'.join(path.parts[-depth - 1 :])}:{line}"


def adapter_names() -> tuple[str, ...]:
    """Return the adapters that say what their seams are."""
    return tuple(sorted(Drivers(SEAMS).names()))


def seams_of(adapter: str) -> tuple[Seam, ...]:
    """Return the seams of one adapter.

    Raises:
        NotFoundError: if no adapter of that name is registered.
        MissingExtraError: if what the adapter needs is not installed.
        DriverError: if it is of another distribution and cannot be loaded.
    """
    provider: Provider = Drivers(SEAMS).load(adapter)
    return tuple(provider())
