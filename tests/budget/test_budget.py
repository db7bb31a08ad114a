from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fmos.audit.record import verify
from fmos.errors import ArgumentError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal, Verdict
from fmos_budget.tools import BudgetTools

CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: writer
modelPolicy: { allow: ["scripted*", "local/8B"] }
budgets: { tokens: 1k }
"""


@pytest.fixture
def tools(kernel: Kernel) -> BudgetTools:
    """The budget tools, started for a session of the agent `writer` with 1000 tokens."""
    kernel.contracts.save(CONTRACT)
    return BudgetTools(kernel, Principal(agent="writer", session="s1"))


def admit(tools: BudgetTools, tokens: int, model: str = "scripted", **more: Any) -> Verdict:
    """Ask for a model call of so many tokens."""
    cost = {"tokens": tokens} if tokens else {}
    operation = {"kind": "model.generate", "name": model, "cost_estimate": cost, **more}
    return Verdict.model_validate(tools.call("budget_admit", {"operation": operation}))


def session_tokens(tools: BudgetTools) -> dict[str, Any]:
    """Return the session's own balance of tokens."""
    status = tools.call("budget_status", {})
    found = [b for b in status["balances"] if b["account"] == status["account"]]
    return next(b for b in found if b["resource"] == "tokens")


def test_session_has_the_contracts_limit(tools: BudgetTools) -> None:
    """The first look at a session's account shows what its contract gives it."""
    balance = session_tokens(tools)
    assert (balance["limit"], balance["spent"], balance["left"]) == (1000, 0, 1000)


def test_call_is_reserved_and_settled_with_what_it_used(tools: BudgetTools) -> None:
    """Reserving holds the estimate; settling spends the real usage and frees the rest."""
    verdict = admit(tools, 600)
    assert verdict.allowed
    assert session_tokens(tools)["left"] == 400
    arguments = {"reservation": verdict.reservation, "usage": {"tokens": 250}}
    assert tools.call("budget_settle", arguments)["committed"] == {"tokens": 250}
    balance = session_tokens(tools)
    assert (balance["reserved"], balance["spent"], balance["left"]) == (0, 250, 750)


def test_exhausted_session_is_denied_with_the_way_out(tools: BudgetTools) -> None:
    """A denial names account, resource, asked, left, and the line of the contract to raise."""
    admit(tools, 900)
    verdict = admit(tools, 200)
    assert verdict.decision == "deny"
    assert verdict.reservation is None
    assert verdict.reasons[0].code == "budget.exceeded"
    assert verdict.reason == (
        "the account 'org:default/tenant:default/app:-/agent:writer/session:s1' has 100 tokens left"
        " and 200 are asked for; raise `budgets: { tokens: ... }` in the contract 'writer'"
        " (contracts/writer.yaml), or finish with what you have"
    )


def test_call_without_estimate_needs_something_left(tools: BudgetTools) -> None:
    """A call that does not say what it costs is denied once the account is empty."""
    verdict = admit(tools, 1000)
    tools.call("budget_settle", {"reservation": verdict.reservation, "usage": {"tokens": 1000}})
    assert admit(tools, 0).decision == "deny"


def test_raised_contract_gives_more(tools: BudgetTools, kernel: Kernel) -> None:
    """The way out works: after raising the contract's budget the session continues."""
    admit(tools, 1000)
    assert admit(tools, 500).decision == "deny"
    kernel.contracts.save(CONTRACT.replace("1k", "2k"))
    assert admit(tools, 500).allowed


def test_limit_set_by_hand_is_kept(tools: BudgetTools, kernel: Kernel) -> None:
    """An unchanged contract does not overwrite what a person gave the session."""
    admit(tools, 1000)
    kernel.ledger.set_limit(
        "org:default/tenant:default/app:-/agent:writer/session:s1", "tokens", 5000
    )
    assert admit(tools, 3000).allowed


