"""Binding, manifest and admission in docs/contracts.md: the commands print what it shows."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fmos_cli.main import app

_PAGE = Path(__file__).parents[2] / "docs" / "contracts.md"

#: What differs between machines and versions.
_VARYING = ((r"manifest [0-9a-f]{12}", "manifest #"), (r"hash [0-9a-f]{12}", "hash #"),
            (r"has [0-9a-f]{12}", "has #"), (r"CPython [0-9.]+", "CPython #"))  # fmt: skip


def half() -> str:
    """The part of the page that this file answers for."""
    return "## Binding\n" + _PAGE.read_text(encoding="utf-8").partition("\n## Binding\n")[2]


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks: language and text."""
    yield from re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)


def console(commands: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output that the page shows."""
    for part in re.split(r"^\$ ", commands, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def plain(output: str) -> str:
    """The output without what differs between machines."""
    for pattern, mark in _VARYING:
        output = re.sub(pattern, mark, output)
    return output


def run(command: str) -> str:
    """What a command prints: ours in this process, any other in a shell."""
    if command.startswith("fmos "):
        return CliRunner().invoke(app, shlex.split(command)[1:]).output
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_the_page_shows_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every YAML block is written to the file it names, every command gives the output shown."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMOS_HOME", str(home))
    shown = 0
    for language, text in blocks(half()):
        if language == "yaml":
            name = text.split("\n", 1)[0].removeprefix("# ")
            (home if name == "catalogue.yaml" else tmp_path).joinpath(name).write_text(text)
        elif language == "console":
            for command, output in console(text):
                assert plain(run(command)) == plain(output), command
                shown += 1
        else:
            assert language == "python"
            exec(compile(text, str(_PAGE), "exec"), {})
    assert shown > 10


@pytest.mark.parametrize("name", ["bind", "explain", "diff"])
def test_the_page_names_every_command_of_its_half(name: str) -> None:
    """A command that the page does not mention is not documented."""
    assert f"fmos contract {name}" in half()
