"""The life of an agent as a person steers it: spawn, pause, resume, checkpoint, restore, kill.

    (unknown) --spawn--> running <--pause/resume--> paused
                            |                         |
                            +---------kill------------+---> killed --spawn--> running

That a paused or killed agent does nothing is enforced where operations are decided, by
`Standing.stopped`; here is only who may go where. kernel.db has the state and the volume's journal
the history: a change is in kernel.db first, and whoever looks next writes a row that is missing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic import Field

from agentfs import AgentFS
from agentfs.errors import InvalidName, NotFound, RefExists
from fmos.errors import ArgumentError, NotFoundError
from fmos.ledger.accounts import Account
from fmos.runtime.agents import Registered
from fmos.runtime.kernel import Kernel
from fmos.runtime.states import AgentState, AgentStates, StateRow
from fmos.types import TEMPLATE_BRANCH, Principal, Record, checked_id, new_id

#: What stands between an agent's key and the name of one of its checkpoints.
MARK = "@"

_SPAWN = "agent.spawn"

_ID = r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}"
_KEY = re.compile(rf"(?:({_ID}):)?({_ID})")


class Agent(Record):
    """One agent of a tenant, and what was last said of it."""

    tenant: str
    application: str = ""
    agent: str
    state: AgentState = AgentState.RUNNING
    since_ns: int = Field(default=0, description="when it came into this state; 0: it always was")
    person: str = Field(default="", description="who said so")
    reason: str = ""
    parent: str = Field(default="", description="key of the agent that it was made from")
    created_ns: int = 0
    has_branch: bool = True

    @property
    def key(self) -> str:
        """What tells this agent from all others of the tenant."""
        return f"{self.application}:{self.agent}" if self.application else self.agent


class Checkpoint(Record):
    """A named state of an agent's whole branch."""

    name: str
    agent: str
    message: str = ""
    created_ns: int
    seq: int = Field(description="the journal's row of it")


class Restored(Record):
    """What a restore did; `before` is the journal's row that leads back to the state before it."""

    agent: str
    checkpoint: str
    before: int


