"""What is delegated: a scope, and the signed statement that an agent has it for a time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fmos.contract.bounds import CLASSES, Bounds
from fmos.contract.model import Budgets, Compute, Limits, Names, Scopes
from fmos.types import Principal, Record

#: So many delegations may stand one upon the other.
MAX_DEPTH = 8


class Scope(Record):
    """What a sub-agent may do of what its parent may; null: all that the parent may.

    `budgets` is what the sub-agent may spend in all, out of its parent's account.
    """

    capabilities: Names | None = None
    tools: Names | None = Field(default=None, description="names and globs")
    read: Names | None = Field(default=None, description="globs of paths")
    write: Names | None = Field(default=None, description="globs of paths")
    recipients: Names | None = Field(default=None, description="globs of recipients")
    budgets: Limits = Limits()

    @property
    def tool_scopes(self) -> Scopes:
        """The list of tools as a scope; empty where any tool may be called."""
        return () if self.tools is None else (self.tools,)


#: What an agent has whose delegation does not count.
NOTHING = Scope(capabilities=(), tools=(), read=(), write=(), recipients=())


class Delegation(Record):
    """One signed statement: who hands what on to whom, until when.

    `boot` and `up_until_ns` say the end on a clock that nobody sets back. `above` is the delegation
    that the parent itself acts under; `further` says how many more may follow on this one.
    """

    v: Literal[1] = 1
    id: str
    tenant: str
    parent: Principal
    child: str = Field(description="the agent's key")
    scope: Scope
    issued_ns: int
    expires_ns: int
    boot: str
    up_until_ns: int
    above: str = ""
    further: Annotated[int, Field(ge=0, le=MAX_DEPTH)] = 0
    nonce: str

    @property
    def label(self) -> str:
        """The delegation in words, as explanations name it."""
        return f"delegation {self.id[:8]} from {self.parent.agent_key}"

    def bounds(self) -> Bounds:
        """Return what it keeps the sub-agent's contract within."""
        return bounds_of(self.scope, self.label)


def bounds_of(scope: Scope, label: str) -> Bounds:
    """Return what a scope keeps a contract within; `label` names whom explanations tell of."""
    return Bounds(
        label=label,
        capabilities=scope.capabilities,
        deny=(),
        consent_for=(),
        sync_for=(),
        models=(),
        max_context_tokens=None,
        read=_one(scope.read),
        write=_one(scope.write),
        recipients=_one(scope.recipients),
        budgets=Budgets(agent=scope.budgets),
        compute=Compute(),
        retention_days=None,
        require_grounding=False,
        latency=CLASSES,
        tracing="",
        log_fields=(),
    )


def _one(names: Names | None) -> Scopes:
    return () if names is None else (names,)
