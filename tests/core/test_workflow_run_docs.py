"""docs/workflows.md says what happens: its blocks run, and print what they say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.core.console_blocks import blocks, commands_of, printed_by, run, steady
from typer.testing import CliRunner

from fmos_cli.main import app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "workflows.md"
_VARYING = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "(time)"),
    (r"\b(user|uid):\S+?(?=[;\s])", "(person)"),
    (r"manifest [0-9a-f]{12}", "manifest (hash)"),
)


def said(command: str, folder: Path) -> str:
    """Run one command and return its output, and its error where it has one."""
    done = run(command, folder / "home")
    failed = [line for line in done.stderr.splitlines(True) if line.startswith("fmos: ")]
    return steady(done.stdout + "".join(failed), _VARYING)


def test_the_page_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written, commands run in order, and Python blocks are one program."""
    names: dict[str, Any] = {"__name__": "page"}
    printed, compared = "", 0
    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGE):
        file = re.match(r"# (\S+\.(?:yaml|py|sh))\n", block.text)
        if file:
            (tmp_path / file[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for command, output in commands_of(block.text):
                assert said(command, tmp_path) == output, command
                compared += 1
        elif block.language == "text":
            assert printed == block.text
            compared += 1
        else:
            printed = printed_by(block, PAGE, names)
    names["kernel"].close()
    for module in ("crew", "sender"):
        del sys.modules[module]
    assert compared == 12


def test_every_workflow_command_has_help_with_an_example() -> None:
    """`--help` exits 0 and shows how the command is called; the page names each command."""
    page = PAGE.read_text(encoding="utf-8")
    for name in ("run", "list", "show", "resume", "answer", "cancel"):
        result = CliRunner().invoke(app, ["workflow", name, "--help"])
        assert result.exit_code == 0
        assert f"fmos workflow {name}" in " ".join(result.stdout.split("Example:  ")[1].split())
        assert f"fmos workflow {name}" in page or f"`{name}`" in page
