"""The person at the gate: sees what a command did on a fork, and merges or drops it.

Without a terminal the demo's scripted operator answers; its name says so in the journal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from langchain.agents.middleware.types import ToolCallRequest

from agentfs.types import Change
from fmos.errors import FmosError
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Verdict
from fmos_cli.demo.effects import Effect, Effects
from fmos_cli.demo.timeline import Timeline
from fmos_trust.approvals import Approvals

SCRIPTED = "the demo's scripted operator"
_SHOWN = 6
_LETTERS = {"added": "A", "modified": "M", "removed": "D"}


class Operator:
    """Answers what the trust gate asks about the commands of one agent."""

    def __init__(
        self, kernel: Kernel, effects: Effects, timeline: Timeline, *, interactive: bool
    ) -> None:
        self._kernel = kernel
        self._effects = effects
        self._timeline = timeline
        self._interactive = interactive and sys.stdin.isatty()
        self.merged: list[Effect] = []

    def answer(self, operation: Operation, verdict: Verdict, request: ToolCallRequest) -> bool:
        """Run the command on a fork, show the difference, and decide."""
        command = operation.arguments.get("command")
        if not isinstance(command, str):
            return self._decide(verdict, approve=False, why="the demo approves commands only")
        try:
            effect = self._effects.start(command)
        except FmosError as error:
            self._timeline.event("fork.run", str(error))
            return self._decide(verdict, approve=False, why=str(error))
        self._show(effect.changes)
        approve = self._approves(effect)
        if approve:
            self._effects.hold(effect)
            self.merged.append(effect)
        else:
            self._effects.drop(effect)
        return self._decide(verdict, approve=approve, why="after seeing the difference")

    def _decide(self, verdict: Verdict, *, approve: bool, why: str) -> bool:
        person = "user:terminal" if self._interactive else SCRIPTED
        Approvals(self._kernel).decide(verdict.approval or "", approve, person, why)
        said = "approved" if approve else "refused"
        self._timeline.event(f"approval.{said}", f"by {person}: {why}")
        return approve

    def _show(self, changes: Sequence[Change]) -> None:
        self._timeline.event("fork.diff", f"{len(changes)} paths differ on the fork")
        for change in changes[:_SHOWN]:
            self._timeline.say(f"        {_LETTERS[change.kind]} {change.path!r}"[:150], "dim")
        if len(changes) > _SHOWN:
            self._timeline.say(f"        ... and {len(changes) - _SHOWN} more", "dim")

    def _approves(self, effect: Effect) -> bool:
        if not self._interactive:
            return True
        self._timeline.pause()
        print(
            f"merge {len(effect.changes)} changes of {effect.command!r}? [y/N] ",
            end="", file=sys.stderr, flush=True,
        )  # fmt: skip
        said = sys.stdin.readline().strip().lower()
        self._timeline.resume()
        return said in ("y", "yes")
