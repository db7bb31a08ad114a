"""docs/agents.md says what `fmos agent` does: its commands run, and print what they say."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fmos.runtime.kernel import Kernel
from fmos.settings import Settings
from fmos.types import Principal
from fmos_cli.main import app

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: What is not the same in two runs, and what stands for it.
OTHER = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "TIME"),
    (re.compile(r"[0-9a-f]{32}"), "ID"),
    (re.compile(r"by (user|uid):\S+?,"), "by PERSON,"),
)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page, with the key of the home that the commands run on in place of the printed one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMOS_HOME", str(tmp_path / "home"))
    contract = "apiVersion: agentos/v0.2\nkind: AgentContract\nname: writer\n"
    with Kernel.open(tmp_path / "home") as kernel:
        kernel.contracts.save(contract)
        key = kernel.keys_of("default").public_key
    text = PAGE.read_text(encoding="utf-8")
    return text.replace("EfMtTpNvIP8AR6heaXR+B3FK22zhcQtr3PVUdlscL4c=", key)


def same(text: str, folder: Path) -> str:
    """Return a text without what differs from run to run."""
    for pattern, instead in OTHER:
        text = pattern.sub(instead, text)
    return text.replace(f"{folder}/", "")


def test_the_commands_print_what_the_page_says(page: str, tmp_path: Path) -> None:
    """Each command of the page, in its order, on one home."""
    for language, block in BLOCK.findall(page):
        if language == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                assert same(run(command), tmp_path) == same(printed, tmp_path), command
                if command == "fmos agent restore writer before-review":
                    with Kernel.open(tmp_path / "home") as kernel:
                        kernel.agent_fs(Principal(agent="writer")).write("/a", b"later")


def run(command: str) -> str:
    """Run one line, which may begin with a variable of its own, and return what it prints."""
    words = shlex.split(command)
    said = dict(word.split("=", 1) for word in words[: words.index("fmos")])
    environment: dict[str, str | None] = {**said}
    made = CliRunner().invoke(app, words[words.index("fmos") + 1 :], env=environment)
    return made.output


def test_the_programs_run_and_the_settings_are_the_usual_ones(page: str) -> None:
    """The Python block prints what stands below it, and the TOML block are the defaults."""
    blocks = BLOCK.findall(page)
    [program] = [text for language, text in blocks if language == "python"]
    [printed] = [text for language, text in blocks if language == "text"]
    [toml] = [text for language, text in blocks if language == "toml"]
    out, names = io.StringIO(), dict[str, Any]()
    with contextlib.redirect_stdout(out):
        exec(compile(program, str(PAGE), "exec"), names)
    assert out.getvalue() == printed
    assert Settings.model_validate(tomllib.loads(toml)) == Settings()
    assert set(tomllib.loads(toml)["jobs"]) == set(type(Settings().jobs).model_fields)
