from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fmos.runtime.kernel import Kernel
from fmos.types import Principal, Verdict
from fmos_trust.tools import TrustTools

_ROOT = Path(__file__).resolve().parents[2]
_CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: fuzzed
capabilities: [pay]
"""
_PAY = {
    "name": "pay",
    "effect": "write",
    "input_schema": {
        "type": "object",
        "properties": {
            "amount": {"type": "integer", "maximum": 100},
            "kind": {"enum": ["rent", "food"]},
            "notes": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        },
        "required": ["amount"],
        "additionalProperties": False,
    },
}


@pytest.mark.parametrize("seed", [1, 2])
def test_what_does_not_conform_is_refused(seed: int) -> None:
    """Of generated calls each wrong one is refused, no right one is, and nothing is raised."""
    command = [sys.executable, "-m", "benchmarks.schema_fuzz", "--json"]
    options = ["--calls", "3000", "--seed", str(seed)]
    done = subprocess.run([*command, *options], cwd=_ROOT, capture_output=True, text=True)
    score = json.loads(done.stdout)
    assert done.returncode == 0, score["examples"]
    assert score["crashes"] == 0
    assert score["wrong_refused"] == score["wrong"] > 1_000
    assert score["right"] > 500
    assert score["right_refused"] <= score["right"] // 100


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"amount": "5"},
        {"amount": 101},
        {"amount": 5.5},
        {"amount": True},
        {"amount": 5, "kind": "rents"},
        {"amount": 5, "notes": ["a", "b", "c"]},
        {"amount": 5, "notes": [1]},
        {"amount": 5, "extra": 1},
    ],
)
def test_the_gate_refuses_what_does_not_conform(kernel: Kernel, arguments: dict[str, Any]) -> None:
    """The whole gate denies such a call, and allows the right one."""
    kernel.contracts.save(_CONTRACT)
    tools = TrustTools(kernel, Principal(agent="fuzzed", session="s1"))
    tools.call("trust_register_tools", {"tools": [_PAY]})

    def check(given: dict[str, Any]) -> Verdict:
        call = {"kind": "tool.call", "name": "pay", "arguments": given}
        return Verdict.model_validate(tools.call("trust_check", {"operation": call}))

    assert check(arguments).decision == "deny"
    assert check({"amount": 5, "kind": "food", "notes": []}).allowed
