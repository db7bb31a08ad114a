"""Makes and ends delegations. A person's act or a program's, never a tool's: no server has it."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from fmos.contract.globs import matches_name
from fmos.contract.model import AgentContract
from fmos.delegation.model import MAX_DEPTH, Delegation, Scope
from fmos.delegation.token import write_token
from fmos.errors import ArgumentError, DeniedError, NotFoundError
from fmos.runtime.lifecycle import Lifecycle
from fmos.types import Principal, checked_id, new_id

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel
    from fmos.runtime.standing import Standing

_NS = 1_000_000_000
#: No delegation lasts longer.
LONGEST_S = 30 * 86_400


class Made(NamedTuple):
    """A new delegation and its signed text."""

    delegation: Delegation
    token: str


def delegate(
    kernel: Kernel,
    parent: Principal,
    child: Principal,
    scope: Scope,
    *,
    ttl_s: int,
    further: int = 0,
    source: str = "",
    person: str = "",
) -> Made:
    """Let a sub-agent do a part of what its parent may, for a time; one that is new is made.

    What the parent may later no longer do, the sub-agent may not either. It spends from its
    parent's account, and has one delegation at a time: the last one counts. `further` is how many
    more delegations may follow on this one, and a new agent is made from `source`, as
    `Lifecycle.spawn` says.

    Raises:
        DeniedError: if the parent may do nothing now, or may not delegate further.
        ArgumentError: if the scope has what the parent has not, or the agents cannot be these two.
    """
    standing = kernel.acting(parent)
    _require_two(kernel, standing, child)
    contract = _require_contract(standing)
    _require_within(scope, contract, standing)
    held = kernel.delegations.held(parent.tenant, standing.lineage).delegations
    above = held[0] if held else None
    _require_depth(parent, above, len(held), further)
    made = _signed(kernel, parent, child, scope, held, ttl_s, further)
    row = _row(made.delegation, person)
    kernel.record(parent, "agent.delegate", row)
    account = standing.account
    under = account if parent.session else (account.nearest("agent") or account)
    # The bounds first: cut short, this leaves an agent that may do nothing, never a free one.
    kernel.delegations.put(made.delegation, made.token)
    kernel.agents.register(child, parent=parent, account=under)
    if not Lifecycle(kernel).is_there(child):
        Lifecycle(kernel).spawn(child, source, person=person)
    return made


def revoke(kernel: Kernel, child: Principal, *, reason: str = "", person: str = "") -> str:
    """End a sub-agent's delegation at once, with all that it delegated; return its parent's key.

    The key is empty where the delegation cannot be read any more.

    Raises:
        NotFoundError: if it has none.
        ArgumentError: if it had ended before.
    """
    row = kernel.delegations.find(child.tenant, child.agent_key)
    listed = {each.child: found for each, found, _ in kernel.delegations.of_tenant(child.tenant)}
    found = listed.get(child.agent_key)
    if row is None:
        raise NotFoundError(
            f"nothing is delegated to the agent {child.agent_key!r}",
            hint="`fmos agent delegations` shows what is",
        )
    why = "its delegation was revoked" + (f" ({reason})" if reason else "")
    if not kernel.delegations.end(row, why):
        raise ArgumentError(
            f"the delegation of {child.agent_key!r} had ended already: {row.ended}",
            hint="nothing is to be done",
        )
    detail = {"id": row.id, "child": row.child, "person": person, "reason": reason}
    kernel.record(found.parent if found else child, "agent.undelegate", detail)
    return found.parent.agent_key if found else ""


def _require_two(kernel: Kernel, standing: Standing, child: Principal) -> None:
    parent = standing.principal
    checked_id(child.agent, "an agent id")
    if child.tenant != parent.tenant:
        raise ArgumentError(
            f"an agent of the tenant {parent.tenant!r} cannot delegate to one of {child.tenant!r}",
            hint="delegate within one tenant",
        )
    if child.agent_key in standing.lineage:
        raise ArgumentError(
            f"{parent.agent_key!r} descends from {child.agent_key!r}, so it cannot delegate to it",
            hint="delegate to another agent",
        )
    lineage = kernel.agents.lineage(child)
    if len(lineage) > 1 and lineage[1] != parent.agent_key:
        raise ArgumentError(
            f"the agent {child.agent_key!r} has the parent {lineage[1]!r} already",
            hint=f"let {lineage[1]!r} delegate to it, or choose another id",
        )


def _require_contract(standing: Standing) -> AgentContract:
    contract = standing.mandate.contract
    if contract is None:
        who = standing.principal.agent
        raise DeniedError(
            f"the agent {who!r} has no contract, so it has nothing to delegate",
            hint=f"put one at contracts/{who}.yaml",
        )
    return contract


def _require_within(scope: Scope, contract: AgentContract, standing: Standing) -> None:
    """Refuse names that the parent has not itself; paths and recipients are met by both lists."""
    granted = [name for name in contract.capabilities if contract.grants(name)]
    _require_each("capability", scope.capabilities or (), granted)
    for tools in standing.mandate.tools:
        outside = [each for each in scope.tools or () if not matches_name(tools, each)]
        if outside:
            raise _beyond("tool", outside[0], tools)


def _require_each(kind: str, asked: Iterable[str], granted: list[str]) -> None:
    for name in asked:
        if name not in granted:
            raise _beyond(kind, name, granted)


def _beyond(kind: str, name: str, granted: Iterable[str]) -> ArgumentError:
    names = list(granted)
    near = difflib.get_close_matches(name, names, n=1)
    asked = f"did you mean {near[0]!r}? " if near else ""
    return ArgumentError(
        f"the parent has not the {kind} {name!r} itself, so it cannot delegate it",
        hint=f"{asked}it has {', '.join(names) or 'none'}",
    )


def _require_depth(parent: Principal, above: Delegation | None, depth: int, further: int) -> None:
    allowed = (MAX_DEPTH if above is None else above.further) - 1
    if allowed < 0 or depth >= MAX_DEPTH:
        raise DeniedError(
            f"the agent {parent.agent_key!r} may not delegate further",
            hint="let the agent that delegated to it do so with `--further`",
        )
    if not 0 <= further <= allowed:
        raise ArgumentError(
            f"{further} further delegations are more than {allowed}, which may follow here",
            hint=f"give 0 to {allowed}",
        )


def _signed(
    kernel: Kernel,
    parent: Principal,
    child: Principal,
    scope: Scope,
    held: tuple[Delegation, ...],
    ttl_s: int,
    further: int,
) -> Made:
    if not 0 < ttl_s <= LONGEST_S:
        raise ArgumentError(
            f"a delegation cannot last {ttl_s} s", hint=f"give 1 to {LONGEST_S} s (30 days)"
        )
    now_ns, up = kernel.clock.now_ns(), kernel.clock.uptime()
    expires_ns = min([now_ns + ttl_s * _NS, *(each.expires_ns for each in held)])
    delegation = Delegation(
        id=new_id(),
        tenant=parent.tenant,
        parent=parent,
        child=child.agent_key,
        scope=scope,
        issued_ns=now_ns,
        expires_ns=expires_ns,
        boot=up.boot,
        up_until_ns=up.ns + (expires_ns - now_ns),
        above=held[0].id if held else "",
        further=further,
        nonce=secrets.token_hex(16),
    )
    return Made(delegation, write_token(delegation, kernel.keys_of(parent.tenant)))


def _row(delegation: Delegation, person: str) -> dict[str, Any]:
    """Return what the journal keeps of a delegation."""
    return {
        "id": delegation.id,
        "child": delegation.child,
        "scope": delegation.scope.model_dump(mode="json", exclude_defaults=True),
        "expires_ns": delegation.expires_ns,
        "above": delegation.above,
        "further": delegation.further,
        "person": person,
    }
