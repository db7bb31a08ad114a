"""The gate's side of effects that are approved: looks at a fork itself, merges it once, drops it.

A merge and its row in the journal are one transaction of the volume, so that it is known, whatever
is killed, whether an approved effect has come about.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from agentfs import AgentFS
from agentfs.errors import AgentFSError, BranchNotFound
from fmos.effects import TRIAL_MARK, Effect, discard, is_trial_of, look
from fmos.errors import ArgumentError
from fmos.runtime.kernel import Kernel
from fmos.types import Obligation, Principal
from fmos_trust.approval_store import ApprovalStore
from fmos_trust.model import Approval

MERGED = "effect.merge"
_OUTPUTS = "/.fmos/effects"
_OUTPUT_CHARACTERS = 65_536
_DAY_NS = 86_400 * 1_000_000_000


class Trials:
    """The forks of one home on which agents' calls were tried. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = ApprovalStore(kernel.database)

    def look(self, who: Principal, branch: str) -> Effect:
        """Return what merging a fork would change in the agent's branch now.

        Raises:
            ArgumentError: if it is no fork of the agent's branch that a call was tried on.
        """
        files = self._kernel.agent_files(who)
        if not is_trial_of(branch, str(files.branch)):
            raise ArgumentError(
                f"{branch!r} is no fork of {str(files.branch)!r} for a call to be tried on",
                hint=f"name it {files.branch}{TRIAL_MARK}..., as fmos.effects.Trial does",
            )
        try:
            return look(files, branch)
        except BranchNotFound as error:
            raise ArgumentError(
                f"the fork {branch!r} is gone", hint="run the call on a new fork"
            ) from error

    @contextmanager
    def holding(self, who: Principal) -> Iterator[AgentFS]:
        """Hold the tenant's volume, so that what was looked at is what is merged."""
        with self._kernel.agent_fs(who).transaction() as own:
            yield own

    def merge(self, who: Principal, approval: Approval) -> None:
        """Bring an approved effect about and note it; inside `holding`."""
        assert approval.effect is not None
        files = self._kernel.agent_files(who)
        files.merge(approval.effect.branch)
        files.delete_branch(approval.effect.branch)
        detail = {
            "approval": approval.id, "effect": approval.effect.digest,
            "paths": len(approval.effect.paths),
        }  # fmt: skip
        self._kernel.agent_fs(who).record(MERGED, detail)

    def is_merged(self, who: Principal, approval: Approval) -> bool:
        """Return whether the journal has the merge of an approved effect."""
        rows = self._kernel.agent_fs(who).journal(since=approval.decided_seq, operation=MERGED)
        return any(row.detail.get("approval") == approval.id for row in rows)

    def keep_output(self, who: Principal, approval: str, output: str) -> None:
        """Keep what a call printed on its fork, for whoever gets to know that it is done."""
        fs = self._kernel.agent_fs(who)
        fs.mkdir(_OUTPUTS, parents=True, exist_ok=True)
        said = output[:_OUTPUT_CHARACTERS].encode("utf-8", "replace")
        fs.write(f"{_OUTPUTS}/{approval}", said)

    def done(self, who: Principal, approval: Approval) -> Obligation:
        """Return what tells the caller that the effect has come about, and what it printed."""
        output = ""
        with suppress(AgentFSError):
            path = f"{_OUTPUTS}/{approval.id}"
            output = self._kernel.agent_fs(who).read(path).decode("utf-8", "replace")
        branch = approval.effect.branch if approval.effect else ""
        return Obligation(kind="effect_done", parameters={"branch": branch, "output": output})

    def sweep(self) -> int:
        """Drop the forks of what was refused, replaced or not answered; return how many."""
        now_ns, count = self._kernel.clock.now_ns(), 0
        for each in self._store.ended_with_branch():
            unfinished = each.state == "used" and each.expires_ns + _DAY_NS > now_ns
            if each.effect is None or unfinished:  # who lost the answer may ask for it again
                continue
            fs = self._kernel.known_agent_fs(each.principal)
            if fs is not None:
                self._drop(fs, each)
            self._store.branch_gone(each.id)
            count += 1
        return count

    def sweep_orphans(self) -> int:
        """Drop the forks of a day ago that no approval ever named; return how many."""
        before_ns, count = self._kernel.clock.now_ns() - _DAY_NS, 0
        for tenant in self._kernel.home.tenants():
            named = self._store.branches(tenant)
            volume = self._kernel.volume(tenant)
            for branch in volume.branches():
                old = TRIAL_MARK in branch.name and branch.created_ns < before_ns
                if old and branch.name not in named:
                    discard(volume, branch.name)
                    count += 1
        return count

    def _drop(self, fs: AgentFS, approval: Approval) -> None:
        assert approval.effect is not None
        # A fork that another approval shows by now is that one's.
        if approval.state != "replaced" or not self._is_shown_elsewhere(approval):
            discard(fs, approval.effect.branch)
        with suppress(AgentFSError):
            fs.remove(f"{_OUTPUTS}/{approval.id}")

    def _is_shown_elsewhere(self, approval: Approval) -> bool:
        assert approval.effect is not None
        return self._store.shows(approval.effect.branch, approval.id)
