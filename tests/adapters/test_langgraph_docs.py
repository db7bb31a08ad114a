"""What docs/langgraph.md says, run in order; and its examples."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph.checkpoint.sqlite", reason="extra `dev`")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "langgraph.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
EXAMPLES = {
    "langgraph_chat": "You have asked me 2 things.",
    "langgraph_fork": "kept: bold",
    "langgraph_human": "Killed twice; sent once",
}


def test_every_block_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python blocks are one program, and shell blocks do not fail."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    told: list[str] = []
    page = PAGE.read_text(encoding="utf-8")
    for found in BLOCK.finditer(page):
        language, text = found.groups()
        if language == "sh":
            told.append(shell(text, tmp_path))
        else:
            assert language == "python"
            line = page.count("\n", 0, found.start(2))
            exec(compile("\n" * line + text, str(PAGE), "exec"), names)
    assert "imported 90 checkpoints" in told[-1]
    assert "monday" in told[0]


def shell(text: str, folder: Path) -> str:
    """Run the commands of a block and return what they print."""
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env=os.environ | {"PATH": PROGRAMS}, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asserts what it shows."""
    program = str(ROOT / "examples" / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [program])
    runpy.run_path(program, run_name="__main__")
    assert EXAMPLES[name] in capsys.readouterr().out


def test_links_of_the_page_lead_somewhere() -> None:
    """Files exist, and sections are those of the page."""
    page = PAGE.read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in titles}
    for target in re.findall(r"\]\(([^)]+)\)", page):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (PAGE.parent / target).exists(), target
