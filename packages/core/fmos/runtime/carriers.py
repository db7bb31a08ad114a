"""What the servers do for an agent that moves to another home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from agentfs import AgentFS
from fmos.runtime.kernel import Kernel
from fmos.types import Principal


class Carrier(Protocol):
    """What a server does for an agent that moves; every `Toolset` is one."""

    name: ClassVar[str]

    def export_state(self, who: Principal) -> dict[str, Any]:
        """Return what the server keeps of an agent outside its branch."""
        ...

    def index_branch(self, who: Principal, fs: AgentFS) -> None:
        """Index what came with a branch, in the transaction that brings it."""
        ...

    def import_state(self, who: Principal, state: dict[str, Any]) -> None:
        """Keep what `export_state` returned elsewhere; may be called again."""
        ...


def carriers_of(kernel: Kernel, given: Sequence[Carrier] | None) -> Sequence[Carrier]:
    """Return the servers that take part: those given, else all that are installed."""
    if given is not None:
        return given
    from fmos.serving.discovery import discover  # noqa: PLC0415 - imports every server

    return [each(kernel) for each in discover().found.values()]
