"""Documents, layers and lint in docs/contracts.md: the page shows what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.core.console_blocks import blocks, commands_of, printed_by, run

from fmos.contract.lint_rules import Doubt

PAGE = Path(__file__).parents[2] / "docs" / "contracts.md"
RULES = Path(__file__).parents[2] / "packages/core/fmos/contract"


def half() -> str:
    """The part of the page that this file answers for."""
    return PAGE.read_text(encoding="utf-8").partition("\n## Binding\n")[0]


def test_the_page_shows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML is written to the file it names; Python prints the text block after it."""
    monkeypatch.chdir(tmp_path)
    printed, shown = "", 0
    for block in blocks(half()):
        if block.language == "yaml":
            path = tmp_path / block.text.split("\n", 1)[0].removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            printed = printed_by(block, PAGE, {})
        elif block.language == "text":
            shown += 1
            assert [line.rstrip() for line in printed.splitlines()] == block.text.splitlines()
        else:
            assert block.language == "console"
            for command, output in commands_of(block.text):
                shown += 1
                assert run(command).output == output, command
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
