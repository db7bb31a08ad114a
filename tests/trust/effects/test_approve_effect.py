"""A person approves what a call did on a fork: that, and nothing else, comes about, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from tests.trust.effects.conftest import WHO, Gate

from agentfs.errors import AgentFSError
from fmos.clock import FixedClock
from fmos.errors import ArgumentError
from fmos_trust.approvals import Approvals


def effects_done(gate: Gate) -> int:
    """Return how many merges the journal has."""
    rows = gate.kernel.agent_fs(WHO).journal(operation="effect.merge")
    return sum(1 for _ in rows)


def test_a_yes_merges_what_was_shown(gate: Gate) -> None:
    """The question shows the difference, yes merges it, and the call is not run again."""
    approval, trial = gate.asked()
    (waiting,) = Approvals(gate.kernel).pending()
    assert waiting.effect is not None
    assert [path for _, path, _ in waiting.effect.paths] == ["/out/old", "/out/old/a.txt"]
    assert "-one\n-two\n" in waiting.effect.patch
    assert gate.files.exists("/out/old/a.txt")
    gate.approve(approval)
    allowed = gate.check(approval)
    (done,) = allowed.obligations
    assert done.kind == "effect_done"
    assert done.parameters == {"branch": trial.branch, "output": "removed"}
    assert not gate.files.exists("/out/old")
    assert gate.files.read_text("/out/keep.txt") == "kept\n"
    assert gate.forks == []
    assert effects_done(gate) == 1


def test_a_lost_answer_is_given_again_and_merges_nothing(gate: Gate) -> None:
    """Who was killed after the merge hears that it is done; what was written since stays."""
    approval, _ = gate.asked()
    gate.approve(approval)
    gate.check(approval)
    gate.files.mkdir("/out/old")
    again = gate.check(approval)
    assert again.allowed
    assert [each.kind for each in again.obligations] == ["effect_done"]
    assert gate.files.exists("/out/old")
    assert effects_done(gate) == 1


def test_another_operation_does_not_use_it_again(gate: Gate) -> None:
    """An equal call that comes later is asked about anew."""
    approval, _ = gate.asked()
    gate.approve(approval)
    gate.check(approval)
    other = gate.check(approval, id="1" * 32)
    assert other.decision == "ask"
    assert "used already" in other.reason


def test_a_branch_that_moved_elsewhere_does_not_matter(gate: Gate) -> None:
    """What the merge would do is the same, and what the agent wrote meanwhile stays."""
    approval, _ = gate.asked()
    gate.approve(approval)
    gate.files.write("/out/new.txt", "new\n")
    assert gate.check(approval).allowed
    assert gate.files.exists("/out/new.txt")
    assert not gate.files.exists("/out/old")


def test_a_merge_that_would_differ_is_asked_about_anew(gate: Gate) -> None:
    """A path that changed on the branch since makes another question with another difference."""
    text = "".join(f"{number}\n" for number in range(20))
    gate.files.write("/out/log.txt", text)
    trial = gate.trial(lambda files: files.write("/out/log.txt", text + "end\n"))
    asked = gate.check(str(gate.check().approval), trial.branch)
    gate.approve(str(asked.approval))
    gate.files.write("/out/log.txt", "begin\n" + text)
    again = gate.check(str(asked.approval))
    assert again.decision == "ask"
    assert "moved" in again.reason
    assert again.approval != asked.approval
    assert not gate.files.read_text("/out/log.txt").endswith("end\n")
    (waiting,) = Approvals(gate.kernel).pending()
    assert waiting.effect is not None
    assert "+end" in waiting.effect.patch
    gate.approve(str(again.approval))
    assert gate.check(str(again.approval)).allowed
    assert gate.files.read_text("/out/log.txt") == f"begin\n{text}end\n"


def test_a_conflict_is_no_effect_to_approve(gate: Gate) -> None:
    """Where branch and fork changed the same, the call must run on a new fork."""
    approval, trial = gate.asked()
    gate.approve(approval)
    gate.files.write("/out/old/a.txt", "changed\n")
    again = gate.check(approval)
    assert again.decision == "ask"
    assert "changed where the fork did" in again.reason
    assert gate.files.read_text("/out/old/a.txt") == "changed\n"
    assert gate.check(str(again.approval), trial.branch).decision == "deny"


def test_a_fork_that_was_changed_after_the_yes_is_asked_about_anew(gate: Gate) -> None:
    """The gate looks at the fork itself: what a person did not see does not come about."""
    approval, trial = gate.asked()
    gate.approve(approval)
    trial.files.write("/out/more.txt", "smuggled\n")
    again = gate.check(approval)
    assert again.decision == "ask"
    assert not gate.files.exists("/out/more.txt")
    (waiting,) = Approvals(gate.kernel).pending()
    assert waiting.effect is not None
    assert "smuggled" in waiting.effect.patch


def test_an_effect_cannot_be_exchanged_while_somebody_reads_it(gate: Gate) -> None:
    """Another fork makes another approval; an answer to what was not shown is refused."""
    first = str(gate.check().approval)
    trial = gate.trial()
    gate.check(first, trial.branch)
    with pytest.raises(ArgumentError, match="shows another effect"):
        Approvals(gate.kernel).decide(first, True, "user:ann", effect="")
    other = gate.trial(lambda files: files.remove("/out/keep.txt"))
    second = gate.check(first, other.branch)
    assert second.approval != first
    with pytest.raises(ArgumentError, match="was replaced"):
        Approvals(gate.kernel).decide(first, True, "user:ann")


@pytest.mark.parametrize("branch", ["main", "writer", "nobody~try-1", "writer~try-no", "reader"])
def test_only_forks_of_ones_own_are_looked_at(gate: Gate, branch: str) -> None:
    """A branch that is another agent's, or nobody's, is refused in a sentence."""
    verdict = gate.check(effect=branch)
    assert verdict.decision == "deny"
    assert "fork" in verdict.reason


def test_no_and_time_out_drop_the_fork(gate: Gate) -> None:
    """The background job leaves nothing of what was refused or not answered."""
    refused, _ = gate.asked()
    gate.approve(refused, yes=False)
    late = gate.trial(lambda files: files.remove("/out/keep.txt"))
    asked = gate.check(id="2" * 32, arguments={"command": "rm /out/keep.txt"}, effect=late.branch)
    assert asked.decision == "ask"
    expire = next(job for job in gate.tools.jobs() if job.name == "approvals.expire")
    expire.run(gate.kernel, None)  # type: ignore[arg-type]
    assert gate.forks == [late.branch]
    assert isinstance(gate.kernel.clock, FixedClock)
    gate.kernel.clock.advance(601)
    expire.run(gate.kernel, None)  # type: ignore[arg-type]
    assert gate.forks == []
    assert gate.kernel.agent_fs(WHO).listdir("/.fmos/effects") == []
    assert gate.files.exists("/out/old/a.txt")


def test_secrets_are_not_in_the_question(gate: Gate) -> None:
    """A difference that shows a secret shows its kind."""
    token = "ghp_" + "a1B2" * 9
    trial = gate.trial(lambda files: files.write("/out/env", f"TOKEN={token}\n"))
    gate.check(effect=trial.branch)
    (waiting,) = Approvals(gate.kernel).pending()
    assert waiting.effect is not None
    assert token not in waiting.model_dump_json()
    assert "<github-token>" in waiting.effect.patch


_CRASH = """
import os, signal, sys
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Principal
from fmos_trust import trials
from fmos_trust.tools import TrustTools

