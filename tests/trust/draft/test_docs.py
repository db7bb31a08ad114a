"""The page's section on delegation, risk and drafting is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.core.console_blocks import commands, run

from fmos_cli.trust_demo.story import CONTRACT
from fmos_trust.draft.read import read_sentence

_PAGE = (Path(__file__).parents[3] / "docs" / "trust-gate.md").read_text(encoding="utf-8")
_SECTION = _PAGE.split("\n## Delegation and risk\n")[1].split("\n## ")[0]
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")


def test_commands_print_what_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command prints what stands below it, but for the time of the day."""
    (tmp_path / "contracts").mkdir()
    contract = CONTRACT.replace("name: clerk", "name: writer")
    (tmp_path / "contracts" / "writer.yaml").write_text(contract, encoding="utf-8")
    monkeypatch.setenv("FMOS_HOME", str(tmp_path))
    run("fmos agent spawn writer")
    found = list(commands(_SECTION))
    assert len(found) == 4
    for line, shown in found:
        assert _TIME.sub("TIME", run(line).stdout) == _TIME.sub("TIME", shown)


@pytest.mark.parametrize(
    "condition",
    [
        "on Fridays", "after 16:00", "between 9:00 and 17:00", "on 2026-12-24", "by the role X",
        "by the agent X", "above 500 EUR at /total", "to example.com", "outside example.com",
        "in /work", "outside /work", "to the host example.com", "starting git",
        "if the recipient comes from text", "if /branch is main", "more than 5 times a day",
        "when less than 1000 tokens are left",
    ],
)  # fmt: skip
def test_the_conditions_that_it_names_are_understood(condition: str) -> None:
    """Every form that the page lists is read, and stands on the page."""
    for words in (condition, f"on Mondays {condition}", f"unless {condition}"):
        assert read_sentence(f"no payments {words}").what
    plain = " ".join(_SECTION.split())
    assert condition.replace("the host example.com", "the host X") in plain
