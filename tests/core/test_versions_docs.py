"""The page about versions is true: its blocks are one session, and print what stands there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.core.console_blocks import blocks, commands_of, printed_by, run, steady, texts
from typer.testing import CliRunner

from fmos.settings import Settings, VersionSettings
from fmos.versions.metrics import OBSERVED, metrics_of
from fmos_cli.commands.versions_changes import person
from fmos_cli.main import app

_PAGE = Path(__file__).parents[2] / "docs" / "versions.md"
_WHEN = ((r"\d{4}-\d\d-\d\d \d\d:\d\d", "2026-11-22 02:40"),)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's home, and an empty directory to work in."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (home / "fmos.toml").write_text("[versions]\nquiet_s = 0\n", encoding="utf-8")
    monkeypatch.setenv("FMOS_HOME", str(home))
    monkeypatch.chdir(work)
    return home


def shown(block: str) -> str:
    """Return a console block as it comes out now: each command, then what it prints."""
    out = "".join(f"$ {line}\n{run(line).output}" for line, _ in commands_of(block))
    return steady(out.replace(person(), "user:bob"), _WHEN)


def test_the_page_prints_what_it_says(home: Path) -> None:
    """Python blocks are one program, console blocks its commands; all is one session."""
    names: dict[str, Any] = {"__name__": "page"}
    printed, compared = "", 0
    for block in blocks(_PAGE):
        if block.language == "python":
            printed = printed_by(block, _PAGE, names)
        elif block.language == "text":
            assert printed == block.text
            compared += 1
        elif block.language == "console":
            assert shown(block.text) == block.text
            compared += 1
    assert compared == 8


def test_the_page_names_every_setting_and_metric() -> None:
    """The table of settings is the defaults, and no metric is missing."""
    page = _PAGE.read_text(encoding="utf-8")
    block = texts(page, "toml")[0]
    assert Settings.model_validate(tomllib.loads(block)).versions == VersionSettings()
    for name in VersionSettings.model_fields:
        assert f"\n{name} = " in block
    for metric in (*OBSERVED, *metrics_of("trap_model"), *metrics_of("policy")):
        assert f"`{metric}`" in page


def test_every_command_has_an_example_and_json() -> None:
    """`fmos versions COMMAND --help` says how, for every command."""
    names = [command.name for command in _commands()]
    assert len(names) == 13
    for name in names:
        found = CliRunner().invoke(app, ["versions", str(name), "--help"], env={"COLUMNS": "200"})
        assert found.exit_code == 0
        assert f"Example:  fmos versions {name}" in found.output
        assert "--json" in found.output


def _commands() -> list[Any]:
    group: Any = next(each for each in app.registered_groups if each.name == "versions")
    commands = group.typer_instance.registered_commands
    for each in commands:
        each.name = each.name or each.callback.__name__
    return commands
