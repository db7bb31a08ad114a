"""Documents, layers and lint in docs/contracts.md: the page shows what the code does."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fmos.contract.lint_rules import Doubt
from fmos_cli.main import app

PAGE = Path(__file__).parents[2] / "docs" / "contracts.md"
RULES = Path(__file__).parents[2] / "packages/core/fmos/contract"


def half() -> str:
    """The part of the page that this file answers for."""
    return PAGE.read_text(encoding="utf-8").partition("\n## Binding\n")[0]


def console(commands: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output that the page shows."""
    for part in re.split(r"^\$ ", commands, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def run(command: str) -> str:
    """What a command prints: ours in this process, any other in a shell."""
    if command.startswith("fmos "):
        return CliRunner().invoke(app, shlex.split(command)[1:]).output
    return subprocess.run(
        ["bash", "-ec", command], capture_output=True, text=True, check=True
    ).stdout


def test_the_page_shows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML is written to the file it names; Python prints the text block after it."""
    monkeypatch.chdir(tmp_path)
    printed, shown = "", 0
    for language, text in re.findall(r"```(\w+)\n(.*?)```", half(), flags=re.DOTALL):
        if language == "yaml":
            path = tmp_path / text.split("\n", 1)[0].removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif language == "python":
            names: dict[str, Any] = {}
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, str(PAGE), "exec"), names)
            printed = out.getvalue()
        elif language == "text":
            shown += 1
            assert [line.rstrip() for line in printed.splitlines()] == text.splitlines()
        else:
            for command, output in console(text):
                shown += 1
                assert run(command) == output, command
    assert shown == 4


def test_the_page_lists_every_code_of_lint() -> None:
    """Each code that a rule gives stands in the table."""
    assert Doubt._fields[0] == "code"
    source = (RULES / "lint_rules.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'Doubt\(\s*"([a-z-]+)"', source)) | {"invalid", "deprecated"}
    assert len(codes) > 12
    assert [code for code in sorted(codes) if f"`{code}`" not in half()] == []


def test_links_of_the_page_lead_somewhere() -> None:
    """Every file that the page links exists."""
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (PAGE.parent / target).exists(), target
