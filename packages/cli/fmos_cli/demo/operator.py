"""The person at the gate: sees what a call did on a fork, and lets it count or not.

Without a terminal the demo's scripted operator answers; its name says so in the journal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from langchain.agents.middleware.types import ToolCallRequest

from agentfs import AgentFS
from fmos.effects import Effect, PathChange, look
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Verdict
from fmos_cli.demo.timeline import Timeline
from fmos_trust.approvals import Approvals

SCRIPTED = "the demo's scripted operator"
_SHOWN = 6
_LETTERS = {"added": "A", "modified": "M", "removed": "D"}


class Operator:
    """Answers what the trust gate asks about the calls of one agent."""

    def __init__(
        self,
        kernel: Kernel,
        files: AgentFS,
        timeline: Timeline,
        *,
        interactive: bool,
        where: str,
    ) -> None:
        self._kernel = kernel
        self._files = files
        self._timeline = timeline
        self._interactive = interactive and sys.stdin.isatty()
        self._where = where
        self._approved: list[Effect] = []
        self.merged = 0

    def answer(self, operation: Operation, verdict: Verdict, request: ToolCallRequest) -> bool:
        """Show the difference that a call made on its fork, and decide."""
        fork = next((str(o.parameters.get("effect", "")) for o in verdict.obligations), "")
        if not fork:
            return self._decide(verdict, approve=False, why="the demo approves what it can see")
        effect = look(self._files, fork)
        what = operation.arguments.get("command", operation.name)
        self._timeline.event("fork.run", f"{what!r} on {fork} in {self._where}")
        self._show(effect.changes)
        approve = self._approves(operation, effect)
        if approve:
            self._approved.append(effect)
        return self._decide(verdict, approve=approve, why="after seeing the difference")

    def tell_merged(self) -> None:
        """Say which approved effects have come about: the gate drops a fork as it merges it."""
        there = {branch.name for branch in self._files.branches()} if self._approved else set()
        for effect in [each for each in self._approved if each.branch not in there]:
            self._approved.remove(effect)
            self.merged += 1
            detail = f"{len(effect.changes)} paths merged, {effect.branch} dropped"
            self._timeline.event("fork.merge", detail)

    def _decide(self, verdict: Verdict, *, approve: bool, why: str) -> bool:
        person = "user:terminal" if self._interactive else SCRIPTED
        Approvals(self._kernel).decide(verdict.approval or "", approve, person, why)
        said = "approved" if approve else "refused"
        self._timeline.event(f"approval.{said}", f"by {person}: {why}")
        return approve

    def _show(self, changes: Sequence[PathChange]) -> None:
        self._timeline.event("fork.diff", f"{len(changes)} paths differ on the fork")
        for change in changes[:_SHOWN]:
            self._timeline.say(f"        {_LETTERS[change.kind]} {change.path!r}"[:150], "dim")
        if len(changes) > _SHOWN:
            self._timeline.say(f"        ... and {len(changes) - _SHOWN} more", "dim")

    def _approves(self, operation: Operation, effect: Effect) -> bool:
        if not self._interactive:
            return True
        self._timeline.pause()
        print(
            f"merge {len(effect.changes)} changes of {operation.name}? [y/N] ",
            end="", file=sys.stderr, flush=True,
        )  # fmt: skip
        said = sys.stdin.readline().strip().lower()
        self._timeline.resume()
        return said in ("y", "yes")
