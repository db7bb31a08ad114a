"""The section on approvals of docs/trust-gate.md is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.threats.terminal import at_terminal, fmos

from fmos.client import connect
from fmos.effects import Trial
from fmos.runtime.kernel import Kernel
from fmos.settings import TrustSettings
from fmos.types import Principal

_PAGE = (Path(__file__).parents[2] / "docs" / "trust-gate.md").read_text(encoding="utf-8")
_SECTION = _PAGE.split("\n## Approvals and effects\n")[1].split("\n## ")[0]
_CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: clerk
capabilities: ["process.run"]
security: { consent_for: ["destructive"] }
"""
_TOOL = {
    "name": "run", "capability": "process.run", "effect": "execute",
    "roles": {"command": "command"},
}  # fmt: skip


def test_the_question_is_as_it_is_shown(tmp_path: Path) -> None:
    """The terminal shows what stands there, but for the id and the times."""
    home, who = tmp_path / "home", Principal(agent="clerk", session="monday")
    with Kernel.open(home) as kernel, connect(who, kernel=kernel) as client:
        kernel.contracts.save(_CONTRACT)
        client.call("trust_register_tools", {"tools": [_TOOL]})
        files = kernel.agent_files(who)
        files.mkdir("/work/old", parents=True)
        files.write("/work/old/notes.txt", "of no use\n")
        trial = Trial.begin(files)
        trial.files.remove("/work/old", recursive=True)
        operation = {"kind": "tool.call", "name": "run",
                     "arguments": {"command": "rm -r /work/old"}}  # fmt: skip
        client.call("trust_check", {"operation": operation, "effect": trial.branch})
    code, said = at_terminal(fmos(home, "approve"), "y")
    assert code == 0, said
    (block,) = re.findall(r"```console\n\$ fmos approve\n(.*?)```", _SECTION, re.DOTALL)
    assert _plain(said) == _plain(block)


def test_the_settings_are_those_of_the_page() -> None:
    """The TOML block has every setting of approvals, with its default."""
    (block,) = re.findall(r"```toml\n(.*?)```", _SECTION, re.DOTALL)
    said = tomllib.loads(block)["trust"]
    defaults = TrustSettings().model_dump()
    assert said == {
        name: list(defaults[name]) if isinstance(defaults[name], tuple) else defaults[name]
        for name in ("approve_within_s", "approvers", "escalate_to", "max_pending", "elicit")
    }


def _plain(text: str) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "ID", text)
    text = re.sub(r"\d+ s ago, \d+ s left", "N s ago, N s left", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
