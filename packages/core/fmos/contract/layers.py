"""Layers: what platform, tenant, role and administrator demand of and suggest to every contract.

Precedence of suggestions (`prefer`): request, role, tenant, platform, and the administrator above
all. Demands (`must`) only narrow, so their order does not matter.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from fmos.contract.bounds import of_parent, of_policy
from fmos.contract.folder import SETTLED_S, DocumentFolder, File
from fmos.contract.model import WINDOWS, AccountLimits, AgentContract
from fmos.contract.narrowing import Choice, Defaults, Narrowing
from fmos.contract.policy import Policy
from fmos.contract.trust_policy import TrustPolicy
from fmos.errors import ContractError
from fmos.ledger.model import RESOURCES
from fmos.types import Principal, Record

__all__ = ["Choice", "Merged", "Policy", "PolicyLibrary", "attenuate", "merge"]

#: In this order a layer's suggestion is taken; the last has the last word among demands.
_PRECEDENCE = ("admin", "role", "tenant", "platform")
_DEMANDS = ("role", "tenant", "platform", "admin")
_ACCOUNTS = ("application", "tenant", "organisation")
_MAX_KEPT = 512


class Merged(Record):
    """The effective contract, who decided each field, and what the layers refuse outright."""

    contract: AgentContract
    why: tuple[Choice, ...] = ()
    accounts: dict[str, AccountLimits] = Field(
        default_factory=dict, description="limits of the application, tenant and organisation"
    )
    refusals: tuple[str, ...] = Field(
        default=(), description="what was asked and is not allowed, such as a latency class"
    )


def merge(contract: AgentContract, policies: Iterable[Policy]) -> Merged:
    """Return what a contract comes to under the policies, in whichever order these are given.

    The result is kept: the same objects, as the libraries return them, are merged once.
    """
    return _REMEMBERED.get(contract, tuple(policies))


def attenuate(parent: AgentContract, child: AgentContract) -> AgentContract:
    """Return the child's contract within the parent's: nothing that the parent has not itself."""
    return Narrowing(child, [of_parent(parent)], []).contract()


class PolicyLibrary:
    """The policies of a home. Thread-safe; a file that changed counts at the next look."""

    def __init__(self, folder: Path, settled_s: float = SETTLED_S) -> None:
        self._folder = DocumentFolder(folder, settled_s)
        self._lock = threading.Lock()
        self._files: tuple[File, ...] = ()
        self._policies: tuple[Policy, ...] = ()
        self._bound: dict[tuple[str, ...], tuple[Policy, ...]] = {}

    def for_principal(
        self, principal: Principal, *contracts: AgentContract | None, roles: Iterable[str] = ()
    ) -> tuple[Policy, ...]:
        """Return the policies that bind a principal, by its own role, by `roles` and contracts'.

        Give the contracts of its ancestors too: a fork is bound by what binds its parent. The same
        objects come back until a file changes.

        Raises:
            ContractError: if any file is broken, because it might bind the principal.
        """
        key = (
            principal.tenant,
            principal.role,
            *roles,
            *(contract.role for contract in contracts if contract is not None),
        )
        with self._lock:
            policies = self._current()
            bound = self._bound.get(key)
            if bound is None:
                if len(self._bound) >= _MAX_KEPT:
                    self._bound.clear()
                bound = tuple(each for each in policies if each.binds(key[0], key[1:]))
                self._bound[key] = bound
        return bound

    def all(self) -> tuple[Policy, ...]:
        """Return every policy of the home, by file name.

        Raises:
            ContractError: if any file is broken or holds something else.
        """
        with self._lock:
            return self._current()

    def _current(self) -> tuple[Policy, ...]:
        files = self._folder.all()
        if files is not self._files:
            self._policies = tuple(each for file in files for each in self._in_file(file))
            self._files, self._bound = files, {}
        return self._policies

    def _in_file(self, file: File) -> Iterator[Policy]:
        if isinstance(file.found, ContractError):
            raise file.found
        for document in file.found:
            if not isinstance(document, Policy):
                path = self._folder.path / file.name
                rules = isinstance(document, TrustPolicy)
                place = path.parent / "trust" if rules else path.parent.parent / "contracts"
                raise ContractError(
                    f"{str(path)!r} holds a document of the kind {document.kind}, not a Policy",
                    hint=f"move it to {str(place)!r}",
                )
            yield document


class _Remembered:
    """The last merges, by the identity of what went in; entries keep their objects alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._merges: dict[tuple[int, ...], tuple[AgentContract, tuple[Policy, ...], Merged]] = {}

    def get(self, contract: AgentContract, policies: tuple[Policy, ...]) -> Merged:
        """Return the merge of exactly these objects."""
        key = (id(contract), *map(id, policies))
        found = self._merges.get(key)
        if found is None:
            found = (contract, policies, _merged(contract, policies))
            with self._lock:
                if len(self._merges) >= _MAX_KEPT:
                    self._merges.clear()
                self._merges[key] = found
        return found[2]


_REMEMBERED = _Remembered()


def _merged(contract: AgentContract, policies: tuple[Policy, ...]) -> Merged:
    demands = _ordered(policies, _DEMANDS)
    defaults = [
        Defaults(each.label, each.layer == "admin", each.prefer)
        for each in _ordered(policies, _PRECEDENCE)
    ]
    narrowing = Narrowing(contract, [of_policy(each) for each in demands], defaults)
    effective = narrowing.contract()
    accounts, choices = _accounts(demands)
    return Merged(
        contract=effective,
        why=(*narrowing.why, *choices),
        accounts=accounts,
        refusals=tuple(narrowing.refusals),
    )


def _ordered(policies: tuple[Policy, ...], layers: tuple[str, ...]) -> list[Policy]:
    """Return the policies in one order, whichever they came in, each once."""
    once = {policy.digest: policy for policy in policies}.values()
    return sorted(once, key=lambda each: (layers.index(each.layer), each.name, each.digest))


def _accounts(demands: list[Policy]) -> tuple[dict[str, AccountLimits], list[Choice]]:
    """Return the smallest limits of the shared accounts, and who set them."""
    found: dict[str, AccountLimits] = {}
    choices: list[Choice] = []
    for account in _ACCOUNTS:
        parts: dict[str, dict[str, int]] = {}
        for scope in ("", *WINDOWS):
            for resource in RESOURCES:
                lowest = _lowest(demands, account, scope, resource)
                if lowest is not None:
                    parts.setdefault(scope, {})[resource] = lowest[0]
                    field = ".".join(
                        part for part in ("accounts", account, scope, resource) if part
                    )
                    choices.append(
                        Choice(field=field, value=lowest[0], how="must", layers=(lowest[1],))
                    )
        if parts:
            own = parts.pop("", {})
            found[account] = AccountLimits.model_validate({**own, **parts})
    return found, choices


def _lowest(
    demands: list[Policy], account: str, scope: str, resource: str
) -> tuple[int, str] | None:
    found: list[tuple[int, str]] = []
    for policy in demands:
        limits = getattr(policy.must.budgets, account)
        amount = getattr(getattr(limits, scope) if scope else limits, resource)
        if amount is not None:
            found.append((amount, policy.label))
    return min(found) if found else None
