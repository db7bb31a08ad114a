"""docs/verifiers.md and docs/equivalence.md: the commands print what they show, and code runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("pint", reason="extra `verifiers`")

from fmos.settings import read_settings
from fmos.verify.selection import __doc__ as table
from fmos_cli.main import app

_DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("name", "commands"), [("verifiers.md", 1), ("equivalence.md", 3)])
def test_the_page_shows_what_the_commands_print(
    name: str, commands: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named blocks are files, console blocks give the output shown, Python blocks run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMOS_HOME", str(tmp_path / "home"))
    shown = 0
    for language, file, text in _BLOCK.findall((_DOCS / name).read_text(encoding="utf-8")):
        if file:
            (tmp_path / file).write_text(text, encoding="utf-8")
        elif language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                ran = CliRunner().invoke(app, shlex.split(command)[1:])
                assert ran.output == output, command
                shown += 1
        elif language == "python":
            exec(compile(text, name, "exec"), {"__name__": "page"})
    assert shown == commands


def test_settings_of_the_page_are_understood(tmp_path: Path) -> None:
    """The table [drivers] can be read as it is shown."""
    page = (_DOCS / "verifiers.md").read_text(encoding="utf-8")
    (shown,) = [text for _, _, text in _BLOCK.findall(page) if text.startswith("# fmos.toml")]
    (tmp_path / "fmos.toml").write_text(shown, encoding="utf-8")
    assert read_settings(tmp_path).drivers.policies == ("working-hours",)


def test_the_table_of_the_page_is_that_of_the_code() -> None:
    """Which verifiers run is written once, and copied."""
    rows = [line for line in (table or "").splitlines() if line.startswith("|")]
    page = (_DOCS / "verifiers.md").read_text(encoding="utf-8")
    assert all(row in page for row in rows)
    assert len(rows) == 5


@pytest.mark.parametrize("name", ["verifiers.md", "equivalence.md"])
def test_links_lead_somewhere(name: str) -> None:
    """Files that a page links to exist."""
    for target in re.findall(r"\]\(([^)]+)\)", (_DOCS / name).read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (_DOCS / target).exists(), target
