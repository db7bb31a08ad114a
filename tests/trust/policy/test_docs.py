"""The page's sections on rules are true: what stands there is what commands print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from tests.core.console_blocks import blocks, commands, run

from fmos.contract.trust_policy import Constraint, RuleEffect, SourceKind, ValueType
from fmos.contract.written import VARIABLES
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_trust.tools import TrustTools

_PAGE = (Path(__file__).parents[3] / "docs" / "trust-gate.md").read_text(encoding="utf-8")
CONTRACT = """apiVersion: agentos/v0.2
kind: AgentContract
name: writer
capabilities: [pay, send, deploy, save]
"""
TOOLS = [
    {"name": "pay", "effect": "send"},
    {"name": "send", "effect": "send"},
    {"name": "deploy", "effect": "execute"},
    {"name": "save", "effect": "write"},
]
CALLS = [
    ("pay", {"to": "Acme", "amount": "120 EUR"}),
    ("pay", {"to": "Acme", "amount": "€ 900.00"}),
    ("send", {"to": "ann@example.com", "text": "hi"}),
    ("save", {"path": "/work/a.md"}),
]


def _section(heading: str) -> str:
    return _PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_the_ten_minutes_are_as_they_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command prints what stands below it, in a home in which the agent has worked."""
    section = _section("In ten minutes")
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        kernel.contracts.save(CONTRACT)
        gate = TrustTools(kernel, Principal(agent="writer", session="monday"))
        gate.call("trust_register_tools", {"tools": TOOLS})
        for tool, arguments in CALLS:
            operation = {"kind": "tool.call", "name": tool, "arguments": arguments}
            gate.call("trust_check", {"operation": operation})
    monkeypatch.setenv("FMOS_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    policy = next(each.text for each in blocks(section) if each.language == "yaml")
    (tmp_path / "office.yaml").write_text(policy, encoding="utf-8")
    given = re.search(r"`args.json` is `(.*?)`", section)
    assert given is not None
    (tmp_path / "args.json").write_text(given[1], encoding="utf-8")
    found = list(commands(section))
    assert len(found) == 4
    for line, shown in found:
        if "show" in line:
            (home / "policies" / "trust").mkdir()
            (home / "policies" / "trust" / "office.yaml").write_text(policy, encoding="utf-8")
        assert run(line).stdout == shown


def test_every_word_of_a_rule_stands_in_the_section() -> None:
    """No type, field, effect, source or variable is missing on the page."""
    section = _section("Rules")
    fields = [info.alias or name for name, info in Constraint.model_fields.items()]
    words = [*get_args(ValueType), *get_args(RuleEffect), *VARIABLES, *fields]
    for word in words:
        if word != "type":
            assert re.search(rf"`{word}\b", section), word
    for kind in get_args(SourceKind):
        assert kind in section, kind