def test_model_outside_the_policy_is_denied(tools: BudgetTools) -> None:
    """A model that the contract does not list is denied, naming those it does."""
    verdict = admit(tools, 10, model="gpt-5")
    assert verdict.decision == "deny"
    assert verdict.reasons[0].code == "budget.model"
    assert "scripted*, local/8B" in verdict.reason
    assert admit(tools, 10, model="scripted-2").allowed


def test_same_operation_is_reserved_once(tools: BudgetTools) -> None:
    """A repeated admit of one operation returns the same reservation."""
    first = admit(tools, 600, id="op1")
    again = admit(tools, 600, id="op1")
    assert first.reservation == again.reservation
    assert session_tokens(tools)["reserved"] == 600


def test_settling_twice_changes_nothing(tools: BudgetTools) -> None:
    """The first settlement counts."""
    reservation = admit(tools, 600).reservation
    tools.call("budget_settle", {"reservation": reservation, "usage": {"tokens": 100}})
    again = tools.call("budget_settle", {"reservation": reservation, "usage": {"tokens": 500}})
    assert again["committed"] == {"tokens": 100}
    assert session_tokens(tools)["spent"] == 100


def test_empty_usage_gives_everything_back(tools: BudgetTools) -> None:
    """A call that did not happen costs nothing, and may be admitted again."""
    reservation = admit(tools, 600, id="op1").reservation
    tools.call("budget_settle", {"reservation": reservation, "usage": {}})
    assert session_tokens(tools)["left"] == 1000
    again = admit(tools, 600, id="op1").reservation
    tools.call("budget_settle", {"reservation": again, "usage": {"tokens": 70}})
    assert session_tokens(tools)["spent"] == 70


def test_usage_above_the_reservation_is_recorded(tools: BudgetTools) -> None:
    """What happened is spent in full, past the limit too, and blocks the next call."""
    reservation = admit(tools, 600).reservation
    tools.call("budget_settle", {"reservation": reservation, "usage": {"tokens": 1500}})
    assert session_tokens(tools)["spent"] == 1500
    assert admit(tools, 1).decision == "deny"


def test_providers_token_counts_are_added_up(tools: BudgetTools) -> None:
    """Usage in a provider's words becomes tokens."""
    reservation = admit(tools, 600).reservation
    usage = {"input_tokens": 30, "output_tokens": 12}
    answer = tools.call("budget_settle", {"reservation": reservation, "usage": usage})
    assert answer["committed"] == {"tokens": 42}


@pytest.mark.parametrize(
    ("usage", "committed"),
    [
        ({"currency": 3}, {"tokens": 600, "currency": 3}),
        ({"prompt_tokens": 4, "completion_tokens": 2, "input_tokens": 4, "output_tokens": 2}, 6),
        ({"total_tokens": 9, "input_tokens": 4, "output_tokens": 2}, 9),
        ({"tokens": 7, "input_tokens": 4}, 7),
        ({"tokens": 0}, 600),
        ({"tokens": 0, "input_tokens": 0, "output_tokens": 0}, 0),
        ({"prompt_tokens": 5}, 5),
    ],
)
def test_usage_is_read_in_one_providers_words(
    tools: BudgetTools, usage: dict[str, int], committed: int | dict[str, int]
) -> None:
    """Tokens are counted once; what was reserved and not reported counts as it was reserved."""
    arguments = {"reservation": admit(tools, 600).reservation, "usage": usage}
    expected = committed if isinstance(committed, dict) else {"tokens": committed}
    assert tools.call("budget_settle", arguments)["committed"] == expected


def test_settlement_tells_which_share_of_a_limit_it_passed(tools: BudgetTools) -> None:
    """An agent hears at 50, 80, 95 and 100 % of its budget, once."""
    arguments = {"reservation": admit(tools, 600).reservation, "usage": {"tokens": 810}}
    told = tools.call("budget_settle", arguments)["alerts"]
    assert [(alert["percent"], alert["limit"]) for alert in told] == [(50, 1000), (80, 1000)]
    assert tools.call("budget_settle", arguments)["alerts"] == []


