"""Binding, manifest and admission in docs/contracts.md: the commands print what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.core.console_blocks import blocks, commands_of, printed_by, run, steady

_PAGE = Path(__file__).parents[2] / "docs" / "contracts.md"

#: What differs between machines and versions.
_VARYING = ((r"manifest [0-9a-f]{12}", "manifest #"), (r"hash [0-9a-f]{12}", "hash #"),
            (r"has [0-9a-f]{12}", "has #"), (r"CPython [0-9.]+", "CPython #"))  # fmt: skip


def half() -> str:
    """The part of the page that this file answers for."""
    return "## Binding\n" + _PAGE.read_text(encoding="utf-8").partition("\n## Binding\n")[2]


def plain(output: str) -> str:
    """The output without what differs between machines."""
    return steady(output, _VARYING)


def test_the_page_shows_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every YAML block is written to the file it names, every command gives the output shown."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMOS_HOME", str(home))
    shown = 0
    for block in blocks(half()):
        if block.language == "yaml":
            name = block.text.split("\n", 1)[0].removeprefix("# ")
            (home if name == "catalogue.yaml" else tmp_path).joinpath(name).write_text(block.text)
        elif block.language == "console":
            for command, output in commands_of(block.text):
                assert plain(run(command).output) == plain(output), command
                shown += 1
        else:
            assert block.language == "python"
            printed_by(block, _PAGE, {})
    assert shown > 10


@pytest.mark.parametrize("name", ["bind", "explain", "diff"])
def test_the_page_names_every_command_of_its_half(name: str) -> None:
    """A command that the page does not mention is not documented."""
    assert f"fmos contract {name}" in half()
