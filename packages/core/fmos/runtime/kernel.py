"""One opened FMOS home: its volumes, kernel.db, ledger, contracts and journal.

Everything that all four servers share hangs on this object and is passed in through
constructors. Owns the mapping agent -> branch, and the lineage of forked agents.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from agentfs import AgentFS
from agentfs.errors import BranchNotFound
from fmos.audit.keys import AuditKeys
from fmos.clock import Clock, SystemClock
from fmos.config import Home
from fmos.contract.library import ContractLibrary
from fmos.contract.model import AgentContract
from fmos.errors import ArgumentError, NotFoundError
from fmos.ledger.ledger import Ledger
from fmos.runtime.agents import AgentRegistry
from fmos.storage.database import Database
from fmos.types import Principal


class Kernel:
    """One opened home. Thread-safe; any number of processes may open the same home."""

    def __init__(self, home: Home, clock: Clock | None = None) -> None:
        self.home = home
        self.clock: Clock = clock or SystemClock()
        self.database = Database(home.kernel_db)
        self.agents = AgentRegistry(self.database, self.clock)
        self.ledger = Ledger(self.database, self.clock)
        self.contracts = ContractLibrary(home.contracts)
        self.keys = AuditKeys(home.keys)
        self._volumes: dict[str, AgentFS] = {}
        self._branches: dict[tuple[str, str], AgentFS] = {}
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | os.PathLike[str] | Path, clock: Clock | None = None) -> Kernel:
        """Open the home at `path`, making it when it is not there."""
        return cls(Home.open(path), clock)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every file of the home."""
        with self._lock:
            for volume in self._volumes.values():
                volume.close()
            self._volumes.clear()
            self._branches.clear()
            self.database.close()

    def volume(self, tenant: str) -> AgentFS:
        """Return the tenant's volume on its main branch, with access to the system area."""
        with self._lock:
            volume = self._volumes.get(tenant)
            if volume is None:
                volume = AgentFS.open(
                    self.home.volume(tenant), branch="main", system=True, principal="fmos"
                )
                self._volumes[tenant] = volume
            return volume

    def agent_fs(self, principal: Principal) -> AgentFS:
        """Return the agent's branch with access to the system area; fork it from main at first use.

        For servers only: what is handed to an agent is `agent_files`.
        """
        return self._handle(principal, system=True)

    def agent_files(self, principal: Principal) -> AgentFS:
        """Return the agent's branch as an agent may see it: without the system area."""
        return self._handle(principal, system=False)

    def _handle(self, principal: Principal, *, system: bool) -> AgentFS:
        name = principal.branch_name
        key = (principal.tenant, f"{name}:{system}")
        with self._lock:
            handle = self._branches.get(key)
            if handle is None:
                volume = self.volume(principal.tenant)
                if name not in {branch.name for branch in volume.branches()}:
                    volume.fork(name, source="main")
                    self.agents.register(principal)
                handle = volume.on(name, system=system, principal=str(principal))
                self._branches[key] = handle
            return handle

    def fork_agent(self, principal: Principal, new_agent: str) -> Principal:
        """Fork files, memory, context and checkpoints of an agent to a new agent id in O(1).

        The new agent spends from its parent's account and works under its parent's contract.

        Raises:
            ArgumentError: if the new id is taken.
        """
        child = Principal.model_validate(
            {**principal.model_dump(), "agent": new_agent, "branch": "", "session": ""}
        )
        source = self.agent_fs(principal)
        if child.branch_name in {branch.name for branch in source.branches()}:
            raise ArgumentError(
                f"the agent id {new_agent!r} is taken", hint="choose another id for the fork"
            )
        source.fork(child.branch_name)
        self.agents.register(child, parent=principal)
        self.record(child, "agent.fork", {"from": principal.agent, "to": new_agent})
        return child

    def drop_agent(self, principal: Principal) -> None:
        """Delete a forked agent's branch; its history and its spending stay.

        Raises:
            NotFoundError: if the agent has no branch.
        """
        volume = self.volume(principal.tenant)
        with self._lock:
            for system in (True, False):
                self._branches.pop((principal.tenant, f"{principal.branch_name}:{system}"), None)
            try:
                volume.delete_branch(principal.branch_name)
            except BranchNotFound as error:
                raise NotFoundError(f"there is no agent {principal.agent!r}") from error
        volume.record("agent.drop", {"agent": principal.agent})

    def contract(self, principal: Principal) -> AgentContract | None:
        """Return the contract of the agent, or of the nearest ancestor it was forked from."""
        for agent in (principal.agent, *self.agents.ancestors(principal)):
            contract = self.contracts.get(agent)
            if contract is not None:
                return contract
        return None

    def account(self, principal: Principal) -> str:
        """Return the ledger account path of a principal; a fork's lies under its ancestors'."""
        lineage = [*reversed(self.agents.ancestors(principal)), principal.agent or "-"]
        return "/".join(
            (principal.tenant, principal.application or "-", *lineage, principal.session or "-")
        )

    def record(self, principal: Principal, event: str, detail: dict[str, Any]) -> int:
        """Append one kernel event to the tenant's journal and return its sequence number."""
        return self.agent_fs(principal).record(event, detail)
