"""Risk as a budget: what calls cost of it, and what happens when it is spent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fmos.clock import FixedClock
from fmos.runtime.kernel import Kernel
from fmos.types import Decision, Operation, OperationKind, Principal, Verdict, new_id
from fmos_cli.main import app
from fmos_trust.approvals import Approvals
from fmos_trust.tools import TrustTools

WHO = Principal(agent="clerk", session="s1")
CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: clerk
capabilities: [fs.read, fs.write, crm.update, message.send]
"""
TOOLS: list[dict[str, Any]] = [
    {"name": "look", "capability": "fs.read", "effect": "read", "roles": {"path": "path"}},
    {"name": "save", "capability": "fs.write", "effect": "write", "roles": {"path": "path"}},
    {"name": "update", "capability": "crm.update", "effect": "write"},
    {"name": "mail", "capability": "message.send", "effect": "send", "roles": {"to": "recipient"}},
]
#: With nothing to say against it, a call is taken to be nobody's own wish with 2 %.
UPDATE = 20_000


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel over a fresh home, whose clock the test moves."""
    with Kernel.open(tmp_path / "home", FixedClock()) as opened:
        yield opened


def gate(kernel: Kernel, more: str) -> TrustTools:
    """Return the gate for an agent whose contract says `more` as well."""
    kernel.contracts.save(CONTRACT + more)
    toolset = TrustTools(kernel, WHO)
    toolset.call("trust_register_tools", {"tools": TOOLS})
    return toolset


def ask(
    tools: TrustTools, tool: str, id: str = "", approval: str = "", **arguments: Any
) -> Verdict:
    """Let the gate judge one call."""
    kind = OperationKind.TOOL_CALL
    operation = Operation(id=id or new_id(), kind=kind, name=tool, arguments=arguments)
    given = {"operation": operation.model_dump(mode="json"), "approval": approval}
    return Verdict.model_validate(tools.call("trust_check", given))


def settle(tools: TrustTools, verdict: Verdict, status: str) -> None:
    """Say how a call ended."""
    tools.call("trust_settle", {"outcome": {"operation": verdict.operation, "status": status}})


def risk(kernel: Kernel, kind: str = "session") -> tuple[int, int]:
    """Return what of an account's risk is held, and spent."""
    account = kernel.account(WHO).nearest(kind)  # type: ignore[arg-type]
    rows = [
        row
        for row in kernel.ledger.status(str(account))
        if row.account == account and row.resource == "risk" and row.window == "total"
    ]
    return (rows[0].reserved, rows[0].spent) if rows else (0, 0)


def test_a_call_is_charged_by_effect_and_reversibility(kernel: Kernel) -> None:
    """A write that the volume can take back costs least, what is sent most, a read nothing."""
    tools = gate(kernel, "budgets: { risk: 1000000 }\n")
    cost: dict[str, int] = {}
    calls: dict[str, dict[str, Any]] = {
        "look": {"path": "/a"}, "save": {"path": "/a"}, "update": {"n": 1}, "mail": {"to": "a"},
    }  # fmt: skip
    for tool, arguments in calls.items():
        before = sum(risk(kernel))
        verdict = ask(tools, tool, **arguments)
        assert verdict.allowed, verdict
        settle(tools, verdict, "ok")
        cost[tool] = sum(risk(kernel)) - before
    assert cost["look"] == 0
    assert cost["update"] == UPDATE
    assert 0 < cost["save"] < cost["update"] < cost["mail"]


def test_what_did_not_come_about_is_given_back(kernel: Kernel) -> None:
    """Held while the call runs, spent when it ended, refunded when its effect was discarded."""
    tools = gate(kernel, "budgets: { risk: 1000000 }\n")
    ran, discarded = ask(tools, "update", n=1), ask(tools, "update", n=2)
    assert risk(kernel) == (2 * UPDATE, 0)
    settle(tools, ran, "failed")
    settle(tools, discarded, "denied")
    assert risk(kernel) == (0, UPDATE)
    settle(tools, discarded, "denied")
    assert risk(kernel) == (0, UPDATE)


