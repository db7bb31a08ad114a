"""Verification as an agent's operation: chosen by risk, paid, journalled, and refused."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from fmos.client import connect
from fmos.drivers import VERIFIERS, Drivers, Group, Offer
from fmos.errors import BudgetExceededError, DeniedError
from fmos.runtime.kernel import Kernel
from fmos.settings import DriverSettings
from fmos.types import Principal
from fmos.verify.checking import Checker
from fmos.verify.metered import EVENT, AgentSources, Verification
from fmos.verify.model import Claim, Context, Finding, refuted, supported, undecided

WHO = Principal(agent="ada", session="s1")
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
capabilities: [fs.read]
security: { deny: [verify.units] }
budgets: { verifier_runs: 2 }
"""
RIGHT = Claim(type="arithmetic", text="2 + 2 = 4")


class Fixed:
    """A verifier that always finds the same."""

    claim_types: tuple[str, ...] = ("opinion",)
    finding: ClassVar[Finding] = undecided("")

    def __init__(self) -> None:
        self.name = type(self).__name__.lower()
        self.cost: Mapping[str, int] = {"verifier_runs": 1}

    def check(self, claim: Claim, context: Context) -> Finding:
        """Return the finding."""
        return self.finding


class Yes(Fixed):
    """Supports everything."""

    finding = supported("yes", confidence=0.9)


class No(Fixed):
    """Refutes everything, at a higher price."""

    finding = refuted("no", confidence=0.6)

    def __init__(self) -> None:
        super().__init__()
        self.cost = {"verifier_runs": 2}


class Maybe(Fixed):
    """Cannot tell, at the highest price."""

    finding = undecided("maybe")

    def __init__(self) -> None:
        super().__init__()
        self.cost = {"verifier_runs": 3}


class Stuck(Fixed):
    """Never ends."""

    def check(self, claim: Claim, context: Context) -> Finding:
        """Wait for ever."""
        threading.Event().wait(30)
        return self.finding


class Raises(Fixed):
    """Fails."""

    def check(self, claim: Claim, context: Context) -> Finding:
        """Fail."""
        raise RuntimeError("broken")


def checker(*names: str, timeout_s: float = 5) -> Checker:
    """A checker with these verifiers only."""
    module = __name__
    group = Group("tests.none", "verifier", {each.lower(): f"{module}:{each}" for each in names})
    return Checker(Drivers(group, DriverSettings(timeout_s=timeout_s), installed=lambda name: ()))


def opinion(risk: float) -> Claim:
    """A claim that the fixed verifiers take."""
    return Claim(type="opinion", text="x", risk=risk)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let drivers import this module by its name, as any installed one."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[Yes.__module__])


@pytest.mark.parametrize(
    ("risk", "ran", "verdict"),
    [
        (0.0, ["yes"], "supported"),
        (0.29, ["yes"], "supported"),
        (0.3, ["yes", "no"], "refuted"),
        (0.7, ["yes", "no", "maybe"], "refuted"),
    ],
)
def test_risk_decides_how_many_verifiers_run(risk: float, ran: list[str], verdict: str) -> None:
    """The cheapest at low risk, two in the middle, all at high risk; one that refutes is enough."""
    result = checker("Maybe", "No", "Yes").check(opinion(risk), Context())
    assert [each.verifier for each in result.findings] == ran
    assert result.verdict == verdict


def test_at_high_risk_more_than_half_must_support() -> None:
    """One that supports and one that cannot tell are not enough; at middle risk they are."""
    both = checker("Yes", "Maybe")
    assert both.check(opinion(0.5), Context()).verdict == "supported"
    high = both.check(opinion(0.9), Context())
    assert (high.verdict, "1 of 2" in high.explanation) == ("undecided", True)


def test_a_claim_that_nothing_takes_is_undecided() -> None:
    """There is no verdict without a verifier."""
    assert checker("Yes").check(Claim(type="weather"), Context()).verdict == "undecided"


def test_a_verifier_that_fails_or_hangs_is_undecided_by_name() -> None:
    """It is a finding with the reason, and the others still run."""
    result = checker("Raises", "Yes").check(opinion(0.5), Context())
    assert result.verdict == "supported"
    assert "'raises' failed: RuntimeError: broken" in result.findings[0].explanation
    slow = checker("Stuck", timeout_s=0.05).check(opinion(0.5), Context())
    assert (slow.verdict, "took longer" in slow.explanation) == ("undecided", True)


@pytest.fixture
def home(kernel: Kernel) -> Kernel:
    """A home with a contract that has two runs."""
    (kernel.home.contracts / "ada.yaml").write_text(CONTRACT, encoding="utf-8")
    return kernel


