"""Runs a command on a fork of the agent's branch, so that its effect can be seen before it counts.

`agentfs.run` shows the fork's project folder to the real command and keeps what it changed there.
Merging or dropping the fork is the caller's decision.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from agentfs import AgentFS
from agentfs.types import Change
from fmos.types import new_id
from fmos_cli.demo.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Effect:
    """What one command did, on a fork that is still to be merged or dropped."""

    command: str
    branch: str
    exit_code: int
    output: str
    changes: tuple[Change, ...]


class Effects:
    """The commands of one agent, each on a fork of its own."""

    def __init__(
        self,
        files: AgentFS,
        sandbox: Sandbox,
        folder: str,
        report: Callable[[str, str], None] = lambda operation, detail: None,
    ) -> None:
        self._files = files
        self._sandbox = sandbox
        self._folder = folder
        self._report = report
        self._waiting: dict[str, Effect] = {}
        self._lock = threading.Lock()

    def start(self, command: str) -> Effect:
        """Run a command on a new fork and return its effect.

        Raises:
            DeniedError: if the sandbox refuses the command; there is no fork then.
        """
        # No agent id holds a tilde, so no agent is ever called so.
        branch = f"{self._files.branch}~try-{new_id()[-8:]}"
        fork = self._files.fork(branch)
        try:
            done = self._sandbox.run(fork, command, self._folder)
            changes = tuple(self._files.diff(self._files.branch, branch))
        except BaseException:
            self._files.delete_branch(branch)
            raise
        self._report("fork.run", f"{command!r} on {branch} in {self._sandbox.kind}")
        return Effect(command, branch, done.exit_code, done.output, changes)

    def hold(self, effect: Effect) -> None:
        """Keep an effect that a person approved, for the tool call that follows."""
        with self._lock:
            self._waiting[effect.command] = effect

    def take(self, command: str) -> Effect | None:
        """Return the approved effect of this very command, once."""
        with self._lock:
            return self._waiting.pop(command, None)

    def merge(self, effect: Effect) -> None:
        """Bring the effect into the agent's branch and drop the fork."""
        merged = self._files.merge(effect.branch)
        self.drop(effect)
        self._report("fork.merge", f"{len(merged.changes)} paths merged, {effect.branch} dropped")

    def drop(self, effect: Effect) -> None:
        """Drop the fork; nothing of it reaches the agent's branch unless it was merged."""
        self._files.delete_branch(effect.branch)
