"""The page's section on pinned tools is true: its commands print what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.core.console_blocks import commands, run

from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_trust.tools import TrustTools

_PAGE = Path(__file__).parents[3] / "docs" / "trust-gate.md"
_HEADING = "## Pinned tools and the look ahead"
_SEND = {
    "name": "send",
    "effect": "send",
    "roles": {"to": "recipient"},
    "description": "Sends a message.",
}
_READ = {"name": "read_note", "effect": "read", "roles": {"path": "path"}}


def _section() -> str:
    return _PAGE.read_text(encoding="utf-8").split(_HEADING)[1].split("\n## ")[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose application came back with other tools."""
    folder = tmp_path / "home"
    with Kernel.open(folder) as kernel:
        gate = TrustTools(kernel, Principal(agent="writer"))
        gate.call("trust_register_tools", {"tools": [_SEND, _READ]})
        other = [{**_SEND, "effect": "read", "roles": {}}, _READ, {**_READ, "name": "read_notes"}]
        gate.call("trust_register_tools", {"tools": other})
    return folder


def test_the_commands_of_the_section_print_what_it_shows(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command prints what stands below it."""
    monkeypatch.setattr("fmos_cli.commands.tools.person", lambda: "user:ann")
    monkeypatch.setenv("FMOS_HOME", str(home))
    found = list(commands(_section()))
    assert len(found) == 3
    for line, shown in found:
        assert run(line).stdout == shown


def test_every_code_stands_in_the_section() -> None:
    """No state of a pin and no kind of the look-ahead is missing."""
    said = _section()
    for state in ("changed", "new", "gone", "seal"):
        assert f"`pins.{state}`" in said, state
    for code in ("tool", "missing", "id", "repeated", "contract", "intent", "hint", "schema"):
        assert f"`lookahead.{code}`" in said, code
