"""Which limits the declarations put on which kind of account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, cast

from fmos.contract.model import AccountLimits, AgentContract, Limits
from fmos.ledger.accounts import AccountKind
from fmos.ledger.windows import Window

#: Resource and window to amount.
DeclaredLimits: TypeAlias = dict[tuple[str, Window], int]

#: What a tool call uses.
OF_CALLS = frozenset({"tool_calls", "wall_seconds"})

#: What policies call the accounts that agents share.
_SHARED: dict[str, AccountKind] = {"application": "app", "tenant": "tenant", "organisation": "org"}


def limits_of(
    contract: AgentContract | None, shared: Mapping[str, AccountLimits]
) -> dict[AccountKind, DeclaredLimits]:
    """Return the limits of each kind of account; where nothing is declared the dict is empty.

    `budgets` bind a session, `budgets.agent` and the windows the agent as a whole; `shared` are the
    limits that policies set on application, tenant and organisation.
    """
    found: dict[AccountKind, DeclaredLimits] = {"session": {}, "agent": {}}
    for name, kind in _SHARED.items():
        declared = shared.get(name)
        found[kind] = {**_total(declared), **_windows(declared)} if declared else {}
    if contract is not None:
        budgets = contract.budgets
        found["session"] = _total(budgets)
        found["agent"] = {**_total(budgets.agent), **_windows(budgets)}
    return found


def limits_calls(limits: Mapping[AccountKind, DeclaredLimits]) -> bool:
    """Return whether a tool call uses something of which an account has a declared limit."""
    return any(name in OF_CALLS for each in limits.values() for name, _ in each)


def _total(limits: Limits) -> DeclaredLimits:
    return {(name, "total"): amount for name, amount in limits.limits().items()}


def _windows(limits: AccountLimits) -> DeclaredLimits:
    return {
        (name, cast("Window", spelling.removeprefix("per_"))): amount
        for spelling, amounts in limits.windows().items()
        for name, amount in amounts.items()
    }
