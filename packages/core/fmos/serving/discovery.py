"""Finds the toolsets: the installed entry points first, then the four of this distribution.

A toolset whose own requirements are missing is left out and remembered, so that one missing extra
does not take the other servers away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points

from fmos.errors import MissingExtraError
from fmos.serving.toolset import Toolset

GROUP = "fmos.toolsets"

# A source checkout on PYTHONPATH has no entry points; the servers are there all the same.
_OWN = {
    "memory": "fmos_memory.tools:MemoryTools",
    "context-policy": "fmos_context.tools:ContextTools",
    "trust-gate": "fmos_trust.tools:TrustTools",
    "reasoning-budget": "fmos_budget.tools:BudgetTools",
}


@dataclass(slots=True)
class Discovery:
    """The toolset classes by server name, and why each of the others could not be imported."""

    found: dict[str, type[Toolset]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def require(self) -> dict[str, type[Toolset]]:
        """Return what was found.

        Raises:
            MissingExtraError: if nothing was found.
        """
        if not self.found:
            why = "; ".join(f"{name}: {reason}" for name, reason in self.missing.items())
            raise MissingExtraError(
                f"no FMOS server is installed ({why})", hint='pip install "fmos[servers]"'
            )
        return self.found


def discover() -> Discovery:
    """Import every toolset that can be imported."""
    result = Discovery()
    for name, target in _targets():
        try:
            module, _, attribute = target.partition(":")
            result.found[name] = getattr(import_module(module), attribute)
        except ImportError as error:
            result.missing[name] = str(error)
    return result


def _targets() -> Iterator[tuple[str, str]]:
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    yield from {**_OWN, **installed}.items()
