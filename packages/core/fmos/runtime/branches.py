"""The branches of agents: which handle a principal gets, and the branch of an agent's first use.

A handle writes its principal into every journal row, so each principal has its own; the volume and
its connections are shared.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress

from agentfs import AgentFS
from agentfs.errors import BranchNotFound, RefExists
from agentfs.types import Durability
from fmos.config import Home
from fmos.errors import ArgumentError, NotFoundError, PrincipalError
from fmos.runtime.agents import AgentRegistry
from fmos.types import TEMPLATE_BRANCH, Principal

#: Handles are small; this many sessions at once keep theirs.
_HANDLES = 1024

#: What follows an agent's own branch in the names of its forks.
_MARKS = "/~"

#: Who lets rows of a tenant's journal go: nothing but `fmos.audit.checkpoints.let_go`.
_KEEPER = "fmos"

#: All of a principal that its branch and its name in the journal come from.
_Key = tuple[str, str, str, str, str, bool, Durability]


class AgentBranches:
    """The volumes of one home and the agents' branches in them. Thread-safe."""

    def __init__(self, home: Home, agents: AgentRegistry, *, looking: bool = False) -> None:
        """`looking` opens volumes that are there for reading only, and makes no branch."""
        self._home = home
        self._looking = looking
        self._agents = agents
        self._volumes: dict[tuple[str, Durability], AgentFS] = {}
        self._handles: OrderedDict[_Key, AgentFS] = OrderedDict()
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close every volume."""
        with self._lock:
            for volume in self._volumes.values():
                volume.close()
            self._volumes.clear()
            self._handles.clear()

    def volume(self, tenant: str, durability: Durability = "normal") -> AgentFS:
        """Return the tenant's volume on its template branch, with access to the system area.

        Raises:
            NotFoundError: if only looking, and there is no such tenant.
        """
        with self._lock:
            volume = self._volumes.get((tenant, durability))
            if volume is None:
                if self._looking:
                    self._home.require_tenant(tenant)
                volume = AgentFS.open(
                    self._home.volume(tenant), branch=TEMPLATE_BRANCH, system=True,
                    principal="fmos", durability=durability, read_only=self._looking,
                )  # fmt: skip
                if not self._looking and volume.journal_keeper() != _KEEPER:
                    volume.keep_journal(_KEEPER)
                self._volumes[tenant, durability] = volume
            return volume

    def handle(
        self, principal: Principal, *, system: bool, durability: Durability = "normal"
    ) -> AgentFS:
        """Return the agent's branch; an agent that has none gets one from the template.

        What is written through a handle of durability "full" is synced before the call returns.
        """
        found = self._cached(principal, system, durability)
        if found is None and self._looking:
            raise NotFoundError(
                f"the tenant {principal.tenant!r} has no agent {principal.agent_key!r}",
                hint="`fmos agent list` shows them",
            )
        if found is None:
            self._make(principal)
            found = self._cached(principal, system, durability)
        if found is None:
            raise ArgumentError(
                f"the agent id {principal.agent!r} is the name of a snapshot in the volume of"
                f" tenant {principal.tenant!r}",
                hint="choose another agent id",
            )
        return found

    def known(self, principal: Principal) -> AgentFS | None:
        """Return the agent's branch with the system area, or None for an agent that has none."""
        return self._cached(principal, system=True)

    def exists(self, principal: Principal) -> bool:
        """Return whether the agent has a branch."""
        return self.known(principal) is not None

    def drop(self, principal: Principal) -> None:
        """Delete an agent's branch.

        Raises:
            NotFoundError: if it has none.
        """
        name = own_branch(principal)
        with self._lock:
            own = [
                key
                for key, handle in self._handles.items()
                if key[0] == principal.tenant and handle.branch == name
            ]
            for key in own:
                del self._handles[key]
            try:
                self.volume(principal.tenant).delete_branch(name)
            except BranchNotFound as error:
                raise NotFoundError(f"there is no agent {principal.agent!r}") from error

    def _cached(
        self, principal: Principal, system: bool, durability: Durability = "normal"
    ) -> AgentFS | None:
        key = (
            principal.tenant, principal.application, principal.agent, principal.session,
            principal.branch, system, durability,
        )  # fmt: skip
        with self._lock:
            handle = self._handles.get(key)
            if handle is None:
                try:
                    volume = self.volume(principal.tenant, durability)
                    handle = volume.on(
                        own_branch(principal),
                        system=system,
                        principal=str(principal),
                        confined=not system,
                    )
                except BranchNotFound:
                    return None
                self._handles[key] = handle
                if len(self._handles) > _HANDLES:
                    self._handles.popitem(last=False)
            else:
                self._handles.move_to_end(key)
            return handle

    def _make(self, principal: Principal) -> None:
        with suppress(RefExists):  # another process made it meanwhile
            self.volume(principal.tenant).fork(own_branch(principal), source=TEMPLATE_BRANCH)
        self._agents.register(principal)


def own_branch(principal: Principal) -> str:
    """Return the branch that a principal's state is on: its agent's, or one below that.

    Raises:
        PrincipalError: if it names a branch that is not its agent's.
    """
    own = Principal.model_construct(
        application=principal.application, agent=principal.agent, branch=""
    ).branch_name
    name = principal.branch_name
    # No id of an agent holds a mark, so what follows one is of the agent before it.
    if name != own and not (principal.agent and name.startswith(tuple(own + m for m in _MARKS))):
        raise PrincipalError(
            f"the branch {name!r} is not one of the agent {principal.agent_key!r}",
            hint=f"leave 'branch' out of the launch configuration; the agent's own is {own!r}",
        )
    return name