def die(*given):
    os.kill(os.getpid(), signal.SIGKILL)

home, approval, when = sys.argv[1:]
real = trials.Trials.merge
if when == "before":
    trials.Trials.merge = die
elif when == "within":
    trials.Trials.merge = lambda *given: (real(*given), die())
else:
    trials.Trials.done = die
from fmos.clock import FixedClock
with Kernel.open(home, FixedClock()) as kernel:
    tools = TrustTools(kernel, Principal(agent="writer", session="s1"))
    said = {"id": "0" * 32, "kind": "tool.call", "name": "run",
            "arguments": {"command": "rm -r /out/old"}}
    operation = Operation.model_validate(said).model_dump(mode="json")
    tools.call("trust_check", {"operation": operation, "approval": approval})
"""


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_a_gate_killed_around_the_merge_has_one_effect(gate: Gate, when: str) -> None:
    """Killed before, within or after the merge: the same call, said again, is done once."""
    approval, _ = gate.asked()
    gate.approve(approval)
    home = str(gate.kernel.home.path)
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_CRASH), home, approval, when],
        env=dict(os.environ), check=False, timeout=60,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL
    assert gate.files.exists("/out/old") == (when != "after")
    again = gate.check(approval)
    assert again.allowed, again.reason
    assert [each.kind for each in again.obligations] == ["effect_done"]
    assert not gate.files.exists("/out/old")
    assert effects_done(gate) == 1


def test_a_full_volume_attaches_nothing(gate: Gate) -> None:
    """What cannot be looked at, or kept, is denied with a sentence; the question stays."""
    first = gate.check()
    trial = gate.trial()
    code = textwrap.dedent("""
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        from fmos.clock import FixedClock
        from fmos.runtime.kernel import Kernel
        from fmos.types import Operation, Principal
        from fmos_trust.tools import TrustTools
        home, approval, branch, size = sys.argv[1:]
        with Kernel.open(home, FixedClock()) as kernel:
            tools = TrustTools(kernel, Principal(agent="writer", session="s1"))
            said = {"id": "0" * 32, "kind": "tool.call", "name": "run",
                    "arguments": {"command": "rm -r /out/old"}}
            operation = Operation.model_validate(said).model_dump(mode="json")
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
            try:
                answer = tools.call("trust_check", {"operation": operation, "approval": approval,
                    "effect": branch, "output": "x" * 60_000})
                print(answer["decision"])
            except Exception as error:
                print("refused", error)
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, str(gate.kernel.home.path), str(first.approval),
         trial.branch, "4096"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.split()[0] in ("deny", "refused"), (done.stdout, done.stderr)
    assert gate.files.exists("/out/old")
    asked = gate.check(str(first.approval), trial.branch)
    assert asked.decision == "ask"


def test_a_merge_that_fails_is_done_when_there_is_space(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume refuses the merge: nothing has come about, and the same call ends it later."""
    approval, _ = gate.asked()
    gate.approve(approval)
    with monkeypatch.context() as broken:

        def full(*given: object) -> None:
            raise AgentFSError("/out/old", "there is no space")

        broken.setattr("fmos_trust.trials.Trials.merge", full)
        assert gate.check(approval).decision == "deny"
    assert gate.files.exists("/out/old")
    assert gate.check(approval).allowed
    assert effects_done(gate) == 1
