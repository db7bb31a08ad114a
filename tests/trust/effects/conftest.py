"""An agent whose removals are asked about, with files, and a try of one of them on a fork."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.trust.conftest import CONTRACT, TOOLS

from agentfs import AgentFS
from fmos.clock import FixedClock
from fmos.effects import Trial
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Principal, Verdict
from fmos_trust.approvals import Approvals
from fmos_trust.tools import TrustTools

WHO = Principal(agent="writer", session="s1")
ID = "0" * 32


@dataclass
class Gate:
    """The gate of one home, its agent's files, and one call that is asked about."""

    kernel: Kernel
    tools: TrustTools
    files: AgentFS

    def check(
        self, approval: str = "", effect: str = "", output: str = "", **fields: Any
    ) -> Verdict:
        """Put `rm -r /out/old` to the gate, always as the same operation."""
        said = {"id": ID, "kind": "tool.call", "name": "run"}
        given = {"arguments": {"command": "rm -r /out/old"}, **fields}
        operation = Operation.model_validate(said | given).model_dump(mode="json")
        answer = self.tools.call(
            "trust_check",
            {"operation": operation, "approval": approval, "effect": effect, "output": output},
        )
        return Verdict.model_validate(answer)

    def trial(self, change: Callable[[AgentFS], object] | None = None) -> Trial:
        """Do on a fork what the call would do."""
        trial = Trial.begin(self.files)
        (change or (lambda files: files.remove("/out/old", recursive=True)))(trial.files)
        return trial

    def asked(self, output: str = "removed") -> tuple[str, Trial]:
        """Have the call asked about with its effect; return the approval and the try."""
        trial = self.trial()
        first = self.check()
        asked = self.check(str(first.approval), trial.branch, output)
        assert (asked.decision, asked.approval) == ("ask", first.approval)
        return str(asked.approval), trial

    def approve(self, approval: str, *, yes: bool = True) -> None:
        """Answer as a person."""
        Approvals(self.kernel).decide(approval, yes, "user:ann")

    @property
    def forks(self) -> list[str]:
        """The tries that are there."""
        names = [branch.name for branch in self.kernel.volume("default").branches()]
        return [name for name in names if "~try-" in name]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate whose clock moves when told to, and an agent with a few files."""
    with Kernel.open(tmp_path / "home", FixedClock()) as kernel:
        kernel.contracts.save(CONTRACT)
        tools = TrustTools(kernel, WHO)
        tools.call("trust_register_tools", {"tools": TOOLS})
        files = kernel.agent_files(WHO)
        files.mkdir("/out/old", parents=True)
        files.write("/out/old/a.txt", "one\ntwo\n")
        files.write("/out/keep.txt", "kept\n")
        yield Gate(kernel, tools, files)