class Lifecycle:
    """The lives of one home's agents. Thread-safe, and safe across processes."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._states = AgentStates(kernel.database)

    # -- looking ----------------------------------------------------------------------------

    def show(self, who: Principal) -> Agent:
        """Return one agent.

        Raises:
            NotFoundError: if there is no such tenant, or it has no such agent.
        """
        self._kernel.home.require_tenant(who.tenant)
        agents = {each.key: each for each in self.listing(who.tenant)}
        found = agents.get(who.agent_key)
        if found is None:
            near = _nearest(who, list(agents))
            asked = f"did you mean {near!r}? " if near else ""
            raise NotFoundError(
                f"the tenant {who.tenant!r} has no agent {who.agent_key!r}",
                hint=f"{asked}`fmos agent list` shows them; `fmos agent spawn` makes one",
            )
        return found

    def listing(self, tenant: str) -> list[Agent]:
        """Return all agents of a tenant: who has a branch, or was killed, by key."""
        kernel = self._kernel
        if not kernel.home.volume(tenant).exists():
            return []
        branches = {each.name: each for each in kernel.volume(tenant).branches()}
        registered = {each.key: each for each in kernel.agents.of_tenant(tenant)}
        rows = {row.agent: row for row in self._states.of_tenant(tenant)}
        found: list[Agent] = []
        for key in sorted({*branches, *rows} - {TEMPLATE_BRANCH}):
            match = _KEY.fullmatch(key)
            if match is not None:
                noted = registered.get(key, Registered(key, None, 0))
                agent = _agent(tenant, match, noted, rows.get(key))
                branch = branches.get(key)
                made = min(
                    filter(None, (noted.created_ns, branch and branch.created_ns)), default=0
                )
                update = {"has_branch": branch is not None, "created_ns": made}
                found.append(agent.model_copy(update=update))
        return found

    def is_there(self, who: Principal) -> bool:
        """Return whether there is such an agent now, which was not killed."""
        there = any(each.key == who.agent_key for each in self.listing(who.tenant))
        return there and self._kernel.agents.descent(who).state is not AgentState.KILLED

    def checkpoints(self, who: Principal) -> list[Checkpoint]:
        """Return the checkpoints of an agent, oldest first."""
        begins = f"{who.branch_name}{MARK}"
        return [
            Checkpoint(
                name=each.name, agent=who.agent_key, message=each.message,
                created_ns=each.created_ns, seq=each.seq,
            )
            for each in self._kernel.volume(who.tenant).snapshots()
            if each.branch == who.branch_name and each.name.startswith(begins)
        ]  # fmt: skip

    # -- changing ---------------------------------------------------------------------------

    def spawn(self, who: Principal, source: str = "", *, person: str = "") -> Agent:
        """Make an agent: from the template, or from a checkpoint or an agent named as `source`.

        An agent made from another's state stays within that one's contract, as a fork does, but
        spends from its own account. A killed agent begins anew; the state that it had is kept as a
        checkpoint. Asked again for the same, it changes nothing.

        Raises:
            ArgumentError: if the id is taken or cannot be one.
            NotFoundError: if there is no such source.
        """
        checked_id(who.agent, "an agent id")
        self.settle(who)
        seen = self._states.get(who)
        state = self._kernel.agents.descent(who).state
        origin = self._origin(who, source)
        if state is not AgentState.KILLED and self._exists(who):
            return self._again(who, source)
        parent = origin if origin is not None and origin.agent_key != who.agent_key else None
        self._kernel.agents.register(who, parent=parent)
        row = self._row(who, AgentState.RUNNING, _SPAWN, person, "")
        row = replace(row, detail={"from": source or TEMPLATE_BRANCH}, noted=True)
        self._branch(who, source or TEMPLATE_BRANCH, row)
        self._keep(who, row, seen)
        return self.show(who)

    def pause(self, who: Principal, *, reason: str = "", person: str = "") -> Agent:
        """Deny an agent whatever it asks for until it is resumed; what runs already ends.

        Raises:
            NotFoundError: if the tenant has no such agent.
            ArgumentError: if it was killed.
        """
        return self._change(who, AgentState.PAUSED, "agent.pause", reason, person)

    def resume(self, who: Principal, *, reason: str = "", person: str = "") -> Agent:
        """Let a paused agent go on.

        Raises:
            NotFoundError: if the tenant has no such agent.
            ArgumentError: if it was killed.
        """
        return self._change(who, AgentState.RUNNING, "agent.resume", reason, person)

    def kill(self, who: Principal, *, reason: str = "", person: str = "") -> Agent:
        """End an agent for good and give back what it holds reserved; its branch stays.

        Forks of it live on. Only a person can start its id anew, with `spawn`.

        Raises:
            NotFoundError: if the tenant has no such agent.
        """
        done = self._change(who, AgentState.KILLED, "agent.kill", reason, person)
        self.release(who)
        return done

    def release(self, who: Principal) -> int:
        """Give back what an agent's own sessions hold reserved; return how many reservations."""
        account = self._kernel.account(who.model_copy(update={"session": ""}))
        holder: Account | None = account.nearest("agent")
        return 0 if holder is None else self._kernel.ledger.give_back(holder)

    def fork(self, who: Principal, new_agent: str) -> Agent:
        """Fork a whole agent to a new id, which works under its contract and spends from it.

        Raises:
            NotFoundError: if the tenant has no such agent.
            ArgumentError: if the new id is taken or cannot be one.
        """
        self._require_branch(who)
        return self.show(self._kernel.fork_agent(who, new_agent))

    def checkpoint(
        self, who: Principal, name: str = "", *, message: str = "", person: str = ""
    ) -> Checkpoint:
        """Name the state of an agent's whole branch `<agent>@<name>`, by default with a fresh id.

        Raises:
            NotFoundError: if the agent has no branch.
            ArgumentError: if the name is taken or cannot be one.
        """
        fs = self._require_branch(who)
        full = f"{who.branch_name}{MARK}{checked_id(name or new_id(), 'a checkpoint name')}"
        detail = {"checkpoint": full, "person": person}
        try:
            with fs.transaction():
                made = fs.snapshot(full, message)
                fs.record("agent.checkpoint", detail)
        except RefExists as error:
            raise ArgumentError(
                f"there is a state of the name {full!r} already", hint="choose another name"
            ) from error
        except InvalidName as error:
            raise ArgumentError(f"{full!r} cannot be a name: {error}") from error
        return Checkpoint(
            name=made.name, agent=who.agent_key, message=message, created_ns=made.created_ns,
            seq=made.seq,
        )  # fmt: skip

    def restore(self, who: Principal, checkpoint: str, *, person: str = "") -> Restored:
        """Set an agent's files, memory, context and checkpoints back; what it spent stays spent.

        `checkpoint` is one of its own, with or without `<agent>@`, or `@N` for the state after the
        journal's row N.

        Raises:
            NotFoundError: if the agent has no branch or no such state.
            ArgumentError: if it was killed.
        """
        fs = self._require_branch(who)
        if self._kernel.agents.descent(who).state is AgentState.KILLED:
            raise _killed(who, f"start it anew with `fmos agent spawn {who.agent} --from ...`")
        ref = self._own_state(who, checkpoint)
        try:
            with fs.transaction():
                detail = {"checkpoint": ref, "person": person}
                # The row before this one is the last of the state that is left.
                before = fs.record("agent.restore", detail) - 1
                fs.restore(ref)
        except NotFound as error:
            raise NotFoundError(f"the state {ref!r} cannot be had: {error}") from error
        return Restored(agent=who.agent_key, checkpoint=ref, before=before)

    # -- the journal's part -------------------------------------------------------------------

    def settle(self, who: Principal) -> None:
        """Write the journal row of an agent's last change, if a killed process did not."""
        row = self._states.get(who)
        if row is not None and not row.noted and row.state is not AgentState.IMPORTING:
            self._note(who, row)

    def settle_all(self) -> int:
        """Do what `settle` does for the agents of all tenants; return for how many."""
        waiting = [row for row in self._states.unnoted() if row.state is not AgentState.IMPORTING]
        for row in waiting:
            self._note(_principal(row.tenant, row.agent), row)
        return len(waiting)

    def _note(self, who: Principal, row: StateRow) -> None:
        fs = self._kernel.known_agent_fs(who) or self._kernel.volume(who.tenant)
        with fs.transaction():
            if not _has_change(fs.journal(operation=row.event, branch=fs.branch), row.change):
                fs.record(row.event, _detail(row))
        self._states.set_noted(row)

    def _change(
        self, who: Principal, state: AgentState, event: str, reason: str, person: str
    ) -> Agent:
        self.show(who)
        row = self._row(who, state, event, person, reason)
        while not self._put(who, row):
            self.settle(who)
        self.settle(who)
        return self.show(who)

    def _put(self, who: Principal, row: StateRow) -> bool:
        """Keep a change if it is one; return False while the journal lacks the one before."""
        with self._kernel.database.transaction():
            last = self._states.get(who)
            now = last.state if last is not None else AgentState.RUNNING
            if now is row.state:
                return True
            _require_possible(who, now)
            if last is not None and not last.noted:
                return False
            self._kernel.agents.register(who)
            self._states.put(row)
            return True

    def _row(
        self, who: Principal, state: AgentState, event: str, person: str, reason: str
    ) -> StateRow:
        return StateRow(
            who.tenant, who.agent_key, state, self._kernel.clock.now_ns(), person, reason,
            new_id(), event, {},
        )  # fmt: skip

    # -- spawning -----------------------------------------------------------------------------

    def _origin(self, who: Principal, source: str) -> Principal | None:
        """Return the agent whose state a source is, or None for the template."""
        if not source or source == TEMPLATE_BRANCH:
            return None
        volume = self._kernel.volume(who.tenant)
        branch = next((s.branch for s in volume.snapshots() if s.name == source), None)
        if branch is None and any(each.name == source for each in volume.branches()):
            branch = source
        if branch is None or _KEY.fullmatch(branch) is None:
            raise NotFoundError(
                f"there is no checkpoint or agent {source!r} in the tenant {who.tenant!r}",
                hint="`fmos agent show` lists an agent's checkpoints",
            )
        return None if branch == TEMPLATE_BRANCH else _principal(who.tenant, branch)

    def _exists(self, who: Principal) -> bool:
        return self._states.get(who) is not None or self._kernel.known_agent_fs(who) is not None

    def _again(self, who: Principal, source: str) -> Agent:
        """Return the agent that was spawned so before, or say that the id is taken."""
        if self._made_from(who) != (source or TEMPLATE_BRANCH):
            raise ArgumentError(
                f"the agent id {who.agent_key!r} is taken",
                hint="choose another id, or kill that agent first",
            )
        if self._states.get(who) is None:  # the process that spawned it was killed
            row = self._row(who, AgentState.RUNNING, _SPAWN, "", "")
            self._keep(who, replace(row, noted=True), None)
        return self.show(who)

    def _keep(self, who: Principal, row: StateRow, seen: StateRow | None) -> None:
        """Keep a spawn, unless somebody changed the agent since its state was `seen`."""
        with self._kernel.database.transaction():
            last = self._states.get(who)
            if (last and last.change) == (seen and seen.change):
                self._states.put(row)

    def _made_from(self, who: Principal) -> str | None:
        """Return what an agent was spawned from, as kernel.db or else the journal says."""
        row = self._states.get(who)
        if row is not None and row.event == _SPAWN:
            return row.detail.get("from")
        fs = self._kernel.known_agent_fs(who)
        rows = fs.journal(operation=_SPAWN, branch=fs.branch) if fs is not None else ()
        last = list(rows)[-1:]
        return last[0].detail.get("from") if last else None

    def _branch(self, who: Principal, source: str, row: StateRow) -> None:
        """Give the agent the state of a source and note the spawn, in one transaction."""
        volume, name = self._kernel.volume(who.tenant), who.branch_name
        known = self._kernel.known_agent_fs(who)
        try:
            with volume.transaction():
                if known is None:
                    volume.fork(name, source=source)
                else:
                    kept = f"{name}{MARK}killed-{row.change}"
                    known.snapshot(kept, "as it was when it was killed")
                    known.restore(source)
                fs = volume.on(name, system=True, principal=str(who))
                fs.record(row.event, _detail(row))
        except RefExists as error:
            raise ArgumentError(
                f"{name!r} is the name of another state in the volume of tenant {who.tenant!r}",
                hint="choose another agent id",
            ) from error

    def _require_branch(self, who: Principal) -> AgentFS:
        self.show(who)
        fs = self._kernel.known_agent_fs(who)
        if fs is None:
            raise NotFoundError(f"the agent {who.agent_key!r} has no branch any more")
        return fs

    def _own_state(self, who: Principal, text: str) -> str:
        if text[:1] == MARK and text[1:].isdecimal():
            return text
        names = {each.name for each in self.checkpoints(who)}
        full = text if text in names else f"{who.branch_name}{MARK}{text}"
        if full not in names:
            raise NotFoundError(
                f"the agent {who.agent_key!r} has no checkpoint {text!r}",
                hint=f"`fmos agent show {who.agent}` lists them",
            )
        return full


