"""What binds each agent now: its contract under every layer, sealed, and the policies that bind it.

Read at every operation and computed only when a document changed. A document that is broken is an
error for all that it would bind: nothing runs on half a policy.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fmos.canonical import content_digest
from fmos.contract.bounds import Bounds
from fmos.contract.layers import Merged, PolicyLibrary, attenuate, merge
from fmos.contract.library import ContractLibrary
from fmos.contract.manifest import Manifest, policy_digests, seal
from fmos.contract.model import AgentContract, Scopes
from fmos.contract.narrowing import Narrowing
from fmos.contract.policy import Policy
from fmos.delegation.delegations import NOTHING_HELD, Delegations, Held
from fmos.delegation.model import NOTHING, bounds_of
from fmos.errors import ContractError
from fmos.ledger.accounts import AccountKind
from fmos.runtime.agents import Descent
from fmos.runtime.limits import DeclaredLimits, limits_of
from fmos.runtime.trusted import ProjectPolicies
from fmos.types import Principal

#: So many agents and roles keep what was computed for them.
_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Mandate:
    """What one principal may do.

    Without a `contract` no tool call is allowed. `bounds` is then what the policies alone leave of
    everything else, and otherwise the contract; `limits` are those of each kind of account, and
    `wants_contract` names the policy that leaves nothing to an agent without one. Of what is
    delegated to it: `refused` says why it counts no more, and then nothing may run; `tools` are
    lists that a tool must each be on, and `ends_ns` is when it ends, 0 for never.
    """

    contract: AgentContract | None
    manifest: Manifest | None
    bounds: AgentContract
    limits: Mapping[AccountKind, DeclaredLimits]
    merged: Merged
    wants_contract: str = ""
    refused: str = ""
    tools: Scopes = ()
    ends_ns: int = 0


@dataclass(frozen=True, slots=True)
class _Computed:
    contracts: tuple[AgentContract, ...]
    policies: tuple[Policy, ...]
    held: Held
    merged: Merged
    mandate: Mandate


class Mandates:
    """The mandates of one home's agents. Thread-safe."""

    def __init__(
        self,
        contracts: ContractLibrary,
        policies: PolicyLibrary,
        projects: ProjectPolicies,
        delegations: Delegations | None = None,
    ) -> None:
        self._contracts = contracts
        self._policies = policies
        self._projects = projects
        self._delegations = delegations
        self._lock = threading.Lock()
        self._computed: dict[tuple[str, str, str, str], _Computed] = {}

    def of(self, principal: Principal, descent: Descent) -> Mandate:
        """Return what binds a principal of this descent now.

        Raises:
            ContractError: if a contract or policy that binds it is broken.
        """
        # A contract names an agent, not an application: it binds agents of that id in all of them.
        names = [key.rpartition(":")[2] for key in descent.lineage]
        contracts = self._asked(names)
        roles = [origin.role for origin in descent.origins]
        policies = self._policies.for_principal(principal, *contracts, roles=roles)
        held = self._held(principal, descent)
        key = (principal.tenant, principal.agent_key, principal.role, principal.project)
        known = self._computed.get(key)
        same = known and _same(known.contracts, contracts) and _same(known.policies, policies)
        if known and same and known.held == held:
            merged = known.merged
        else:
            merged = _delegated(_merged(principal, contracts, policies), held)
        within = merged
        # A fork stays in its parents' projects. Looked at each time: one that changed is an error.
        family = (principal, *descent.origins)
        for project in filter(None, dict.fromkeys(each.project for each in family)):
            within = self._projects.tightened(project, within, principal, lineage=names)
        if known and known.merged is merged and known.mandate.merged is within:
            return known.mandate
        mandate = _sealed(within, policies, held, declared=bool(contracts))
        with self._lock:
            if len(self._computed) >= _KEPT:
                self._computed.clear()
            self._computed[key] = _Computed(contracts, policies, held, merged, mandate)
        return mandate

    def _held(self, principal: Principal, descent: Descent) -> Held:
        """Return what the agent acts under that was delegated to it, or to who forked it."""
        if self._delegations is None or len(descent.lineage) == 1:
            return NOTHING_HELD
        return self._delegations.held(principal.tenant, descent.lineage)

    def _asked(self, names: Sequence[str]) -> tuple[AgentContract, ...]:
        """Return the contracts that agents of these names have, the last one's first."""
        found = (self._contracts.get(name) for name in reversed(names))
        return tuple(contract for contract in found if contract is not None)


def _merged(
    principal: Principal, contracts: tuple[AgentContract, ...], policies: tuple[Policy, ...]
) -> Merged:
    if not contracts:
        return merge(_undeclared(principal.agent), policies)
    asked = contracts[0]
    for own in contracts[1:]:  # a fork with a contract of its own has no more than its parent
        asked = attenuate(asked, own)
    return merge(asked, policies)


def _delegated(merged: Merged, held: Held) -> Merged:
    """Return an effective contract within what was delegated; of an ended delegation, nothing."""
    bounds: list[Bounds] = [each.bounds() for each in held.delegations]
    if held.refused:
        bounds = [bounds_of(NOTHING, "no delegation that counts")]
    if not bounds:
        return merged
    narrowing = Narrowing(merged.contract, bounds, [])
    contract = narrowing.contract()
    decided = {each.field: each for each in narrowing.why if each.how == "must"}
    kept = (each for each in merged.why if each.field not in decided)
    why = (*kept, *decided.values())
    return merged.model_copy(update={"contract": contract, "why": why})


def _sealed(merged: Merged, policies: tuple[Policy, ...], held: Held, *, declared: bool) -> Mandate:
    contract = merged.contract
    limits = limits_of(contract, merged.accounts)
    if not declared:
        demanding = (each.label for each in policies if each.must.contract == "required")
        wants = next(demanding, "")
        return Mandate(None, None, contract, limits, merged, wants, *_ended(held))
    if merged.refusals:
        raise ContractError(
            f"the contract {contract.name!r} is not admitted: {'; '.join(merged.refusals)}",
            hint=f"change contracts/{contract.name}.yaml, or the policy that says so",
        )
    signed = {each.label: content_digest(each.model_dump(mode="json")) for each in held.delegations}
    sealed_in = {**policy_digests(policies), **signed}
    manifest = seal(contract, choices=merged.why, policies=sealed_in)
    return Mandate(contract, manifest, contract, limits, merged, "", *_ended(held))


def _ended(held: Held) -> tuple[str, Scopes, int]:
    """Return what a mandate says of delegations beside the contract: refused, tools, ends_ns."""
    tools = tuple(scope for each in held.delegations for scope in each.scope.tool_scopes)
    return held.refused, tools, held.ends_ns


def _undeclared(agent: str) -> AgentContract:
    """Return what an agent asks for that has declared nothing: no capability, no limit."""
    return AgentContract.model_validate(
        {"apiVersion": "agentos/v0.2", "kind": "AgentContract", "name": agent or "undeclared"}
    )


def _same(known: Iterable[object], now: Iterable[object]) -> bool:
    """Return whether these are the very objects: the libraries read again only what changed."""
    one, other = tuple(known), tuple(now)
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