def test_settled_operation_is_denied_as_used(tools: BudgetTools) -> None:
    """An id that was paid for buys nothing more, whatever it asks for."""
    reservation = admit(tools, 1, id="op1").reservation
    tools.call("budget_settle", {"reservation": reservation, "usage": {"tokens": 1}})
    for tokens in (1, 900):
        verdict = admit(tools, tokens, id="op1")
        assert (verdict.decision, verdict.reasons[0].code) == ("deny", "budget.operation")
        assert "already used and settled" in verdict.reason
    assert session_tokens(tools)["spent"] == 1


def test_open_operation_does_not_grow(tools: BudgetTools) -> None:
    """An open id that asks for another amount is denied, and holds what it held."""
    admit(tools, 1, id="op1")
    assert admit(tools, 900, id="op1").reasons[0].code == "budget.operation"
    assert session_tokens(tools)["reserved"] == 1


def test_unknown_resources_are_refused(tools: BudgetTools) -> None:
    """Estimates and usage in no known resource are errors that name it."""
    with pytest.raises(ArgumentError, match="tokenz"):
        admit(tools, 0, cost_estimate={"tokenz": 5})
    reservation = admit(tools, 10).reservation
    with pytest.raises(ArgumentError, match="bananas"):
        tools.call("budget_settle", {"reservation": reservation, "usage": {"bananas": 5}})


def test_reservation_of_another_session_is_not_found(tools: BudgetTools, kernel: Kernel) -> None:
    """A session settles its own reservations only."""
    reservation = admit(tools, 600).reservation
    other = BudgetTools(kernel, Principal(agent="writer", session="s2"))
    with pytest.raises(NotFoundError, match="no reservation"):
        other.call("budget_settle", {"reservation": reservation, "usage": {"tokens": 1}})


def test_fork_spends_from_its_parents_account(tools: BudgetTools, kernel: Kernel) -> None:
    """A limit on the parent's account binds the forked agent too."""
    kernel.ledger.set_limit("org:default/tenant:default/app:-/agent:writer", "tokens", 700)
    child = kernel.fork_agent(Principal(agent="writer"), "writer-2")
    forked = BudgetTools(kernel, child.model_copy(update={"session": "s9"}))
    assert admit(forked, 500).allowed
    assert admit(tools, 500).decision == "deny"


def test_concurrent_calls_never_overspend(tools: BudgetTools) -> None:
    """Sixteen threads asking at once get exactly what the limit allows."""
    with ThreadPoolExecutor(16) as pool:
        verdicts = list(pool.map(lambda _: admit(tools, 100), range(32)))
    assert sum(verdict.allowed for verdict in verdicts) == 10
    assert session_tokens(tools)["left"] == 0


def test_admission_and_settlement_are_audited(tools: BudgetTools, kernel: Kernel) -> None:
    """Intent and outcome are rows of the journal, and its chain holds."""
    reservation = admit(tools, 10).reservation
    before = verify(kernel, "default")["rows"]
    tools.call("budget_settle", {"reservation": reservation, "usage": {"tokens": 5}})
    after = verify(kernel, "default")
    assert after["ok"]
    assert after["rows"] == before + 1


def test_broken_contract_denies(tools: BudgetTools, kernel: Kernel) -> None:
    """A contract that cannot be read admits nothing."""
    (kernel.home.contracts / "writer.yaml").write_text("kind: [", encoding="utf-8")
    verdict = admit(tools, 10)
    assert verdict.decision == "deny"
    assert "writer.yaml" in verdict.reason


def test_set_reasoning_level_is_a_tool(tools: BudgetTools) -> None:
    """The tool takes a word or a number and needs no agent."""
    assert tools.call("set_reasoning_level", {"model": "o3", "level": "high"})["parameters"] == {
        "reasoning_effort": "high"
    }
    with pytest.raises(ArgumentError, match="level"):
        tools.call("set_reasoning_level", {"model": "o3", "level": "huge"})
