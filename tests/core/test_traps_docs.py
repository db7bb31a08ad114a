"""The page about the trap ABI is true: its blocks run and print what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.core.console_blocks import blocks, commands, printed_by, run
from typer.testing import CliRunner

from fmos.client import ToolDescriptor, connect
from fmos.traps.features import NAMES
from fmos.traps.signals import Thresholds
from fmos.traps.table import OWNERS, TrapTable
from fmos.types import Principal
from fmos_cli.main import app

_PAGE = Path(__file__).parents[2] / "docs" / "spec" / "trap-abi.md"
_CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: reader
capabilities: [fs.read, process.run]
security: { paths: { read: ["/work/**"] } }
"""
_TOOLS = [
    ToolDescriptor(name="read_file", capability="fs.read", effect="read", roles={"path": "path"}),
    ToolDescriptor(
        name="run", capability="process.run", effect="execute", roles={"command": "command"}
    ),
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the page's agent and its tools."""
    folder = tmp_path / "home"
    (folder / "contracts").mkdir(parents=True)
    (folder / "contracts" / "reader.yaml").write_text(_CONTRACT)
    with connect(Principal(agent="reader"), home=folder, transport="inprocess") as client:
        tools = [tool.model_dump(mode="json") for tool in _TOOLS]
        client.call("trust_register_tools", {"tools": tools})
    return folder


def test_python_blocks_of_the_page_run() -> None:
    """Every fenced Python block runs."""
    programs = [block for block in blocks(_PAGE) if block.language == "python"]
    assert programs
    for program in programs:
        printed_by(program, _PAGE, {})


def test_console_blocks_of_the_page_are_true(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each console block prints what stands below it; HOME stands for the home's path."""
    monkeypatch.setenv("FMOS_HOME", str(home))
    found = list(commands(_PAGE))
    assert found
    for command, shown in found:
        ran = run(command)
        assert (ran.exit_code, ran.stdout.replace(str(home), "HOME")) == (0, shown)


def test_every_field_kind_and_feature_is_on_the_page() -> None:
    """No field of a table, threshold or operation kind is missing, and the counts are right."""
    text = _PAGE.read_text(encoding="utf-8")
    for name in (*TrapTable.model_fields, *Thresholds.model_fields, *OWNERS):
        assert f"`{name}`" in text, name
    assert f"over {len(NAMES)} features" in text


def test_show_as_json_is_the_document(home: Path) -> None:
    """`--json` prints the signed table; an id that cannot be one is refused."""
    shown = CliRunner().invoke(app, ["--home", str(home), "traps", "show", "reader", "--json"])
    assert shown.exit_code == 0, shown.stderr
    assert TrapTable.model_validate_json(shown.stdout).agent == "reader"
    failed = CliRunner().invoke(app, ["--home", str(home), "traps", "show", "a/b"])
    assert failed.exit_code == 5
    assert "'a/b' cannot be an agent" in failed.stderr


@pytest.mark.parametrize("name", ["train", "eval", "show"])
def test_help_has_an_example(name: str) -> None:
    """`--help` shows how the command is called, and what --json prints."""
    result = CliRunner().invoke(app, ["traps", name, "--help"])
    assert result.exit_code == 0
    assert f"fmos traps {name}" in result.stdout.split("Example:")[1]
