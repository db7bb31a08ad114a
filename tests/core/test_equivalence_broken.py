"""Realisations that are broken on purpose are found, with the rule and a short counterexample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentfs import AgentFS
from fmos.clock import Clock
from fmos.config import Home
from fmos.equivalence.checker import Checker
from fmos.equivalence.model import Report, Step
from fmos.equivalence.realisation import Realisation
from fmos.equivalence.running import Decide
from fmos.equivalence.sequences import generated_steps
from fmos.ledger.ledger import Ledger
from fmos.ledger.model import Reservation, Settled
from fmos.runtime.kernel import Kernel
from fmos.runtime.standing import Standing
from fmos.types import Principal
from fmos_trust.approvals import Approvals

from .test_equivalence import CONTRACT, HERE

STEPS = [*generated_steps(4, 3), Step(do="model", name="small", tokens=10)]


def approvals(kernel: Kernel) -> Decide:
    """A person who answers."""
    return Approvals(kernel).decide


class Leaky(Ledger):
    """A ledger with a hole: what a model call used above half is not committed."""

    def commit(
        self, reservation: str | Reservation, actual: Mapping[str, int] | None = None
    ) -> Settled:
        """Commit half of it."""
        return super().commit(reservation, {k: v // 2 for k, v in (actual or {}).items()})


class Holding(Ledger):
    """A ledger that never ends a reservation."""

    def commit(
        self, reservation: str | Reservation, actual: Mapping[str, int] | None = None
    ) -> Settled:
        """Commit nothing."""
        name = reservation if isinstance(reservation, str) else reservation.id
        return Settled(reservation=name, used=dict(actual or {}))


def with_ledger(ledger: type[Ledger]) -> type[Kernel]:
    """A kernel whose ledger is another one."""

    class Broken(Kernel):
        def __init__(self, home: Home, clock: Clock | None = None) -> None:
            super().__init__(home, clock)
            self.ledger = ledger(self.database, self.clock)
            self._spending._ledger = self.ledger

    return Broken


class Forgetful(Kernel):
    """A kernel that forgets the rows of outcomes."""

    def record(
        self, principal: Principal, event: str, detail: dict[str, Any], **options: Any
    ) -> int:
        """Keep everything but outcomes."""
        return 0 if event == "op.outcome" else super().record(principal, event, detail, **options)


class Nameless(Kernel):
    """A kernel whose rows do not name the policy."""

    def record(
        self, principal: Principal, event: str, detail: dict[str, Any], **options: Any
    ) -> int:
        """Leave the policy out."""
        if event == "op.intent":
            detail = {**detail, "policy": ""}
        return super().record(principal, event, detail, **options)


class Late(Kernel):
    """A kernel that notes the intent after the outcome."""

    def __init__(self, home: Home, clock: Clock | None = None) -> None:
        super().__init__(home, clock)
        self._kept: list[tuple[Principal, str, dict[str, Any]]] = []

    def record(
        self, principal: Principal, event: str, detail: dict[str, Any], **options: Any
    ) -> int:
        """Hold intents back until their outcome."""
        if event == "op.intent" and detail["decision"] == "allow":
            self._kept.append((principal, event, detail))
            return 0
        row = super().record(principal, event, detail, **options)
        for kept in self._kept:
            super().record(*kept)
        self._kept.clear()
        return row


class Lax(Kernel):
    """A kernel whose policy forgets consent."""

    def standing(self, principal: Principal) -> Standing:
        """Stand under the contract without what wants consent."""
        found = super().standing(principal)
        contract = found.mandate.contract
        assert contract is not None
        security = contract.security.model_copy(update={"consent_for": ()})
        lax = contract.model_copy(update={"security": security})
        mandate = _replaced(found.mandate, contract=lax, bounds=lax)
        return _replaced(found, mandate=mandate)


def _replaced(value: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(value, **changes)


def compared(kernel: type[Kernel], steps: list[Step] | None = None) -> Report:
    """A good realisation and one with this kernel."""

    def make(path: Path, clock: Clock) -> Kernel:
        return kernel.open(path, clock)

    other = Realisation("broken", CONTRACT, files=HERE.files, kernel=make)
    return Checker(HERE, other, approvals=approvals).check(steps or STEPS, tries=12)


@pytest.mark.parametrize(
    ("kernel", "rule", "does"),
    [
        (with_ledger(Leaky), "budget.committed", "model"),
        (with_ledger(Holding), "budget.held", "model"),
        (Forgetful, "provenance.outcome", "tool"),
        (Nameless, "provenance.policy", "tool"),
        (Late, "provenance.order", "tool"),
        (Lax, "policy.consent", "tool"),
    ],
    ids=[
        "leaky-ledger",
        "holding-ledger",
        "no-outcomes",
        "no-policy",
        "late-intents",
        "no-consent",
    ],
)
def test_a_broken_kernel_is_found_with_one_step(kernel: type[Kernel], rule: str, does: str) -> None:
    """The contract holds in the good one only, and one or two steps are enough to show it."""
    report = compared(kernel)
    assert report.holds == {"here": True, "broken": False}
    assert rule in {each.rule for each in report.broken}
    assert {each.where for each in report.broken} == {"broken"}
    assert 1 <= len(report.counterexample) <= 2


def test_a_forgotten_consent_is_shown_by_the_mail_alone() -> None:
    """The counterexample is the one step that needs a person."""
    report = compared(Lax)
    assert [step.name for step in report.counterexample] == ["send_mail"]


def test_a_wider_contract_does_not_hold() -> None:
    """A second realisation whose documents allow more breaks the contract of the first."""
    wide = CONTRACT.replace("email.send]\nmodel", "email.send, process.run]\nmodel")
    other = Realisation("wide", wide.replace("security: { consent_for: [email.send] }\n", ""))
    steps = [Step(do="tool", name="send_mail", arguments={"to": "a@b.c", "text": "x"})]
    report = Checker(Realisation("here", CONTRACT), other, approvals=approvals).check(steps)
    assert report.holds == {"here": True, "wide": False}
    assert report.broken[0].rule == "policy.consent"


class Amnesia(Kernel):
    """A kernel that loses memories: the agent's memory folder is emptied at each look."""

    def known_agent_fs(self, principal: Principal) -> AgentFS | None:
        """Forget before anybody looks."""
        found = super().known_agent_fs(principal)
        if found is not None and found.exists("/.fmos/memory"):
            found.remove("/.fmos/memory", recursive=True)
        return found


def test_lost_memories_are_found() -> None:
    """What was written and is not there breaks the promise of memory."""
    report = compared(Amnesia, [Step(do="remember", text="the harbour is deep")])
    assert {"memory.lost"} <= {each.rule for each in report.broken}
    assert report.holds["here"]


def test_a_refused_write_that_happens_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes although the call was refused breaks the policy."""

    class Bypassing(Kernel):
        def record(
            self, principal: Principal, event: str, detail: dict[str, Any], **options: Any
        ) -> int:
            """Do it all the same."""
            if event == "op.intent" and detail["decision"] == "deny":
                self.agent_files(principal).write("/a.txt", "done all the same")
            return super().record(principal, event, detail, **options)

    contract = CONTRACT.replace("fs.write, ", "")
    step = Step(do="tool", name="write_file", arguments={"path": "/a.txt", "content": "x"})
    good = Realisation("here", contract)
    bad = Realisation("bad", contract, kernel=Bypassing.open)
    report = Checker(good, bad).check([step])
    assert ("bad", "policy.effect", 0) in {
        (each.where, each.rule, each.index) for each in report.broken
    }