def test_beyond_the_budget_a_person_is_asked(kernel: Kernel) -> None:
    """The call waits for a yes; with it, it runs and its risk is spent past the limit."""
    tools = gate(kernel, f"budgets: {{ risk: {UPDATE} }}\n")
    settle(tools, ask(tools, "update", n=1), "ok")
    verdict = ask(tools, "update", id="second", n=2)
    assert verdict.decision is Decision.ASK
    assert verdict.reasons[0].code == "trust.risk"
    assert verdict.reasons[0].change == "a person's yes"
    Approvals(kernel).decide(str(verdict.approval), True, "user:ann")
    again = ask(tools, "update", id="second", approval=str(verdict.approval), n=2)
    assert again.allowed, again
    assert risk(kernel) == (0, 2 * UPDATE)
    assert ask(tools, "look", path="/a").allowed


def test_a_contract_may_deny_instead(kernel: Kernel) -> None:
    """Where `security.deny` names risk, the budget is a wall."""
    tools = gate(kernel, "budgets: { risk: 10 }\nsecurity: { deny: [risk] }\n")
    verdict = ask(tools, "update", n=1)
    assert verdict.decision is Decision.DENY
    assert verdict.reasons[0].code == "trust.risk"


def test_the_agents_budget_binds_all_sessions(kernel: Kernel) -> None:
    """A new session does not bring new risk."""
    tools = gate(kernel, f"budgets: {{ agent: {{ risk: {UPDATE} }} }}\n")
    assert ask(tools, "update", n=1).allowed
    other = TrustTools(kernel, WHO.model_copy(update={"session": "s2"}))
    assert ask(other, "update", n=1).decision is Decision.ASK


def test_without_a_limit_nothing_is_charged(kernel: Kernel) -> None:
    """Who declares no budget of risk pays none, in risk or in time."""
    tools = gate(kernel, "")
    assert ask(tools, "mail", to="a").allowed
    assert risk(kernel) == (0, 0)


def test_a_high_price_asks_before_the_limit(kernel: Kernel) -> None:
    """Spent faster than its window allows, risk rises in price until a person is asked."""
    tools = gate(kernel, "budgets: { per_day: { risk: 1000000 } }\n")
    account = kernel.account(WHO).nearest("agent")
    assert account is not None
    assert ask(tools, "update", n=0).allowed
    kernel.ledger.set_price(str(account), "risk", window="day", step=1000.0)
    asked = False
    clock = kernel.clock
    assert isinstance(clock, FixedClock)
    for number in range(1, 30):
        clock.advance(1_440)
        verdict = ask(tools, "update", n=number)
        if verdict.decision is Decision.ASK:
            asked = verdict.reasons[0].code == "trust.risk_price"
            break
        settle(tools, verdict, "ok")
        kernel.charge(WHO, {"risk": 100_000})
    assert asked


def test_the_ledger_shows_it(kernel: Kernel) -> None:
    """`fmos ledger show` has the risk beside tokens and calls."""
    tools = gate(kernel, "budgets: { risk: 1000000 }\n")
    settle(tools, ask(tools, "update", n=1), "ok")
    home = str(kernel.home.path)
    words = ["--home", home, "ledger", "show", "--agent", "clerk", "--session", "s1", "--json"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    assert any(
        row["resource"] == "risk" and row["spent"] == UPDATE
        for row in _rows(json.loads(answer.output))
    )


def _rows(found: Any) -> list[dict[str, Any]]:
    """Return every object in a document that names a resource."""
    if isinstance(found, dict):
        own = [found] if "resource" in found else []
        return own + [row for value in found.values() for row in _rows(value)]
    return [row for value in found for row in _rows(value)] if isinstance(found, list) else []


_WORKER = """
import sys
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Principal
from fmos_trust.tools import TrustTools
home, number = sys.argv[1:]
with Kernel.open(home) as kernel:
    tools = TrustTools(kernel, Principal(agent="clerk", session="s1"))
    allowed = 0
    for call in range(6):
        operation = Operation(kind="tool.call", name="update", arguments={"n": f"{number}-{call}"})
        given = {"operation": operation.model_dump(mode="json")}
        allowed += tools.call("trust_check", given)["decision"] == "allow"
    print(allowed)
"""


def test_processes_share_one_budget(tmp_path: Path) -> None:
    """Four processes at once let through exactly as many calls as the budget has risk for."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        gate(kernel, f"budgets: {{ risk: {10 * UPDATE} }}\n")
    command = [sys.executable, "-c", _WORKER, str(home)]
    workers = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    allowed = [int(worker.communicate(timeout=120)[0]) for worker in workers]
    assert sum(allowed) == 10
    with Kernel.open(home) as kernel:
        assert risk(kernel) == (10 * UPDATE, 0)
