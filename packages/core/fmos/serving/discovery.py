"""Finds the toolsets: the installed entry points first, then the four of this distribution.

A toolset whose own requirements are missing is left out and remembered, so that one missing extra
does not take the other servers away.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fmos.drivers import Drivers, Group
from fmos.errors import MissingExtraError
from fmos.serving.toolset import Toolset

_NEEDS = ("memory", "context-policy", "trust-gate", "reasoning-budget")

#: The toolsets. What is installed is served, and a name that two distributions use is not.
TOOLSETS = Group(
    "fmos.toolsets",
    "toolset",
    {
        "memory": "fmos_memory.tools:MemoryTools",
        "context-policy": "fmos_context.tools:ContextTools",
        "trust-gate": "fmos_trust.tools:TrustTools",
        "reasoning-budget": "fmos_budget.tools:BudgetTools",
    },
    versioned=False,
    open=True,
    extras=dict.fromkeys(_NEEDS, "servers"),
)


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
    found, missing = Drivers(TOOLSETS).usable()
    return Discovery(found, missing)
