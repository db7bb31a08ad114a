"""docs/threat-model.md is true: promises name tests, tests belong to promises; outputs are real."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.core.console_blocks import commands, texts
from tests.threats.terminal import QUESTION, alone, at_terminal

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
_PROJECTS = (_ROOT / "docs" / "project-policies.md").read_text(encoding="utf-8")
_PROMISES = re.findall(r"^\| (P\d+) \| (.+) \| (.+) \|$", _PAGE, flags=re.MULTILINE)
_GAPS = re.findall(r"^\| (N\d+) \| (.+) \| ([\d, ]+) \|$", _PAGE, flags=re.MULTILINE)
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
capabilities: ["fs.read", "web.fetch"]
budgets: { tokens: 50k }
"""


def _tests_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (each for each in tree.body if isinstance(each, ast.FunctionDef))
    return {each.name for each in functions if each.name.startswith("test_")}


def _named() -> set[str]:
    """Every test that a promise names, as `path` or `path::name`."""
    return {each for _, _, shown in _PROMISES for each in re.findall(r"`(tests/[^`]+)`", shown)}


def test_promises_and_gaps_are_numbered_in_order() -> None:
    """The page has promises and open gaps, each with its number."""
    assert [number for number, _, _ in _PROMISES] == [f"P{n + 1}" for n in range(len(_PROMISES))]
    assert [number for number, _, _ in _GAPS] == [f"N{n + 1}" for n in range(len(_GAPS))]
    assert len(_PROMISES) >= 15
    for _, what, issues in _GAPS:
        assert what
        assert all(6 <= int(each) <= 12 for each in issues.split(","))


@pytest.mark.parametrize("number", [number for number, _, _ in _PROMISES])
def test_every_promise_names_tests_that_exist(number: str) -> None:
    """What a promise is shown by is there, by its file and name."""
    shown = next(tests for each, _, tests in _PROMISES if each == number)
    named = re.findall(r"`(tests/[^`]+)`", shown)
    assert named
    for each in named:
        path, _, name = each.partition("::")
        assert (_ROOT / path).is_file(), each
        found = _tests_in(_ROOT / path)
        assert found
        assert not name or name in found, each


def test_every_test_here_belongs_to_a_promise() -> None:
    """A test in tests/threats that no promise names is a promise that is not written down."""
    named = _named()
    for path in sorted((_ROOT / "tests" / "threats").glob("test_*.py")):
        relative = path.relative_to(_ROOT).as_posix()
        left = _tests_in(path) - {each.partition("::")[2] for each in named if relative in each}
        assert not left or relative in named, left


def test_the_page_on_project_policies_is_true(tmp_path: Path) -> None:
    """Every console block of docs/project-policies.md prints what it says."""
    contracts = tmp_path / "home" / "contracts"
    contracts.mkdir(parents=True)
    (contracts / "ada.yaml").write_text(CONTRACT)
    policies = tmp_path / "project" / ".fmos" / "policies"
    policies.mkdir(parents=True)
    document = texts(_PROJECTS, "yaml")[0]
    (policies / "team.yaml").write_text(document)
    greedy = tmp_path / "greedy" / ".fmos" / "contracts"
    greedy.mkdir(parents=True)
    wide = CONTRACT.replace('"web.fetch"', '"process.run"').replace("50k", "900k")
    (greedy / "ada.yaml").write_text(wide)
    assert len(texts(_PROJECTS, "console")) == 3
    for line, expected in commands(_PROJECTS):
        assert _plain(_run(line, tmp_path), tmp_path) == _plain(expected, tmp_path)


def _run(line: str, folder: Path) -> str:
    program, *rest = shlex.split(line)
    if program != "fmos":
        return subprocess.run(
            [program, *rest], cwd=folder, check=True, capture_output=True, text=True
        ).stdout
    rest = [str(folder / each) if (folder / each).is_dir() else each for each in rest]
    command = [sys.executable, "-m", "fmos_cli", "--home", str(folder / "home"), *rest]
    if rest[0] == "trust" and rest[1].endswith("project"):
        said = at_terminal(command, "y")[1]
        return said.replace(QUESTION.decode() + "y\n", QUESTION.decode() + "y\n")
    done = alone(command)
    return done.stdout + done.stderr


def _plain(text: str, folder: Path) -> str:
    """Put the names of the page in the place of this machine's."""
    text = text.replace(str(folder), "/home/you")
    return re.sub(r"by user:\S+", "by user:you", text)
