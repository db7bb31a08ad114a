"""docs/verifiers.md and docs/equivalence.md: the commands print what they show, and code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.core.console_blocks import blocks, commands_of, printed_by, run

pytest.importorskip("pint", reason="extra `verifiers`")

from fmos.settings import read_settings
from fmos.verify.selection import __doc__ as table

_DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("name", "commands"), [("verifiers.md", 1), ("equivalence.md", 3)])
def test_the_page_shows_what_the_commands_print(
    name: str, commands: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named blocks are files, console blocks give the output shown, Python blocks run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMOS_HOME", str(tmp_path / "home"))
    shown = 0
    for block in blocks(_DOCS / name):
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for command, output in commands_of(block.text):
                assert run(command).output == output, command
                shown += 1
        elif block.language == "python":
            printed_by(block, _DOCS / name, {"__name__": "page"})
    assert shown == commands


def test_settings_of_the_page_are_understood(tmp_path: Path) -> None:
    """The table [drivers] can be read as it is shown."""
    page = _DOCS / "verifiers.md"
    (shown,) = [block.text for block in blocks(page) if block.text.startswith("# fmos.toml")]
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
