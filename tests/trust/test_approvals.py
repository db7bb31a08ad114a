from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from tests.trust.conftest import CONTRACT

from fmos.clock import FixedClock, Uptime
from fmos.errors import ArgumentError, DeniedError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Principal, Reason, Verdict
from fmos_trust.approvals import Approvals
from fmos_trust.shown import arguments_text, visible
from fmos_trust.tools import TrustTools


class BootedClock(FixedClock):
    """A clock of a machine that can be started again."""

    boot = "first"

    def uptime(self) -> Uptime:
        """Return how far the clock was moved, and since which start."""
        return Uptime(self.boot, super().uptime().ns)


@pytest.fixture
def kernel(tmp_path: Any) -> Any:
    """A kernel whose clock moves only when told to."""
    with Kernel.open(tmp_path / "home", BootedClock()) as opened:
        yield opened


def settle(home: Any, **trust: Any) -> None:
    """Write the home's `[trust]` settings."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in trust.items()]
    (home / "fmos.toml").write_text("\n".join(["[trust]", *lines, ""]))


def checked(kernel: Kernel, who: Principal, approval: str = "", **fields: Any) -> Verdict:
    """Return the verdict on a removal by any principal."""
    said = {"kind": "tool.call", "name": "run", "arguments": {"command": "rm x"}, **fields}
    operation = Operation.model_validate(said).model_dump(mode="json")
    answer = TrustTools(kernel, who).call(
        "trust_check", {"operation": operation, "approval": approval}
    )
    return Verdict.model_validate(answer)


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
        "trust_policy_dry_run",
        "trust_explain",
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
        "state = 'approved'",
        "state = 'approved', document = json_set(document, '$.approver', 'ann')",
        "state = 'approved', seal = hex(randomblob(32))",
        "expires_ns = expires_ns + 1000000000000",
        "up_until_ns = up_until_ns + 1000000000000",
        "boot = 'another'",
        "document = json_set(document, '$.nonce', '00')",
        "document = json_set(document, '$.shown', 'ls')",
        "document = json_set(document, '$.principal.session', 's2')",
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


WRITER = Principal(agent="writer", session="s1")


@pytest.mark.parametrize(
    ("who", "call"),
    [
        ({"session": "s2"}, {}),
        ({"application": "other"}, {}),
        ({"tenant": "other"}, {}),
        ({"agent": "reader"}, {}),
        ({"role": "guest"}, {}),
        ({}, {"name": "remove"}),
        ({}, {"kind": "fs.write"}),
        ({}, {"arguments": {"command": "rm y"}}),
        ({}, {"arguments": {"command": "rm x", "timeout": 1}}),
    ],
)
def test_an_approval_is_for_one_call_of_one_session(
    kernel: Kernel, who: dict[str, str], call: dict[str, Any]
) -> None:
    """Whatever differs from what was asked about, the approval does not let it through."""
    kernel.contracts.save(CONTRACT)
    kernel.contracts.save(CONTRACT.replace("name: writer", "name: reader"))
    other = WRITER.model_copy(update=who)
    described = [
        {"name": name, "capability": "process.run", "effect": "execute",
         "roles": {"command": "command"}} for name in ("run", "remove")
    ]  # fmt: skip
    for each in (WRITER, other):
        TrustTools(kernel, each).call("trust_register_tools", {"tools": described})
    asked = checked(kernel, WRITER)
    Approvals(kernel).decide(str(asked.approval), True, "ann")
    refused = checked(kernel, other, str(asked.approval), **call)
    assert refused.decision == "ask", refused.reason
    assert "is for another call" in refused.reason
    assert refused.approval != asked.approval
    assert checked(kernel, WRITER, str(asked.approval)).allowed


def test_an_approval_is_for_the_tool_as_it_was_described(check: Any, tools: TrustTools) -> None:
    """A tool that is registered anew, as a server that changed it would, is asked about anew."""
    asked = check("run", command="rm x")
    Approvals(tools.kernel).decide(asked.approval, True, "ann")
    changed = {"name": "run", "capability": "process.run", "effect": "execute",
               "roles": {"command": "command"}, "description": "Does more now."}  # fmt: skip
    tools.call("trust_register_tools", {"tools": [changed]})
    again = check("run", approval=asked.approval, command="rm x")
    assert not again.allowed


def test_two_people_race_and_one_is_told_who_won(check: Any, kernel: Kernel) -> None:
    """Of any number of answers at once one counts; the others say whose it was."""
    asked = check("run", command="rm x")
    said: list[str] = []
    start = threading.Barrier(4)

    def answer(person: str) -> None:
        start.wait()
        try:
            Approvals(kernel).decide(asked.approval, person < "c", person)
            said.append(f"won {person}")
        except ArgumentError as error:
            said.append(str(error))

    threads = [threading.Thread(target=answer, args=(each,)) for each in "abcd"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    (won,) = (each for each in said if each.startswith("won"))
    lost = [each for each in said if each != won]
    assert len(lost) == 3
    assert all(f"already (by {won[-1]})" in each for each in lost), lost


def test_two_processes_use_one_approval_once(check: Any, kernel: Kernel) -> None:
    """A replayed approval lets one call through, whoever comes with it at the same time."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, True, "ann")
    start, said = threading.Barrier(4), []

    def use() -> None:
        with Kernel.open(kernel.home.path, kernel.clock) as other:
            start.wait()
            said.append(checked(other, WRITER, asked.approval).allowed)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(said) == [False, False, False, True]


