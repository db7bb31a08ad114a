"""docs/workflows.md says what happens: its blocks run, and print what they say."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fmos_cli.main import app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "workflows.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_VARYING = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "(time)"),
    (r"\b(user|uid):\S+?(?=[;\s])", "(person)"),
    (r"manifest [0-9a-f]{12}", "manifest (hash)"),
)


def plain(text: str) -> str:
    """What is the same on every machine and day."""
    for pattern, word in _VARYING:
        text = re.sub(pattern, word, text)
    return text


def said(command: str, folder: Path) -> str:
    """Run one command and return its output, and its error where it has one."""
    done = CliRunner().invoke(app, ["--home", str(folder / "home"), *shlex.split(command)[1:]])
    failed = [line for line in done.stderr.splitlines(True) if line.startswith("fmos: ")]
    return plain(done.stdout + "".join(failed))


def test_the_page_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written, commands run in order, and Python blocks are one program."""
    names: dict[str, Any] = {"__name__": "page"}
    printed, compared = "", 0
    monkeypatch.chdir(tmp_path)
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        file = re.match(r"# (\S+\.(?:yaml|py|sh))\n", text)
        if file:
            (tmp_path / file[1]).write_text(text, encoding="utf-8")
        elif language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                assert said(command, tmp_path) == output, command
                compared += 1
        elif language == "text":
            assert printed == text
            compared += 1
        else:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, str(PAGE), "exec"), names)
            printed = out.getvalue()
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
