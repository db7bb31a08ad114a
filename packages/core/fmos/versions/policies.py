"""The policies that bind an agent: those in the home's files, and those accepted as artefacts.

An accepted policy only ever adds demands (see `fmos.versions.content`), so a person's files win.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from fmos.contract.layers import PolicyLibrary
from fmos.contract.model import AgentContract
from fmos.contract.policy import Policy
from fmos.types import Principal
from fmos.versions.content import policy_of
from fmos.versions.model import POLICY, Register
from fmos.versions.serving import Serving
from fmos.versions.store import read_register

#: A tenant without accepted policies is looked at again after so long.
LOOK_AGAIN_S = 1.0


class ServedPolicies(PolicyLibrary):
    """The policies of a home and of its tenants' versions. Thread-safe."""

    def __init__(self, folder: Path, serving: Serving) -> None:
        """Read the files in `folder`, and what `serving` gives each session."""
        super().__init__(folder)
        self._serving = serving
        self._look_again: dict[str, float] = {}
        self._parsed: dict[str, Policy] = {}

    def for_principal(
        self, principal: Principal, *contracts: AgentContract | None, roles: Iterable[str] = ()
    ) -> tuple[Policy, ...]:
        """Return the policies that bind a principal, those of its session's versions last.

        Raises:
            ContractError: if any file is broken, because it might bind the principal.
            FormatError: if an accepted policy was changed by other means.
        """
        roles = tuple(roles)
        own = super().for_principal(principal, *contracts, roles=roles)
        register = self._register(principal.tenant)
        if register is None:
            return own
        theirs = (contract.role for contract in contracts if contract is not None)
        named = (principal.role, *roles, *theirs)
        served = self._served(principal, register)
        return (*own, *(each for each in served if each.binds(principal.tenant, named)))

    def look_again(self, tenant: str) -> None:
        """Let a tenant's first accepted policy count at once."""
        self._look_again.pop(tenant, None)

    def _register(self, tenant: str) -> Register | None:
        """Return what a tenant serves; None without a policy, which is not asked for each time."""
        now = time.monotonic()
        if self._look_again.get(tenant, 0.0) > now:
            return None
        volume = self._serving.known_volume(tenant)
        if volume is not None:
            register = read_register(volume)
            if any(key.startswith(f"{POLICY}/") for key in register.artefacts):
                return register
        self._look_again[tenant] = now + LOOK_AGAIN_S
        return None

    def _served(self, principal: Principal, register: Register) -> list[Policy]:
        found: list[Policy] = []
        for name, version, canary in self._serving.versions(principal, POLICY, register):
            policy = self._parsed.get(version)
            if policy is None:
                content = self._serving.fetch(
                    principal.tenant, POLICY, name, version, canary=canary
                )
                policy = self._parsed[version] = policy_of(content)
            found.append(policy)
        return found
