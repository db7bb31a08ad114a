from __future__ import annotations

from typing import Any

import pytest

from fmos.clock import FixedClock
from fmos.errors import ArgumentError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos_trust.approvals import Approvals
from fmos_trust.tools import TrustTools


@pytest.fixture
def kernel(tmp_path: Any) -> Any:
    """A kernel whose clock moves only when told to."""
    with Kernel.open(tmp_path / "home", FixedClock()) as opened:
        yield opened


def test_destructive_command_is_asked_about_on_a_fork(check: Any) -> None:
    """A destructive command waits for a person and is to be run on a fork."""
    verdict = check("run", command="rm -rf /out")
    assert verdict.decision == "ask"
    assert verdict.reasons[0].code == "trust.consent.destructive"
    assert "rm removes files" in verdict.reason
    assert [item.kind for item in verdict.obligations] == ["run_on_fork"]


def test_approved_call_runs_once(check: Any, kernel: Kernel) -> None:
    """An approval lets exactly one call through; the next is asked about anew."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, True, "ann", "fine")
    allowed = check("run", approval=asked.approval, command="rm x")
    assert allowed.allowed
    assert allowed.reason == "ann approved this call"
    again = check("run", approval=asked.approval, command="rm x")
    assert again.decision == "ask"
    assert again.approval != asked.approval
    assert "used already" in again.reason


def test_approval_of_one_call_does_not_cover_another(check: Any, kernel: Kernel) -> None:
    """Changed arguments need an approval of their own, and the first stays usable."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, True, "ann", "")
    other = check("run", approval=asked.approval, command="rm y")
    assert other.decision == "ask"
    assert "for another call" in other.reason
    assert check("run", approval=asked.approval, command="rm x").allowed


def test_changed_contract_voids_an_approval(check: Any, kernel: Kernel) -> None:
    """An approval was given under one policy and does not outlive it."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, True, "ann", "")
    path = kernel.home.contracts / "writer.yaml"
    text = path.read_text("utf-8").replace("/src/**", "/sources/**")
    kernel.contracts.save(text)
    assert check("run", approval=asked.approval, command="rm x").decision == "ask"


def test_refused_call_is_denied_with_the_persons_reason(check: Any, kernel: Kernel) -> None:
    """A no denies the call and tells the model why."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, False, "ann", "keep it")
    verdict = check("run", approval=asked.approval, command="rm x")
    assert verdict.decision == "deny"
    assert verdict.reason == "ann said no to this call (keep it); do not try it again"


def test_approval_never_overrules_a_denial(check: Any, kernel: Kernel) -> None:
    """What the contract forbids stays forbidden with an approval in hand."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, True, "ann", "")
    assert check("write_file", approval=asked.approval, path="/etc/x", text="").decision == "deny"


def test_same_call_waits_once(tools: TrustTools, check: Any) -> None:
    """Asking again for the same call gives the approval that waits already."""
    first = check("run", command="rm x")
    second = check("run", approval=first.approval, command="rm x")
    third = check("run", command="rm x")
    assert first.approval == second.approval == third.approval
    (waiting,) = tools.call("trust_pending", {})["approvals"]
    assert waiting["id"] == first.approval
    assert waiting["arguments"] == '{"command":"rm x"}'


def test_approval_expires(check: Any, kernel: Kernel) -> None:
    """After ten minutes an answer is too late, and so is a use of an answer."""
    approvals = Approvals(kernel)
    late = check("run", command="rm x")
    used_late = check("run", command="rm y")
    approvals.decide(used_late.approval, True, "ann", "")
    assert isinstance(kernel.clock, FixedClock)
    kernel.clock.advance(601)
    assert approvals.pending() == []
    with pytest.raises(ArgumentError, match="has expired"):
        approvals.decide(late.approval, True, "ann", "")
    assert "has expired" in check("run", approval=used_late.approval, command="rm y").reason


def test_unknown_and_answered_approvals_are_refused(check: Any, kernel: Kernel) -> None:
    """A person who answers twice, or the wrong id, is told so."""
    approvals = Approvals(kernel)
    with pytest.raises(NotFoundError, match="no approval 'nope'"):
        approvals.decide("nope", True, "ann", "")
    asked = check("run", command="rm x")
    approvals.decide(asked.approval, True, "ann", "")
    with pytest.raises(ArgumentError, match="is approved already"):
        approvals.decide(asked.approval, False, "ann", "")


def test_no_tool_can_approve(tools: TrustTools) -> None:
    """The server offers an agent no way to answer its own request."""
    names = {spec.name for spec, _ in tools.tools()}
    assert names == {
        "trust_check",
        "trust_settle",
        "trust_observe",
        "trust_table",
        "trust_pending",
        "trust_register_tools",
        "audit_query",
        "audit_verify",
    }


def test_a_clock_set_back_revives_no_approval(check: Any, kernel: Kernel) -> None:
    """What expired while nobody looked has expired, though the time of day says otherwise."""
    approvals = Approvals(kernel)
    late = check("run", command="rm x")
    used_late = check("run", command="rm y")
    approvals.decide(used_late.approval, True, "ann", "")
    assert isinstance(kernel.clock, FixedClock)
    kernel.clock.advance(601)
    kernel.clock.set_back(601)
    with pytest.raises(ArgumentError, match="has expired"):
        approvals.decide(late.approval, True, "ann", "")
    assert "has expired" in check("run", approval=used_late.approval, command="rm y").reason


@pytest.mark.parametrize(
    "change",
    [
        "state = 'approved', approver = 'ann'",
        "state = 'approved', approver = 'ann', decided_seq = 1, seal = hex(randomblob(32))",
        "state = 'approved', approver = 'ann', expires_ns = expires_ns + 1000000000000",
    ],
)
def test_a_row_that_the_gate_did_not_write_counts_for_nothing(
    check: Any, kernel: Kernel, change: str
) -> None:
    """Who can write kernel.db and has no key approves nothing."""
    asked = check("run", command="rm x")
    kernel.database.execute(f"UPDATE trust_approval SET {change}")
    assert Approvals(kernel).pending() == []
    assert Approvals(kernel).state(asked.approval) is None
    again = check("run", approval=asked.approval, command="rm x")
    assert again.decision == "ask"
    assert "not made by this gate" in again.reason
    with pytest.raises(ArgumentError, match="was changed since"):
        Approvals(kernel).decide(asked.approval, True, "ann", "")


def test_a_used_approval_that_is_put_back_is_still_used(check: Any, kernel: Kernel) -> None:
    """The journal says that a call was let through; the row cannot say otherwise."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, True, "ann", "")
    assert check("run", approval=asked.approval, command="rm x").allowed
    kernel.database.execute("UPDATE trust_approval SET state = 'approved' WHERE state = 'used'")
    again = check("run", approval=asked.approval, command="rm x")
    assert again.decision == "ask"
    assert "used already" in again.reason
