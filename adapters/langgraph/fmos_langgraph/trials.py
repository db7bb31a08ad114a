"""Runs an asked call on a fork of the agent's files, so that a person sees what it would do.

Only tools that work on nothing but these files can be tried: what they do elsewhere would have
happened already. Which ones those are, the application says by making them over a fork.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

from agentfs import AgentFS
from agentfs.errors import AgentFSError
from fmos.client import Governor
from fmos.effects import Trial, look
from fmos.types import Operation, Verdict

_OUTSIDE = "its effect happens when it is approved: it was not tried out"


class Trials:
    """The calls of one session that are tried before they are asked about."""

    def __init__(
        self,
        governor: Governor,
        files: AgentFS | None,
        on_fork: Callable[[AgentFS], Iterable[BaseTool]] | None,
    ) -> None:
        self._governor = governor
        self._files = files
        self._on_fork = on_fork

    def tried(self, operation: Operation, verdict: Verdict, request: ToolCallRequest) -> Verdict:
        """Return the verdict on an asked call after it ran on a fork, where it can.

        A call that ran there before, such as before an interrupt, does not run again.
        """
        if self._files is None or self._on_fork is None or not _wants_fork(verdict):
            return verdict
        trial = Trial.begin(self._files)
        try:
            tool = next((t for t in self._on_fork(trial.files) if t.name == operation.name), None)
            if tool is not None:
                output = _text(tool.invoke({**request.tool_call, "type": "tool_call"}))
                asked = verdict.approval or ""
                return self._governor.tried(operation, asked, trial.branch, output)
        except Exception:  # it cannot be tried; whoever is asked is told that
            tool = None
        with suppress(AgentFSError):
            trial.discard()
        return verdict

    def shown(self, verdict: Verdict) -> dict[str, Any]:
        """Return what the question shows of an effect: its paths and a patch."""
        branch = _fork_of(verdict)
        if self._files is None or not branch:
            return {"tried": False, "note": _OUTSIDE}
        effect = look(self._files, branch)
        paths = [{"path": each.path, "kind": each.kind} for each in effect.changes]
        return {"tried": True, "branch": branch, "paths": paths, "patch": effect.patch}


def done_on_fork(verdict: Verdict) -> str | None:
    """Return what an allowed call printed whose effect is there already; None for another one."""
    for each in verdict.obligations:
        if each.kind == "effect_done":
            return str(each.parameters.get("output", ""))
    return None


def _wants_fork(verdict: Verdict) -> bool:
    return any(each.kind == "run_on_fork" for each in verdict.obligations) and not _fork_of(verdict)


def _fork_of(verdict: Verdict) -> str:
    """Return the fork on which an asked call ran, as the gate knows it."""
    found = (each.parameters for each in verdict.obligations if each.kind == "run_on_fork")
    return next((str(each["effect"]) for each in found if each.get("effect")), "")


def _text(result: Any) -> str:
    return str(result.text) if isinstance(result, ToolMessage) else str(result)
