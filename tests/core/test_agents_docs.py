"""docs/agents.md says what `fmos agent` does: its commands run, and print what they say."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from tests.core.console_blocks import blocks, commands, printed_by, run, steady, texts

from fmos.runtime.kernel import Kernel
from fmos.settings import Settings
from fmos.types import Principal

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
#: What is not the same in two runs, and what stands for it.
OTHER = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME"),
    (r"[0-9a-f]{32}", "ID"),
    (r"by (user|uid):\S+?,", "by PERSON,"),
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
    return steady(text, OTHER).replace(f"{folder}/", "")


def test_the_commands_print_what_the_page_says(page: str, tmp_path: Path) -> None:
    """Each command of the page, in its order, on one home."""
    for command, printed in commands(page):
        assert same(run(command).output, tmp_path) == same(printed, tmp_path), command
        if command == "fmos agent restore writer before-review":
            with Kernel.open(tmp_path / "home") as kernel:
                kernel.agent_fs(Principal(agent="writer")).write("/a", b"later")


def test_the_programs_run_and_the_settings_are_the_usual_ones(page: str) -> None:
    """The Python block prints what stands below it, and the TOML block are the defaults."""
    [program] = [block for block in blocks(page) if block.language == "python"]
    [printed], [toml] = texts(page, "text"), texts(page, "toml")
    assert printed_by(program, PAGE, {}) == printed
    assert Settings.model_validate(tomllib.loads(toml)) == Settings()
    assert set(tomllib.loads(toml)["jobs"]) == set(type(Settings().jobs).model_fields)
