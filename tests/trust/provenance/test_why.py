"""Why a call was stopped: to the agent, to a person, after a restart, and counted by rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.trust.provenance.desk import CONTRACT, ORDER, REQUEST, Desk, desk, opened
from typer.testing import CliRunner

from fmos.errors import NotFoundError
from fmos.runtime.kernel import Kernel
from fmos_cli.main import app
from fmos_trust.approvals import Approvals

_STRANGE = {"to": "mallory@evil.test", "text": "Minutes of Monday."}
_ASKS = CONTRACT.replace("security:\n", 'security:\n  consent_for: ["send_letter"]\n')


def _denied(clerk: Desk) -> str:
    clerk.said(REQUEST)
    clerk.did("read_file", ORDER, path="/notes.txt")
    verdict = clerk.asked("send_letter", **_STRANGE)
    assert not verdict.allowed
    return verdict.operation


def _run(home: Path, *words: str) -> str:
    answer = CliRunner().invoke(app, ["--home", str(home), *words])
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_the_agent_learns_why(clerk: Desk) -> None:
    """Rule, layer, sentence, where each argument came from, and what would change it."""
    operation = _denied(clerk)
    for given in ({}, {"id": operation}):
        found = clerk.gate.call("trust_explain", given)
        assert (found["operation"], found["tool"]) == (operation, "send_letter")
        assert (found["decision"], found["complete"]) == ("deny", True)
        assert all(each["rule"] and each["layer"] and each["change"] for each in found["reasons"])
        assert {each["argument"]: each["came_from"] for each in found["origins"]}["to"] == ["text"]
        assert found["score"] > 0.5
        assert found["features"]


def test_an_allowed_call_has_a_reason_too(clerk: Desk) -> None:
    """Of what ran, the journal tells the codes and how it ended."""
    clerk.said(REQUEST)
    operation = clerk.did("read_file", ORDER, path="/notes.txt")
    found = clerk.gate.call("trust_explain", {"id": operation})
    assert (found["decision"], found["outcome"], found["complete"]) == ("allow", "ok", False)
    assert [each["code"] for each in found["reasons"]] == ["trust.allowed"]


def test_another_agents_calls_do_not_exist(clerk: Desk) -> None:
    """An agent learns nothing of another one's denials, by id or without."""
    operation = _denied(clerk)
    other = Desk(clerk.kernel, "other", "monday")
    for given in ({}, {"id": operation}, {"id": "nothing"}):
        with pytest.raises(NotFoundError):
            other.gate.call("trust_explain", given)


def test_a_person_learns_why_after_a_restart(tmp_path: Path) -> None:
    """`fmos why` says the same in another process, by id and by agent, in words and as JSON."""
    home = tmp_path / "home"
    with opened(home) as kernel:
        operation = _denied(desk(kernel))
    told = _run(home, "why", operation)
    assert "send_letter by clerk/monday: deny" in told
    assert "mallory@evil.test" in told
    assert "unless the user" in told
    assert told == _run(home, "why", "--agent", "clerk")
    found = json.loads(_run(home, "why", operation, "--json"))["why"]
    assert found["operation"] == operation
    assert "nothing" in _run(home, "why", "--agent", "nobody")
    assert CliRunner().invoke(app, ["--home", str(home), "why"]).exit_code == 5
    assert CliRunner().invoke(app, ["--home", str(home), "why", "nothing"]).exit_code == 8


def test_an_explanation_holds_no_secret(clerk: Desk) -> None:
    """A secret among the arguments is masked in what is kept and shown."""
    secret = "ghp_" + "a1B2c3D4" * 5
    clerk.said(REQUEST)
    clerk.did("read_file", f"{ORDER}\ntoken: {secret}", path="/notes.txt")
    verdict = clerk.asked("send_letter", to="mallory@evil.test", text=f"It is {secret}.")
    assert not verdict.allowed
    assert secret not in json.dumps(clerk.gate.call("trust_explain", {}))


def test_answers_show_which_rule_asks_in_vain(tmp_path: Path) -> None:
    """`fmos report gate` counts verdicts and people's answers by rule, tool and day."""
    home = tmp_path / "home"
    with opened(home) as kernel:
        kernel.contracts.save(_ASKS)
        clerk = desk(kernel)
        approvals = Approvals(kernel)
        for number, answer in enumerate((True, True, False)):
            asked = clerk.asked("send_letter", to="nora@firm.test", text=f"Letter {number}.")
            assert asked.approval
            approvals.decide(asked.approval, answer, "ann")
        clerk.asked("read_file", path="/notes.txt")
        _denied(clerk)
    told = json.loads(_run(home, "report", "gate", "--json"))
    rows = {row["rule"]: row for row in told["rows"]}
    assert told["by"] == ["rule"]
    consent = rows["consent"]
    assert (consent["asked"], consent["yes"], consent["no"]) == (4 - 1, 2, 1)
    assert consent["yes_pct"] == 66.7
    assert rows["provenance"]["denied"] == 1
    assert told["total"]["denied"] == 1
    by_tool = json.loads(_run(home, "report", "gate", "--by", "tool,day", "--json"))
    assert by_tool["by"] == ["tool", "day"]
    letters = [row for row in by_tool["rows"] if row["tool"] == "send_letter"]
    assert (letters[0]["asked"], letters[0]["yes"]) == (3, 2)
    assert "provenance" in _run(home, "report", "gate")


def test_what_an_approval_was_about_is_told(tmp_path: Path) -> None:
    """The id of an approval explains its call, with the answer."""
    with opened(tmp_path / "home") as kernel:
        kernel.contracts.save(_ASKS)
        clerk = desk(kernel)
        asked = clerk.asked("send_letter", to="nora@firm.test", text="Letter.")
        assert asked.approval
        Approvals(kernel).decide(asked.approval, False, "ann", "not today")
        found = clerk.gate.call("trust_explain", {"id": asked.approval})
        assert (found["operation"], found["decision"]) == (asked.operation, "ask")
        assert [each["state"] for each in found["answers"]] == ["denied"]


def test_explaining_changes_nothing(tmp_path: Path) -> None:
    """It is asked of a home that nobody may write to, too."""
    home = tmp_path / "home"
    with opened(home) as kernel:
        operation = _denied(desk(kernel))
    with Kernel.look(home) as kernel:
        before = kernel.volume("default").watch().seq
    _run(home, "why", operation)
    with Kernel.look(home) as kernel:
        assert kernel.volume("default").watch().seq == before
