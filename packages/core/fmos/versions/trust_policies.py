"""The trust policies that bind an agent: the home's files, its projects', and accepted versions.

Those of projects and versions only tighten (see `fmos.contract.project` and
`fmos.versions.content`), so a person's files win.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fmos.contract.folder import SETTLED_S, DocumentFolder, File
from fmos.contract.trust_policy import TrustPolicy
from fmos.errors import ContractError
from fmos.runtime.trusted import ProjectPolicies
from fmos.types import Principal
from fmos.versions.content import trust_policy_of
from fmos.versions.model import TRUST_POLICY, Register
from fmos.versions.policies import LOOK_AGAIN_S
from fmos.versions.serving import Serving
from fmos.versions.store import read_register

if TYPE_CHECKING:
    from fmos.runtime.standing import Standing

#: The folder of the home's policies that has them.
FOLDER = "trust"
_KEPT = 1024

Policies = tuple[TrustPolicy, ...]


class TrustPolicies:
    """The trust policies of one home. Thread-safe; a file that changed counts at the next look."""

    def __init__(
        self,
        folder: Path,
        serving: Serving,
        projects: ProjectPolicies,
        settled_s: float = SETTLED_S,
    ) -> None:
        self._folder = DocumentFolder(folder, settled_s)
        self._serving = serving
        self._projects = projects
        self._lock = threading.Lock()
        self._files: tuple[File, ...] = ()
        self._own: Policies = ()
        self._bound: dict[tuple[str, ...], tuple[tuple[int, ...], Policies, Policies]] = {}
        self._look_again: dict[str, float] = {}

    @property
    def path(self) -> Path:
        """The folder of the home's own."""
        return self._folder.path

    def own(self) -> Policies:
        """Return every policy in the home's folder, by file name.

        Raises:
            ContractError: if any file is broken, or holds something else.
        """
        with self._lock:
            files = self._folder.all()
            if files is not self._files:
                found = tuple(each for file in files for each in self._in_file(file))
                self._own, self._files = _apart(found, self.path), files
            return self._own

    def binding(self, standing: Standing) -> Policies:
        """Return the policies that bind a principal; the same object while nothing changed.

        Raises:
            ContractError: if any file is broken, because it might bind the principal.
            FormatError: if an accepted policy was changed by other means.
        """
        who = standing.principal
        family = (who, *(each.principal for each in standing.above))
        found = list(self.own())
        for project in dict.fromkeys(each.project for each in family if each.project):
            found += self._projects.rules(project)
        found += self._served(who)
        if not found:
            return ()
        agents, roles = _named(standing)
        key = (who.tenant, who.session, *agents, "", *roles)
        made_of = tuple(map(id, found))
        with self._lock:
            known = self._bound.get(key)
            if known is not None and known[0] == made_of:
                return known[2]
            bound = tuple(each for each in found if each.binds(who.tenant, agents, roles))
            if len(self._bound) >= _KEPT:
                self._bound.clear()
            # The objects are kept too, so that their ids stay theirs.
            self._bound[key] = (made_of, tuple(found), bound)
        return bound

    def with_one(self, standing: Standing, policies: Policies, candidate: TrustPolicy) -> Policies:
        """Return what would bind a principal with a candidate in the place of one of its name."""
        others = tuple(each for each in policies if each.name != candidate.name)
        binds = candidate.binds(standing.principal.tenant, *_named(standing))
        return (*others, candidate) if binds else others

    def look_again(self, tenant: str) -> None:
        """Let a tenant's first accepted policy count at once."""
        self._look_again.pop(tenant, None)

    def _in_file(self, file: File) -> Iterator[TrustPolicy]:
        if isinstance(file.found, ContractError):
            raise file.found
        for document in file.found:
            if not isinstance(document, TrustPolicy):
                raise ContractError(
                    f"{str(self.path / file.name)!r} holds a document of the kind {document.kind},"
                    " not a TrustPolicy",
                    hint=f"move it out of {str(self.path)!r}",
                )
            yield document

    def _served(self, who: Principal) -> list[TrustPolicy]:
        register = self._register(who.tenant)
        if register is None:
            return []
        return [
            trust_policy_of(
                self._serving.fetch(who.tenant, TRUST_POLICY, name, version, canary=canary)
            )
            for name, version, canary in self._serving.versions(who, TRUST_POLICY, register)
        ]

    def _register(self, tenant: str) -> Register | None:
        """Return what a tenant serves; None without rules, which is not asked for each time."""
        now = time.monotonic()
        if self._look_again.get(tenant, 0.0) > now:
            return None
        volume = self._serving.known_volume(tenant)
        if volume is not None:
            register = read_register(volume)
            if any(key.startswith(f"{TRUST_POLICY}/") for key in register.artefacts):
                return register
        self._look_again[tenant] = now + LOOK_AGAIN_S
        return None


def _named(standing: Standing) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of an agent and those it descends from, and its roles."""
    agents = tuple(key.rpartition(":")[2] for key in standing.lineage)
    return agents, tuple(roles_of(standing))


def roles_of(standing: Standing) -> Iterator[str]:
    """Yield every role of a principal: its own, its contract's, and those of its parents, once."""
    everybody = (standing, *standing.above)
    contracts = (each.mandate.contract for each in everybody)
    named = (
        *(each.principal.role for each in everybody),
        *(contract.role for contract in contracts if contract is not None),
    )
    yield from dict.fromkeys(role for role in named if role)


def _apart(found: Policies, folder: Path) -> Policies:
    """Refuse two policies of one name: a verdict has to say which rule it was."""
    seen: set[str] = set()
    for policy in found:
        if policy.name in seen:
            raise ContractError(
                f"two trust policies in {str(folder)!r} have the name {policy.name!r}",
                hint="rename or remove one of them",
            )
        seen.add(policy.name)
    return found
