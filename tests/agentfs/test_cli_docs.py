"""The pages about the command are true: their blocks run and no command is missing."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import typer
from tests.agentfs.command_server import started
from typer.testing import CliRunner

from agentfs.cli.main import app

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "agentfs.md"


def test_shell_blocks_of_the_page_run(tmp_path: Path) -> None:
    """Every fenced shell block of docs/agentfs.md runs, in order, without an error."""
    script = "\n".join(_blocks("sh"))
    work = tmp_path / "work-here"
    work.mkdir()
    with started(tmp_path / "bin") as folder:
        environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
        environment.pop("AGENTFS_FILE", None)
        ran = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "Traceback" not in ran.stderr


def test_python_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fenced Python block of docs/agentfs.md runs, in order, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    blocks = _blocks("python")
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, str(_PAGE), "exec"), {})


def _blocks(language: str) -> list[str]:
    page = _PAGE.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def command_names() -> list[str]:
    """The names of all commands, as `agentfs --help` lists them."""
    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", command_names())
def test_every_command_is_on_the_page_and_in_a_test(name: str) -> None:
    """Each command has its section and a block that calls it, and a test of its own calls it."""
    page = _PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^### (.*)$", page, flags=re.MULTILINE)
    assert name in [each for heading in headings for each in heading.split(", ")]
    options = r"(-\S+ (\"[^\"]*\"|[^\s-]\S*) |--system )*"
    assert re.search(rf"agentfs {options}{name}\b", "\n".join(_blocks("sh")))
    tests = [each.read_text(encoding="utf-8") for each in Path(__file__).parent.glob("test_cli_*")]
    assert any(f'"{name}"' in each for each in tests)


@pytest.mark.parametrize("name", command_names())
def test_help_of_every_command_has_an_example(name: str) -> None:
    """`--help` exits 0 and shows how the command is called, and what --json prints."""
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    example = result.stdout.split("Example:  ")[1]
    assert re.search(rf"\bagentfs\b.* {name}\b", example)
    if "--json" in result.stdout:
        assert "JSON" in result.stdout.split("Options")[0]
