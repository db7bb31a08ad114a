"""What a candidate would change, by the tool and by the commands, against what then happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fmos.clock import FixedClock
from fmos.errors import ContractError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_cli.main import app
from fmos_trust.tools import TrustTools

HEAD = "apiVersion: agentos/v0.2\nkind: TrustPolicy\nname: office\n"
CANDIDATE = """rules:
  - id: large
    tools: [pay]
    effect: deny
    args: { /amount: { type: amount, above: 500 } }
  - { id: third-mail, tools: [mail], effect: ask, when: counters.session >= 2 }
  - { id: branch, tools: [save], effect: rewrite, rewrite: { /branch: staging } }
  - { id: odd, tools: [query], effect: deny, when: args.missing }
"""
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("pay", {"amount": 5}),
    ("pay", {"amount": "1,000.50"}),
    ("mail", {"to": "a@example.com"}),
    ("mail", {"to": "b@example.com"}),
    ("mail", {"to": "c@example.com"}),
    ("save", {"path": "/a"}),
    ("query", {"sql": "SELECT 1"}),
    ("look", {}),
    ("nothing", {}),
]


def worked(ask: Any) -> list[str]:
    """Make the calls and return what was decided."""
    return [str(ask(tool, **arguments).decision) for tool, arguments in CALLS]


def test_a_dry_run_is_what_live_then_does(ask: Any, write: Any, tools: TrustTools) -> None:
    """The decisions that it foretells for recorded calls come true, and nothing is written."""
    before = worked(ask)
    again = tools.call("trust_policy_dry_run", {"policy": HEAD + CANDIDATE})
    assert (again["calls"], again["changed"]) == (len(CALLS), 4)
    foretold = {(each["tool"], json.dumps(each["arguments"])): each for each in again["changes"]}
    write(CANDIDATE)
    session = TrustTools(tools.kernel, Principal(agent="clerk", session="s2"))
    for (tool, arguments), old in zip(CALLS, before, strict=True):
        operation = {"kind": "tool.call", "name": tool, "arguments": arguments}
        live = session.call("trust_check", {"operation": operation})["decision"]
        change = foretold.get((tool, json.dumps(arguments)))
        assert live == (change["after"] if change else old), (tool, arguments)
    assert {each["rule"] for each in again["rules"]} == {
        "office/large", "office/third-mail", "office/branch", "office/odd",
    }  # fmt: skip
    assert "'missing'" in foretold["query", '{"sql": "SELECT 1"}']["why"]


def test_given_calls_are_tried_at_their_time(tools: TrustTools, clock: FixedClock) -> None:
    """A call may say when it would be made; the candidate replaces the policy of its name."""
    rule = "{ id: late, tools: [pay], effect: deny, when: 'time.hour >= 16' }"
    calls = [{"tool": "pay", "at_ns": (86_400 * 20_000 + 3_600 * hour) * 10**9} for hour in (9, 17)]
    found = tools.call("trust_policy_dry_run", {"policy": f"{HEAD}rules: [{rule}]", "calls": calls})
    assert [each["after"] for each in found["changes"]] == ["deny"]


def test_a_dry_run_journals_and_counts_nothing(
    ask: Any, write: Any, tools: TrustTools, kernel: Kernel
) -> None:
    """Neither rows of the journal, nor counts, nor approvals come of it."""
    write("mode: shadow\nrules: [{ id: w, tools: [pay], effect: deny }]")
    ask("pay")
    rows = len(list(kernel.volume("default").journal()))
    for _ in range(3):
        tools.call("trust_policy_dry_run", {"policy": HEAD + CANDIDATE})
    assert len(list(kernel.volume("default").journal())) == rows
    write("rules: [{ id: twice, tools: [mail], effect: deny, when: counters.session >= 1 }]")
    assert ask("mail", to="a@example.com").allowed


def test_what_cannot_be_tried_is_refused(tools: TrustTools) -> None:
    """A broken candidate has its line and column; without calls there is nothing to try."""
    with pytest.raises(ContractError, match="the candidate:4:8"):
        tools.call("trust_policy_dry_run", {"policy": HEAD + "rules: 3", "calls": []})
    idle = TrustTools(tools.kernel, Principal(agent="idle"))
    with pytest.raises(NotFoundError):
        idle.call("trust_policy_dry_run", {"policy": HEAD})


def run(kernel: Kernel, *words: str) -> tuple[int, str]:
    """Run a command over the home and return its exit code and what it printed."""
    answer = CliRunner().invoke(app, ["--home", str(kernel.home.path), "policy", *words])
    return answer.exit_code, answer.output


def test_the_commands_say_the_same(ask: Any, write: Any, kernel: Kernel, tmp_path: Path) -> None:
    """`test` finds the changes, `show` names what is in force, `explain` judges one call."""
    worked(ask)
    candidate = tmp_path / "office.yaml"
    candidate.write_text(HEAD + CANDIDATE)
    code, said = run(kernel, "test", str(candidate), "--expect-none")
    assert code == 1
    assert "office for clerk" in said
    assert f"4 of {len(CALLS)} calls would be decided otherwise" in said
    assert "allow -> deny  pay" in said
    code, said = run(kernel, "test", str(candidate), "--session", "s1", "--since", "1d", "--json")
    assert (code, json.loads(said)["changed"]) == (0, 0)
    calls = tmp_path / "calls.jsonl"
    calls.write_text('{"tool": "pay", "arguments": {"amount": 501}}\n\n{"tool": "look"}\n')
    code, said = run(kernel, "test", str(candidate), "--calls", str(calls), "--json")
    assert (code, json.loads(said)["changed"], json.loads(said)["calls"]) == (0, 1, 2)
    calls.write_text("{}\n")
    assert run(kernel, "test", str(candidate), "--calls", str(calls))[0] == 5
    write(CANDIDATE)
    code, said = run(kernel, "show", "clerk")
    assert "large (0): denies pay if /amount is an amount above 500" in said
    shown = json.loads(run(kernel, "show", "--json")[1])
    assert shown["digest"] == json.loads(run(kernel, "show", "clerk", "--json")[1])["digest"]
    (tmp_path / "args.json").write_text('{"amount": 501}')
    code, said = run(kernel, "explain", "pay", str(tmp_path / "args.json"))
    assert code == 0
    assert "clerk calls pay: deny" in said
    assert "what would change it" in said
    found = json.loads(run(kernel, "explain", "pay", str(tmp_path / "args.json"), "--json")[1])
    assert found["rules"][0]["state"] == "applies"


def test_lint_says_what_is_not_meant(tools: TrustTools, kernel: Kernel, tmp_path: Path) -> None:
    """Rules that never decide, names of nothing, and limits that nothing meets have a place."""
    file = tmp_path / "p.yaml"
    file.write_text(
        HEAD
        + """rules:
  - { id: stop, tools: [pay], effect: deny }
  - { id: after, tools: [pay], effect: ask }
  - { id: lone, tools: [mail], effect: allow }
  - { id: typo, tools: [mial], effect: deny }
  - { id: none, tools: [save], effect: ask, args: { /a: { type: amount, min: 5, max: 2 } } }
"""
    )
    code, said = run(kernel, "lint", "--agent", "clerk", str(file))
    assert code == 0
    for place, what in [
        ("6:5", "[unreachable]"), ("7:40", "[no-effect]"), ("8:25", "did you mean 'mail'?"),
        ("9:65", "[matches-nothing]"),
    ]:  # fmt: skip
        assert any(f"p.yaml:{place}" in line and what in line for line in said.splitlines()), said
    assert run(kernel, "lint", "--strict", str(file))[0] == 1
    file.write_text(HEAD + "rules: [{ id: a, tools: [x], effect: deny, args: { x: {} } }]")
    code, said = run(kernel, "lint", str(file))
    assert code == 4
    assert "p.yaml:4:" in said
    file.write_text("apiVersion: agentos/v0.2\nkind: Policy\nlayer: platform\n")
    assert run(kernel, "lint", str(file))[0] == 4
