"""`fmos approve` and `fmos pending`, at a real terminal and without one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.threats.terminal import alone, at_terminal, fmos

from fmos.client import Client, connect
from fmos.effects import Trial
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

WHO = Principal(agent="ada", session="s1")
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
capabilities: ["fs.write"]
security: { consent_for: ["fs.write"] }
"""
TOOL = {
    "name": "write_file", "capability": "fs.write", "effect": "write",
    "roles": {"path": "path", "text": "body"},
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an agent whose writes are asked about."""
    with Kernel.open(tmp_path / "home") as kernel:
        kernel.contracts.save(CONTRACT)
        with connect(WHO, kernel=kernel) as client:
            client.call("trust_register_tools", {"tools": [TOOL]})
    return tmp_path / "home"


def check(client: Client, approval: str = "", effect: str = "", **arguments: str) -> dict[str, Any]:
    """Put a write to the gate."""
    given = {"path": "/a.txt", "text": "hi", **arguments}
    operation = {"kind": "tool.call", "name": "write_file", "arguments": given}
    asked = {"operation": operation, "approval": approval}
    return client.call("trust_check", {**asked, **({"effect": effect} if effect else {})})


def ask(home: Path, **arguments: str) -> str:
    """Have a write asked about and return the approval."""
    with connect(WHO, home=home, transport="inprocess") as client:
        return str(check(client, **arguments)["approval"])


def decision(home: Path, approval: str, **arguments: str) -> str:
    """Return what the gate says to the write with its approval."""
    with connect(WHO, home=home, transport="inprocess") as client:
        return str(check(client, approval, **arguments)["decision"])


@pytest.mark.parametrize(("answer", "said", "then"), [
    ("y", "approved", "allow"), ("yes", "approved", "allow"), ("n", "denied", "deny"),
    ("", "denied", "deny"), ("s", "skipped", "ask"), ("yep", "denied", "deny"),
])  # fmt: skip
def test_a_person_decides(home: Path, answer: str, said: str, then: str) -> None:
    """Only y and yes let it run; skip leaves it waiting."""
    approval = ask(home)
    code, text = at_terminal(fmos(home, "approve", approval), answer)
    assert code == 0, text
    assert f"{said} {approval}" in text
    assert decision(home, approval) == then


def test_everything_is_shown_before_the_question(home: Path) -> None:
    """Who asks, every argument, why, and the time; nothing of it steers the terminal."""
    approval = ask(home, text="one\ntwo \x1b[2J \u202eevil", path="/p\u0430th")
    _, text = at_terminal(fmos(home, "approve", approval), "n")
    shown = text[: text.index("[y/N]")]
    for part in ("write_file", "agent ada", "session s1", "one", "\\x1b[2J", "\\u202eevil",
                 "CYRILLIC, LATIN", "consent", "s left", approval):  # fmt: skip
        assert part in shown, shown
    assert "\u202e" not in shown
    assert "\x1b[2J" not in shown


def test_a_long_text_is_cut_and_can_be_viewed(home: Path) -> None:
    """The screen has the beginning and the end, and says how much is between."""
    approval = ask(home, text="\n".join(f"line {number}." for number in range(500)))
    _, text = at_terminal(fmos(home, "approve", approval), "n")
    assert "line 0." in text
    assert "line 499." in text
    assert "line 250." not in text
    assert "lines are left out" in text


def test_the_difference_is_shown_and_merged(home: Path) -> None:
    """A call that ran on a fork is shown with what it did there; yes brings that about."""
    with Kernel.open(home) as kernel, connect(WHO, kernel=kernel) as client:
        files = kernel.agent_files(WHO)
        files.write("/a.txt", "old\n")
        trial = Trial.begin(files)
        trial.files.write("/a.txt", "new\n")
        approval = str(check(client, effect=trial.branch)["approval"])
        code, text = at_terminal(fmos(home, "approve"), "y")
        assert code == 0, text
        assert "1 path; yes brings it about" in text
        assert "-old" in text
        assert "+new" in text
        verdict = check(client, approval)
        assert [each["kind"] for each in verdict["obligations"]] == ["effect_done"]
        assert files.read_text("/a.txt") == "new\n"


def test_what_changed_meanwhile_is_not_approved(home: Path) -> None:
    """An effect that comes after the question was shown needs another look."""
    with Kernel.open(home) as kernel, connect(WHO, kernel=kernel) as client:
        approval = str(check(client)["approval"])
        trial = Trial.begin(kernel.agent_files(WHO))
        trial.files.write("/a.txt", "new\n")
        code, text = at_terminal(
            fmos(home, "approve", approval), "y",
            meanwhile=lambda: check(client, approval, trial.branch),
        )  # fmt: skip
        assert code == 5, text
        assert "shows another effect by now" in text
        assert check(client, approval)["decision"] == "ask"


def test_what_was_typed_before_the_question_is_no_answer(home: Path) -> None:
    """Keys that wait in the terminal do not approve what a person has not seen."""
    approval = ask(home)
    at_terminal(fmos(home, "approve", approval), "", typed_before="y\n")
    assert decision(home, approval) == "deny"


@pytest.mark.parametrize("given", [(), ("--deny",)])
def test_without_a_terminal_nobody_answers(home: Path, given: tuple[str, ...]) -> None:
    """An agent's command has no terminal; there is no option in its place."""
    approval = ask(home)
    answer = alone(fmos(home, "approve", approval, *given))
    assert answer.returncode == 11
    assert "needs a person at a terminal" in answer.stderr
    assert decision(home, approval) == "ask"


def test_a_terminal_that_it_does_not_lead_is_none(home: Path) -> None:
    """A program that makes itself a terminal for its streams only, controls none."""
    approval = ask(home)
    master, slave = pty.openpty()
    os.write(master, b"y\ny\n")
    done = subprocess.run(
        fmos(home, "approve", approval), stdin=slave, stdout=slave, stderr=subprocess.PIPE,
        start_new_session=True, timeout=60, check=False, text=True,
    )  # fmt: skip
    os.close(slave)
    os.close(master)
    assert done.returncode == 11
    assert decision(home, approval) == "ask"


def test_all_that_waits_and_nothing_twice(home: Path) -> None:
    """Without an id what waits is gone through; what was answered says by whom."""
    first = ask(home, path="/1")
    _, text = at_terminal(fmos(home, "approve"), "y")
    assert f"approved {first}" in text
    assert "nothing waits" in at_terminal(fmos(home, "approve"), "")[1]
    code, text = at_terminal(fmos(home, "approve", first), "y")
    assert code == 5
    assert "is approved already (by user:" in text


def test_pending_lists_what_waits(home: Path) -> None:
    """The list is short; as JSON it is whole."""
    approval = ask(home, text="x" * 5_000)
    listed = alone(fmos(home, "pending"))
    assert approval in listed.stdout
    assert "all of them in `fmos approve`" in listed.stdout
    assert len(listed.stdout) < 2_000
    (item,) = json.loads(alone(fmos(home, "pending", "--json")).stdout)["approvals"]
    assert item["principal"]["session"] == "s1"
    assert "x" * 5_000 in item["shown"]
