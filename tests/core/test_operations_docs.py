"""docs/operations.md is true: its blocks run in order and print what it says."""

from __future__ import annotations

import doctest
import io
import re
import shlex
import tarfile
from pathlib import Path

import apsw
import pytest
import zstandard
from tests.core.console_blocks import commands, run
from typer.main import get_command
from typer.testing import CliRunner

from fmos.care.checks import CHECKS
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_cli.main import app

_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
_OLDER = Path(__file__).parents[1] / "data" / "home-of-2026-11-21.tar.zst"
_CONTRACT = """apiVersion: agentos/v0.2
kind: AgentContract
name: writer
class: { latency: DT }
capabilities: [read_file]
budgets: { tokens: 50k, tool_calls: 100 }
"""


def _run(command: str) -> str:
    """What a command prints; sqlite3, which a host may not have, in this process."""
    words = shlex.split(command)
    if words[0] == "sqlite3":
        connection = apsw.Connection(words[1])
        connection.execute(words[2])
        connection.close()
        return ""
    return run(command).output


def _set_up(folder: Path) -> None:
    """Make what the page begins with: a home that was used, and an older one."""
    with Kernel.open(folder / "home") as kernel:
        who = Principal(agent="writer", session="monday")
        kernel.keys_of("default")
        files = kernel.agent_files(who)
        files.mkdir("/notes")
        for number in range(3):
            files.write(f"/notes/{number}.txt", "a note\n")
        kernel.record(who, "demo.done", {})
        held = kernel.reserve(who, {"tokens": 40}, operation="one")
        kernel.ledger.commit(held.id, {"tokens": 30})
    (folder / "home" / "contracts" / "writer.yaml").write_text(_CONTRACT, encoding="utf-8")
    raw = zstandard.ZstdDecompressor().stream_reader(_OLDER.read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        tar.extractall(folder / "older", filter="data")


def test_the_page_shows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the page prints what stands below it; `...` stands for anything."""
    _set_up(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMOS_HOME", str(tmp_path / "home"))
    checker, shown = doctest.OutputChecker(), 0
    for command, output in commands(_PAGE):
        printed = _run(command).replace(str(tmp_path / "home"), "/srv/home")
        same = checker.check_output(output, printed, doctest.ELLIPSIS)
        assert same or _lines_are_in(output, printed), f"{command}\n{printed}"
        shown += 1
    assert shown == 23


def _lines_are_in(shown: str, printed: str) -> bool:
    """Return whether each line of the page is a line that was printed, in this order."""
    if "older" not in shown and "would bring" not in shown:
        return False  # only what later versions add lines to may be shown in part
    left = printed.splitlines()
    for line in shown.splitlines():
        pattern = re.escape(line).replace(r"\.\.\.", ".*")
        while left and not re.fullmatch(pattern, left[0]):
            left.pop(0)
        if not left:
            return False
        left.pop(0)
    return True


def test_every_command_and_check_is_there() -> None:
    """The page calls the four commands, and names no check that does not exist."""
    page = _PAGE.read_text(encoding="utf-8")
    names = {check.name for check in CHECKS}
    assert set(re.findall(r"--only ([a-z.]+)", page)) <= names
    for name in ("doctor", "backup", "restore", "upgrade"):
        assert f"fmos {name}" in page or f"fmos --home older {name}" in page


@pytest.mark.parametrize("name", ["doctor", "backup", "restore", "upgrade"])
def test_help_has_an_example_and_the_exit_codes(name: str) -> None:
    """`--help` shows how the command is called, its exit codes and what --json prints."""
    text = CliRunner().invoke(app, [name, "--help"]).output
    assert "Example:  fmos" in text
    assert "xit code" in text
    assert "JSON object" in text.split("Options")[0].replace("\n", " ") or "one JSON" in text
    assert name in get_command(app).commands  # type: ignore[attr-defined]


def test_links_of_the_page_lead_somewhere() -> None:
    """Every page that this one links exists, or is made by another part of this change."""
    made = {"report.md", "audit.md"}
    for target in re.findall(r"\]\(([^)#]+)\)", _PAGE.read_text(encoding="utf-8")):
        assert target in made or (_PAGE.parent / target).exists(), target