@pytest.mark.parametrize("back_s", [0, 300, 5_000])
def test_a_yes_does_not_outlive_a_reboot(check: Any, kernel: Kernel, back_s: float) -> None:
    """After a reboot nobody knows how long ago it was given, whatever the clock says."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, True, "ann")
    assert isinstance(kernel.clock, BootedClock)
    kernel.clock.boot = "second"
    kernel.clock.set_back(back_s)
    again = check("run", approval=asked.approval, command="rm x")
    assert again.decision == "ask"
    assert "has expired" in again.reason


def test_a_question_outlives_a_reboot_but_no_clock_set_back(check: Any, kernel: Kernel) -> None:
    """It is no authority; one that lies in the future was made before the clock was set back."""
    asked = check("run", command="rm x")
    assert isinstance(kernel.clock, BootedClock)
    kernel.clock.boot = "second"
    assert [each.id for each in Approvals(kernel).pending()] == [asked.approval]
    kernel.clock.set_back(1)
    assert Approvals(kernel).pending() == []


def test_a_no_is_remembered_for_the_session(check: Any, kernel: Kernel) -> None:
    """The same call is denied without asking again; another session may ask."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, False, "ann", "keep it")
    again = check("run", command="rm x")
    assert again.decision == "deny"
    assert again.reason == "ann said no to this call (keep it); do not try it again"
    assert Approvals(kernel).pending() == []
    other = checked(kernel, WRITER.model_copy(update={"session": "s2"}))
    assert other.decision == "ask"


def test_only_so_many_calls_of_an_agent_wait(tools: TrustTools, tmp_path: Any) -> None:
    """An agent that asks for everything is denied until somebody has answered."""
    settle(tmp_path / "home", max_pending=3)
    with Kernel.open(tmp_path / "home") as kernel:
        verdicts = [
            checked(kernel, WRITER, arguments={"command": f"rm {number}"}) for number in range(5)
        ]
        assert [each.decision for each in verdicts] == ["ask", "ask", "ask", "deny", "deny"]
        assert "3 calls of the agent 'writer' wait for a person already" in verdicts[-1].reason
        Approvals(kernel).decide(str(verdicts[0].approval), False, "ann")
        assert checked(kernel, WRITER, arguments={"command": "rm 3"}).decision == "ask"


def test_time_out_and_escalation_are_settings(tools: TrustTools, tmp_path: Any) -> None:
    """Whom the settings name may answer, others as well once half of the time has passed."""
    settle(
        tmp_path / "home", approve_within_s=100, approvers=["user:ann"], escalate_to=["user:bob"]
    )
    clock = BootedClock()
    with Kernel.open(tmp_path / "home", clock) as kernel:
        asked, approvals = str(checked(kernel, WRITER).approval), Approvals(kernel)
        for person in ("user:bob", "user:eve"):
            with pytest.raises(DeniedError, match="let one of user:ann answer"):
                approvals.decide(asked, True, person)
        clock.advance(50)
        assert approvals.pending()[0].escalated(clock.now_ns())
        with pytest.raises(DeniedError, match="let one of user:ann, user:bob answer"):
            approvals.decide(asked, True, "user:eve")
        approvals.decide(asked, True, "user:bob")
        assert checked(kernel, WRITER, asked).allowed
        late = str(checked(kernel, WRITER, arguments={"command": "rm z"}).approval)
        clock.advance(100)
        with pytest.raises(ArgumentError, match="has expired"):
            approvals.decide(late, True, "user:ann")


def test_what_ended_long_ago_is_forgotten(check: Any, kernel: Kernel) -> None:
    """The background job keeps a no for a month, and then no row of it."""
    asked = check("run", command="rm x")
    Approvals(kernel).decide(asked.approval, False, "ann")
    assert isinstance(kernel.clock, FixedClock)
    for days, left in ((29, 1), (3, 0)):
        kernel.clock.advance(days * 86_400)
        Approvals(kernel).expire()
        assert kernel.database.query("SELECT COUNT(*) FROM trust_approval") == [(left,)]


def test_everything_of_a_call_can_be_seen(check: Any, kernel: Kernel) -> None:
    """What stands in the middle of a long command is shown, and nothing in it is invisible."""
    filler = "a" * 50_000
    check("run", command=f"echo {filler} ; rm -rf /work/precious ; echo {filler} the\u202eend")
    check("run", command="rm \u0444\u0430\u0439\u043b \u200bb\x1b[2J")
    long, short = Approvals(kernel).pending()
    assert long.shown.startswith('{"command":"echo aaa')
    assert long.shown.endswith('the\\u202eend"}')
    assert "rm -rf /work/precious" in long.shown
    assert short.shown == '{"command":"rm файл \\u200bb\\u001b[2J"}'


def test_of_a_huge_call_head_tail_and_what_was_found_are_shown() -> None:
    """What is left out is counted, and the places that the findings name are not left out."""
    filler = "a" * 300_000
    text = f"begin {filler} ; rm -rf /work/precious ; {filler} end"
    reason = Reason(code="x", message="consent for 'destructive': rm removes files")
    shown = arguments_text({"command": text}, [reason])
    assert shown.startswith('{"command":"begin aaa')
    assert shown.endswith('aaa end"}')
    assert "characters are left out here" in shown
    assert "rm -rf /work/precious" in shown
    assert len(shown) < 270_000


@pytest.mark.parametrize("char", ["\u202e", "\u200b", "\u2066", "\x00", "\x9b", "\u3164", "\ufe0f",
                                  "\u00a0", "\ud800", "\U000e0041"])  # fmt: skip
def test_no_character_is_invisible(char: str) -> None:
    """Bidirectional marks, blanks, tags and single surrogates are escaped; letters stay."""
    shown = visible(f"файл {char} größe")
    assert char not in shown
    assert shown.startswith("файл \\")
    assert shown.endswith(" größe")
