"""The README's way from a contract to a governed agent, followed to the letter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from tests.adapters.desk import asked, thread
from tests.adapters.scripted import ScriptedModel, call, in_turn
from typer.testing import CliRunner

from fmos_cli.main import app

README = Path(__file__).parents[2] / "README.md"


def block(language: str) -> str:
    """Return the block of the section on LangGraph in a language."""
    section = README.read_text(encoding="utf-8").partition("## In LangGraph")[2]
    found = re.search(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def test_a_newcomer_gets_a_governed_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the contract and the program as printed, a write in scope runs and another does not."""
    monkeypatch.setenv("FMOS_HOME", str(tmp_path / "home"))
    contract = tmp_path / "home" / "contracts" / "release-notes-writer.yaml"
    contract.parent.mkdir(parents=True)
    contract.write_text(block("yaml"))
    linted = CliRunner().invoke(app, ["contract", "lint", str(contract)])
    assert linted.exit_code == 0, linted.output
    written: list[str] = []

    def read_file(path: str) -> str:
        """Read a file."""
        return f"content of {path}"

    def write_file(path: str, text: str) -> str:
        """Write a file."""
        written.append(path)
        return "done"

    script = in_turn(
        call("read_file", "c1", path="/project/a.py"),
        call("write_file", "c2", path="/project/a.py", text="x"),
        call("write_file", "c3", path="/project/notes/1.md", text="x"),
        AIMessage("written"),
    )
    names: dict[str, Any] = {
        "model": ScriptedModel(answer=script), "read_file": read_file, "write_file": write_file,
    }  # fmt: skip
    exec(compile(block("python"), "README.md", "exec"), names)
    result = names["agent"].invoke(asked("write the notes"), thread())
    assert written == ["/project/notes/1.md"]
    told = [message for message in result["messages"] if isinstance(message, ToolMessage)]
    assert [message.status for message in told] == ["success", "error", "success"]
    assert "/project/notes/**" in told[1].text
    shown = CliRunner().invoke(app, ["ledger", "show", "--agent", "release-notes-writer"])
    assert "tool_calls" in shown.output
