"""One opened FMOS home: its volumes, kernel.db, ledger, contracts and journal.

Everything that all four servers share hangs on this object and is passed in through
constructors. Owns the life of a forked agent; the rest is the work of the modules it puts together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from agentfs import AgentFS
from agentfs.types import MergeResult, Strategy
from fmos import telemetry
from fmos.audit.history import KeyChange, KeyHistory
from fmos.audit.keyring import KeyRing, Step
from fmos.audit.keys import AuditKeys
from fmos.clock import Clock, SystemClock
from fmos.config import Home
from fmos.contract.library import ContractLibrary
from fmos.contract.manifest import Manifest
from fmos.contract.model import AgentContract
from fmos.delegation.delegations import Delegations
from fmos.entered.log import EntryLog
from fmos.errors import ArgumentError, DeniedError, NotFoundError
from fmos.ledger.accounts import Account
from fmos.ledger.ledger import Ledger
from fmos.ledger.model import Reservation
from fmos.ledger.owners import Owner, this_process
from fmos.replay.recording import Call, Recordings
from fmos.runtime.agents import AgentRegistry
from fmos.runtime.branches import AgentBranches
from fmos.runtime.mandates import Mandate, Mandates
from fmos.runtime.spending import Spending
from fmos.runtime.standing import Standing, Standings
from fmos.runtime.states import AgentState, refusal
from fmos.runtime.trusted import ProjectPolicies
from fmos.settings import read_settings
from fmos.storage.database import Database
from fmos.types import OperationKind, Principal, checked_id
from fmos.versions.policies import ServedPolicies
from fmos.versions.serving import Serving
from fmos.versions.trust_policies import FOLDER, TrustPolicies

#: How long an operation may take before what it reserved is given back, unless renewed.
RESERVATION_TTL_S = 900


class Kernel:
    """One opened home. Thread-safe; any number of processes may open the same home."""

    def __init__(
        self,
        home: Home,
        clock: Clock | None = None,
        database: Database | None = None,
        *,
        looking: bool = False,
    ) -> None:
        self.home = home
        self.clock: Clock = clock or SystemClock()
        self.settings = read_settings(home.path)
        #: Whether nothing of the home may change: see `look`.
        self.looking = looking
        self.database = database or Database(home.kernel_db, looking=looking)
        self.agents = AgentRegistry(self.database, self.clock)
        self.ledger = Ledger(self.database, self.clock)
        self.contracts = ContractLibrary(home.contracts)
        self._keys = KeyRing(home.keys, self.database, self.clock, looking=looking)
        self._branches = AgentBranches(home, self.agents, looking=looking)
        self._spending = Spending(self.database, self.ledger)
        self.projects = ProjectPolicies(self.database, self.clock)
        serving = Serving(
            self._branches.volume,
            (lambda _who: None) if looking else self._branches.known,
            self.settings.versions,
            is_there=lambda tenant: home.volume(tenant).exists(),
        )
        self.policies = ServedPolicies(home.policies, serving)
        self.trust_policies = TrustPolicies(home.policies / FOLDER, serving, self.projects)
        self.delegations = Delegations(self.database, self.clock, self.keys_of, looking=looking)
        mandates = Mandates(self.contracts, self.policies, self.projects, self.delegations)
        self._standings = Standings(self.agents, mandates)
        self.recordings = Recordings(self)
        #: What entered the sessions of agents, with its labels.
        self.entered = EntryLog(self)

    @classmethod
    def open(cls, path: str | os.PathLike[str] | Path, clock: Clock | None = None) -> Kernel:
        """Open the home at `path`, making it when it is not there."""
        return cls(Home.open(path), clock)

    @classmethod
    def look(cls, path: str | os.PathLike[str] | Path, clock: Clock | None = None) -> Kernel:
        """Open the home at `path` to look at it: nothing of it changes, whatever is asked.

        It may lie where nobody may write. kernel.db is looked at in a copy in memory, volumes are
        opened for reading only; what would write to them raises.

        Raises:
            HomeError: if there is no home, or it cannot be read.
        """
        return cls(Home.existing(path), clock, looking=True)

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
        self._branches.close()
        self.database.close()

    def serve_others(self) -> None:
        """Reserve for callers that outlive this process: what they hold ends at its time only."""
        self._spending.ends_with_process = False

    @property
    def process(self) -> Owner | None:
        """The process whose end ends what is asked here; None where it is asked for others."""
        return this_process() if self._spending.ends_with_process else None

    def keys_of(self, tenant: str) -> AuditKeys:
        """Return the tenant's keys, made with the tenant.

        Raises:
            HomeError: if they are missing, unreadable, open to others, or not the tenant's own.
        """
        return self._keys.of(tenant)

    def key_history(self, tenant: str) -> KeyHistory:
        """Return the tenant's public keys from its first one on.

        Raises:
            HomeError: as `keys_of` does.
            FormatError: if a change is not signed as it must be.
        """
        return self._keys.history(tenant)

    def change_key(self, tenant: str, final: int, step: Step = lambda name: None) -> KeyChange:
        """Give the tenant a new key; `fmos.audit.checkpoints.rotate` does all that belongs to it.

        Raises:
            HomeError: as `keys_of` does.
        """
        return self._keys.change(tenant, final, step)

    def volume(self, tenant: str) -> AgentFS:
        """Return the tenant's volume on its template branch, with access to the system area."""
        return self._branches.volume(tenant)

    def agent_fs(self, principal: Principal) -> AgentFS:
        """Return the agent's branch with access to the system area, made at its first use.

        For servers only: what is handed to an agent is `agent_files`.
        """
        return self._branches.handle(principal, system=True)

    def agent_files(self, principal: Principal) -> AgentFS:
        """Return the agent's branch as an agent may see it: without the system area."""
        return self._branches.handle(principal, system=False)

    def known_agent_fs(self, principal: Principal) -> AgentFS | None:
        """Return what `agent_fs` does, or None for an agent that has done nothing yet.

        For what only reads: looking for an agent makes none.
        """
        return self._branches.known(principal)

    def fork_agent(self, principal: Principal, new_agent: str) -> Principal:
        """Fork files, memory, context and checkpoints of an agent to a new agent id in O(1).

        The new agent works under its parent's contract and spends from its parent's account: from
        the session's, if the principal names one.

        Raises:
            ArgumentError: if the new id is taken, also by a killed agent, or cannot be one.
        """
        checked_id(new_agent, "an agent id")
        child = Principal.model_validate(
            {**principal.model_dump(), "agent": new_agent, "branch": "", "session": ""}
        )
        source = self.agent_fs(principal)
        if self._branches.exists(child) or self._is_stopped(child):
            raise ArgumentError(
                f"the agent id {new_agent!r} is taken", hint="choose another id for the fork"
            )
        # Registered first: cut short, this leaves an id bound to its parent, not a free one.
        session = self.account(principal)
        above = session if principal.session else (session.nearest("agent") or session)
        self.agents.register(child, parent=principal, account=above)
        source.fork(child.branch_name)
        self.record(child, "agent.fork", {"from": principal.agent, "to": new_agent})
        return child

    def merge_agent(
        self, principal: Principal, other: Principal, strategy: Strategy = "fail"
    ) -> MergeResult:
        """Merge another agent's state into a principal's; what entered its sessions comes along.

        Raises:
            NotFoundError: if the other agent has no state.
            MergeConflict: if both changed the same thing and the strategy is "fail".
        """
        if self.known_agent_fs(other) is None:
            raise NotFoundError(f"the agent {other.agent!r} has no state", hint="`fmos agent list`")
        # Noted first: cut short, this leaves labels too many, and not a stranger's text unmarked.
        self.entered.merged(principal, other)
        merged = self.agent_fs(principal).merge(other.branch_name, strategy)
        self.record(principal, "agent.merge", {"from": other.agent, "to": principal.agent})
        return merged

    def _is_stopped(self, principal: Principal) -> bool:
        return self.agents.descent(principal).state is not AgentState.RUNNING

    def drop_agent(self, principal: Principal) -> None:
        """Delete a forked agent's branch; its history and its spending stay.

        Raises:
            NotFoundError: if the agent has no branch.
        """
        self._branches.drop(principal)
        self.agents.forget_origin(principal)
        self.delegations.forget(principal.tenant, principal.agent_key)
        self.volume(principal.tenant).record("agent.drop", {"agent": principal.agent})

    def standing(self, principal: Principal) -> Standing:
        """Return what binds a principal now, and the account that it spends from.

        Raises:
            ContractError: if a contract or policy that binds the principal is broken.
        """
        return self._standings.of(principal)

    def acting(self, principal: Principal, standing: Standing | None = None) -> Standing:
        """Return what `standing` does, or did, of an agent that may do something now.

        Raises:
            DeniedError: if the agent is paused or was killed.
            ContractError: as of `standing`.
        """
        standing = standing or self.standing(principal)
        if standing.stopped:
            raise DeniedError(standing.stopped)
        return standing

    def require_running(self, principal: Principal) -> None:
        """Refuse anything more of an agent that is paused or was killed; looks at nothing else.

        Raises:
            DeniedError: saying so.
        """
        stopped = refusal(principal.agent_key, self.agents.descent(principal).state)
        if stopped:
            raise DeniedError(stopped)

    def mandate(self, principal: Principal) -> Mandate:
        """Return all that binds a principal now.

        Raises:
            ContractError: if a contract or policy that binds the principal is broken.
        """
        return self.standing(principal).mandate

    def contract(self, principal: Principal) -> AgentContract | None:
        """Return the effective contract: what the agent asks for, within what every layer allows.

        A fork without a contract has that of the nearest agent it was forked from.

        Raises:
            ContractError: if a contract or policy that binds the principal is broken.
        """
        return self.mandate(principal).contract

    def manifest(self, principal: Principal) -> Manifest | None:
        """Return the effective contract sealed, with who decided what; its hash is in verdicts.

        Raises:
            ContractError: if a contract or policy that binds the principal is broken.
        """
        return self.mandate(principal).manifest

    def permit(
        self, principal: Principal, kind: OperationKind, standing: Standing | None = None
    ) -> None:
        """Refuse a kind of operation that contract or policies deny, or want consent for.

        `standing` is what was found of the principal for the same operation already.

        Raises:
            DeniedError: saying what refuses it, also for an agent that is not running.
            ContractError: if a contract or policy that binds the principal is broken.
        """
        mandate = self.acting(principal, standing).mandate
        bounds = mandate.bounds
        if mandate.wants_contract:
            why = f"not without a contract, as the {mandate.wants_contract} policy says, for"
            way_out = f"let a person put one at contracts/{principal.agent}.yaml"
        elif kind.value in bounds.security.deny:
            why, way_out = "denied to", "use what is granted, or tell the user that you cannot"
        elif bounds.needs_consent(kind.value):
            why, way_out = "not without a person's consent for", "tell the user what you wanted"
        else:
            return
        raise DeniedError(f"{kind.value!r} is {why} the agent {principal.agent!r}", hint=way_out)

    def account(self, principal: Principal) -> Account:
        """Return the account of a principal's session; a fork's lies under what forked it."""
        return self._standings.account(principal)

    def reserve(
        self,
        principal: Principal,
        amounts: Mapping[str, int],
        *,
        operation: str,
        ttl_s: int = RESERVATION_TTL_S,
        standing: Standing | None = None,
    ) -> Reservation:
        """Set amounts aside for one operation, under every limit that is declared for it.

        `standing` is what was found of the principal for the same operation already.

        Raises:
            BudgetExceededError: naming the account that has not enough left.
            DeniedError: if the agent is paused or was killed.
            ContractError: if a contract or policy is broken; nothing is reserved then.
        """
        standing = self.acting(principal, standing)
        with telemetry.spending(principal):
            return self._spending.reserve(standing, amounts, operation=operation, ttl_s=ttl_s)

    def charge(self, principal: Principal, amounts: Mapping[str, int]) -> None:
        """Spend what was used already, whatever the limits say.

        Raises:
            ContractError: if a contract or policy is broken.
        """
        standing = self.standing(principal)
        with telemetry.spending(principal, amounts):
            self._spending.charge(standing, amounts)

    def pay_call(self, standing: Standing) -> None:
        """Spend one tool call of those that a principal may make.

        Raises:
            BudgetExceededError: if an account has no call left, or no time for one.
        """
        with telemetry.spending(standing.principal, {"tool_calls": 1}):
            self._spending.pay_call(standing)

    def hold_risk(self, standing: Standing, risk: int, *, operation: str) -> Reservation:
        """Set the risk of a call aside, in micro-units, until its outcome is known.

        Raises:
            BudgetExceededError: naming the account that has not enough left.
        """
        with telemetry.spending(standing.principal):
            return self._spending.hold_risk(standing, risk, operation=operation)

    def limits_calls(self, standing: Standing) -> bool:
        """Return whether a tool call spends of a limit: then none may run at once."""
        return self._spending.limits_calls(standing)

    def apply_limits(self, standing: Standing) -> None:
        """Bring a principal's accounts to the limits that are declared now."""
        with telemetry.layer("ledger"):
            self._spending.apply_limits(standing)

    def record(
        self,
        principal: Principal,
        event: str,
        detail: dict[str, Any],
        *,
        synced: bool = False,
        call: Call | None = None,
    ) -> int:
        """Append one kernel event to the tenant's journal and return its sequence number.

        It survives a killed process; `synced` waits until it survives a power cut as well. `call`
        is kept with the row where the session is recorded: the content, which no row has.
        """
        durability = "full" if synced else "normal"
        with telemetry.layer("journal"):
            handle = self._branches.handle(principal, system=True, durability=durability)
            if call is None or not self.recordings.begin(principal):
                seq = handle.record(event, detail)
            else:
                with handle.transaction():
                    seq = handle.record(event, detail)
                    self.recordings.add(principal, call, seq, handle)
        telemetry.recorded(event, seq, detail.get("id"))
        return seq