def _nearest(who: Principal, known: list[str]) -> str:
    """Return the key that is most like an agent's: of its id in another application first."""
    same = [each for each in known if each.rpartition(":")[2] == who.agent]
    near = same or difflib.get_close_matches(who.agent_key, known, n=1)
    return near[0] if near else ""


def _require_possible(who: Principal, now: AgentState) -> None:
    if now is AgentState.KILLED:
        raise _killed(who, f"start it anew with `fmos agent spawn {who.agent}`")
    if now is AgentState.IMPORTING:
        raise ArgumentError(
            f"the agent {who.agent_key!r} is being imported", hint="wait until that has ended"
        )


def _killed(who: Principal, hint: str) -> ArgumentError:
    return ArgumentError(f"the agent {who.agent_key!r} was killed", hint=hint)


def _has_change(rows: Iterator[Any], change: str) -> bool:
    return any(row.detail.get("change") == change for row in rows)


def _detail(row: StateRow) -> dict[str, Any]:
    said = {"agent": row.agent, "person": row.person, "reason": row.reason, "change": row.change}
    return {**row.detail, **said}


def _principal(tenant: str, key: str) -> Principal:
    application, _, agent = key.rpartition(":")
    return Principal(tenant=tenant, application=application, agent=agent)


def _agent(tenant: str, match: re.Match[str], noted: Registered, row: StateRow | None) -> Agent:
    said: dict[str, Any] = {}
    if row is not None:
        said = {"state": row.state, "since_ns": row.since_ns}
        said |= {"person": row.person, "reason": row.reason}
    names = {"application": match[1] or "", "agent": match[2], "parent": noted.parent or ""}
    return Agent(tenant=tenant, **names, **said)
