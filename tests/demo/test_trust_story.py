"""The trust gate's story: four layers, one approval by diff, the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fmos.audit.record import verify
from fmos.runtime.kernel import Kernel
from fmos_cli.main import app
from fmos_cli.trust_demo.story import SECRET, STRANGER, WHO, Story

_LIMIT_S = 20


def run(*words: str) -> tuple[int, str]:
    """Run `fmos demo --story trust ...` and return its exit code and what it printed."""
    answer = CliRunner().invoke(app, ["demo", "--story", "trust", *words])
    return answer.exit_code, answer.stdout


def test_every_promise_is_shown() -> None:
    """One JSON object: each layer has a line, every promise was shown, and in time."""
    code, printed = run("--json")
    document = json.loads(printed)
    assert all(document["shown"].values()), document["shown"]
    assert code == 0
    assert {step["layer"] for step in document["steps"]} == {
        "input", "execution", "selection", "audit",
    }  # fmt: skip
    assert document["seconds"] < _LIMIT_S


def test_it_is_the_same_each_time() -> None:
    """Two runs say the same, but for the times that things took."""
    runs = [json.loads(run("--json")[1])["steps"] for _ in range(2)]
    for steps in runs:
        for step in steps:
            step["ms"] = None
    assert runs[0] == runs[1]


def test_the_timeline_names_rule_and_way_out() -> None:
    """A person reads which layer stopped what, and what would change it."""
    code, printed = run()
    assert code == 0
    for word in ("input", "selection", "execution", "audit", "would change it", "8 of 8 shown"):
        assert word in printed
    assert STRANGER in printed
    assert SECRET not in printed


def test_the_home_holds_what_was_told(tmp_path: Path) -> None:
    """The drafts are gone by the approved merge alone, and nothing was sent to the stranger."""
    with Kernel.open(tmp_path / "home") as kernel:
        story = Story.begin(kernel)
        story.run()
        assert story.missing == []
        assert kernel.agent_files(WHO).listdir("/drafts") == []
        assert kernel.agent_files(WHO).read_text("/keys/token.txt").strip() == SECRET
        assert verify(kernel, WHO.tenant)["ok"]
        merged = list(kernel.agent_fs(WHO).journal(operation="effect.merge"))
        assert len(merged) == 1


@pytest.mark.parametrize("words", [("--story", "other"), ("--repo", "."), ("--interactive",)])
def test_what_does_not_go_with_it_is_refused(words: tuple[str, ...]) -> None:
    """An unknown story, and options that the story would ignore, are wrong usage."""
    answer = CliRunner().invoke(app, ["demo", "--story", "trust", *words])
    assert answer.exit_code == 2
