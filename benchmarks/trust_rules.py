"""Claim: a tool call is judged by 1,000 rules in microseconds, in process.

Target: <= 30 us p50 without a `when:`, <= 80 us with one, <= 250 us p99.

One rule a tool, of a policy with `default: deny`: a path below a folder and an amount within a
limit, both brought to their canonical form first. Beside it: Cedar with one permit a tool, whose
policy set was parsed once; its paths are compared as text, as Cedar has no form for them.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from fmos.contract.trust_policy import TrustPolicy
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, OperationKind, Principal
from fmos_trust.facts import Facts
from fmos_trust.findings import Judge, judge_all
from fmos_trust.policy.judge import PolicyJudge
from fmos_trust.service import TrustService
from harness import Report, Side, interleave, scale, workspace
from peers import Peer

CEDAR = ("cedarpy==4.12.2",)
RULES = scale(1000, 50)
CALLS = scale(20_000, 200)
PEER_CALLS = scale(1000, 10)
ROUNDS = scale(5, 2)
WHO = Principal(agent="a", session="s")
NOTHING = "nothing is written"
CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: a
capabilities: [fs.write]
"""
WHEN = 'time.hour < 24 && "office" in principal.roles || tool.effect == "execute"'


@dataclass(slots=True)
class Judging:
    """Our side: one set of rules, and the microseconds of each call."""

    judge: Judge
    facts: list[Facts]
    samples: list[float] = field(default_factory=list)

    def run(self, turn: int) -> float:
        """Judge every call once; a warm-up leaves no samples."""
        clock, judges, taken = time.perf_counter_ns, (self.judge,), list[float]()
        for known in itertools.islice(itertools.cycle(self.facts), CALLS):
            facts = dataclasses.replace(known)
            begin = clock()
            found = judge_all(judges, facts)
            taken.append((clock() - begin) / 1000)
            assert not found.denials, found.denials
        if turn >= 0:
            self.samples += taken
        return sum(taken) / 1e6


def main() -> None:
    """Measure and write the result."""
    report = Report("trust_rules", f"one tool call against {RULES:,} rules")
    report.peers["cedarpy"] = CEDAR[0].partition("==")[2]
    with workspace() as home, Peer("peer_cedar.py", CEDAR) as cedar:
        (home / "contracts").mkdir()
        (home / "contracts" / "a.yaml").write_text(CONTRACT, encoding="utf-8")
        with Kernel.open(home) as kernel:
            plain, timed = judging(kernel, ""), judging(kernel, WHEN)
            cedar.call("prepare", policies=RULES)
            theirs: list[float] = []
            sides = [
                Side("ours", NOTHING, plain.run),
                Side("ours, with when", NOTHING, timed.run),
                Side("Cedar", NOTHING, lambda turn: judged_by_cedar(cedar, turn, theirs)),
            ]
            report.add(f"{RULES:,} rules", interleave(sides, ROUNDS, settle=False), sides)
    for label, samples, limit in (
        ("without `when`", plain.samples, 30),
        ("with", timed.samples, 80),
    ):
        report.at_most(f"ours {label}, p50", statistics.median(samples), "us", limit)
        report.at_most(f"ours {label}, p99", statistics.quantiles(samples, n=100)[98], "us", 250)
    report.tell("Cedar, one policy set parsed once, p50", statistics.median(theirs), "us")
    report.tell("Cedar, p99", statistics.quantiles(theirs, n=100)[98], "us")
    report.notes.append(
        f"{RULES:,} tools, each with a rule of its own; {CALLS:,} calls a round with {RULES:,}"
        " different paths and amounts. Compiling the rules is not in the figures."
    )
    report.sum_up(
        f"judge a tool call by {RULES:,} rules, p50 without / with an expression",
        f"{statistics.median(plain.samples):.0f} / {statistics.median(timed.samples):.0f} us",
        f"Cedar {statistics.median(theirs):,.0f} us",
    )
    report.save()


def judging(kernel: Kernel, when: str) -> Judging:
    """Return our side with a policy of one rule a tool, and a call of each tool."""
    judge = PolicyJudge(kernel)
    rules = judge.compiled((policy(when),))
    gate = TrustService(kernel)
    known = gate.facts_now(WHO, call(0))
    facts = [dataclasses.replace(known, operation=call(n), rules=rules) for n in range(RULES)]
    return Judging(judge.judge, facts)


def policy(when: str) -> TrustPolicy:
    """Return the policy."""
    args = {
        "/path": {"type": "path", "under": ["/work"]},
        "/amount": {"type": "amount", "max": "500 EUR"},
    }
    rules: list[dict[str, Any]] = [
        {"id": f"r{n}", "tools": [f"tool{n}"], "effect": "allow", "args": args, "when": when}
        for n in range(RULES)
    ]
    head = {"apiVersion": "agentos/v0.2", "kind": "TrustPolicy", "name": "bench"}
    return TrustPolicy.model_validate({**head, "default": "deny", "rules": rules})


def call(number: int) -> Operation:
    """Return a call of one of the tools."""
    arguments = {"path": f"/work/part{number % 40}/file {number}.txt", "amount": number % 500}
    return Operation(
        kind=OperationKind.TOOL_CALL, name=f"tool{number}", arguments=arguments, principal=WHO
    )


def judged_by_cedar(cedar: Peer, turn: int, samples: list[float]) -> float:
    """Let Cedar judge calls, and return the seconds that all of ours would have taken."""
    taken: list[float] = cedar.call("decide", calls=PEER_CALLS)
    if turn >= 0:
        samples += taken
    return sum(taken) / 1e6 * CALLS / PEER_CALLS


if __name__ == "__main__":
    main()