def spent(kernel: Kernel, resource: str = "verifier_runs") -> tuple[int, int]:
    """What the agent's session has spent and holds."""
    account = kernel.account(WHO)
    found = [b for b in kernel.ledger.status(account) if b.account == account]
    line = [each for each in found if each.resource == resource]
    return (line[0].spent, line[0].reserved) if line else (0, 0)


def test_a_run_is_paid_and_journalled(home: Kernel) -> None:
    """One run is spent; intent and outcome are rows with the policy's hash and no claim text."""
    result = Verification(home).verify(WHO, RIGHT)
    assert result.verdict == "supported"
    assert spent(home) == (1, 0)
    rows = list(home.agent_fs(WHO).journal(operation=EVENT))
    assert [row.detail["phase"] for row in rows] == ["intent", "outcome"]
    manifest = home.manifest(WHO)
    assert manifest is not None
    assert {row.detail["policy"] for row in rows} == {manifest.hash}
    assert rows[0].detail["reservation"] == rows[1].detail["reservation"]
    assert rows[1].detail["verdict"] == "supported"
    assert "2 + 2" not in str([row.detail for row in rows])


def test_a_spent_budget_refuses_a_run(home: Kernel) -> None:
    """The third run of two is an error that names the account, and nothing has run."""
    verification = Verification(home)
    verification.verify(WHO, RIGHT)
    verification.verify(WHO, RIGHT)
    with pytest.raises(BudgetExceededError, match="verifier_runs"):
        verification.verify(WHO, RIGHT)
    assert spent(home) == (2, 0)
    last = list(home.agent_fs(WHO).journal(operation=EVENT))[-1]
    assert last.detail["phase"] == "refused"


def test_claims_that_nothing_is_left_for_are_undecided(home: Kernel) -> None:
    """A text with more claims than runs is checked as far as they go."""
    claims = [RIGHT] * 4
    results = Verification(home).verify_all(WHO, claims)
    assert [each.verdict for each in results] == [
        "supported",
        "supported",
        "undecided",
        "undecided",
    ]
    assert "verifier_runs" in results[3].skipped[0]


def test_a_contract_may_deny_one_verifier_or_all(home: Kernel) -> None:
    """`verify.NAME` in a list of denials takes that one away; `verify` all of them."""
    pytest.importorskip("pint", reason="extra `verifiers`")
    denied = Verification(home).verify(WHO, Claim(type="units", text="1 km is 1000 m"))
    assert (denied.verdict, denied.skipped) == ("undecided", ("units is denied",))
    text = CONTRACT.replace("verify.units", "verify")
    (home.home.contracts / "ada.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DeniedError, match="'verify' is denied"):
        Verification(home).verify(WHO, RIGHT)


def test_sources_come_from_the_agents_own_branch_and_handles(home: Kernel) -> None:
    """Files by path, paged-out texts by handle, and nothing of the system area or of others."""
    home.agent_files(WHO).write("/notes.txt", "The bridge was opened in 1932.")
    other = Principal(agent="bob")
    home.agent_files(other).write("/secret.txt", "bob's")
    with connect(WHO, kernel=home) as client:
        client.call("context_open", {"threshold_bytes": 100})
        text = "The tower is 300 metres high. " * 40
        handle = client.call("context_append", {"role": "tool", "text": text, "name": "t"})[
            "handle"
        ]
        sources = AgentSources(home, WHO, client=client)
        claim = Claim(
            type="citation", text="The bridge was opened in 1932.", sources=("/notes.txt",)
        )
        assert (
            Verification(home).verify(WHO, claim, Context(sources=sources)).verdict == "supported"
        )
        found = sources.find(handle)
        assert found is not None
        assert found.text == text
        assert sources.find("/secret.txt") is None
        assert sources.find("/.fmos/context/s1/session.json") is None
        assert sources.find("/notes.txt/../../etc/passwd") is None


def test_built_in_verifiers_take_what_they_say(tmp_path: Path) -> None:
    """Each is a verifier of its name, for types of claims, and costs a run."""
    pytest.importorskip("sqlglot", reason="extra `verifiers`")
    drivers = Drivers(VERIFIERS, installed=lambda group: ())
    for name in drivers.names():
        made = drivers.make(name)
        assert (made.name, made.cost["verifier_runs"]) == (name, 1)
        for text in ("", "\0", "🦀" * 50, "1 = 1"):
            for kind in made.claim_types:
                assert isinstance(made.check(Claim(type=kind, text=text), Context()), Finding)
    assert Offer("a", "b").is_own
