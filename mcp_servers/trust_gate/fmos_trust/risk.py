"""Risk as a budget: what a call may be expected to cost if nobody asked for it, and who pays.

The risk of a call is its expected loss, in the ledger's micro-units:

    risk = 1,000,000 * p * s * r

    p  how likely nobody but a stranger asked for it: the evidence's score, at least 0.02; in a
       session without a word of the user, how much of the call a stranger's text orders
    s  what it can do: write 1, execute 2, send 3 (a read has no risk)
    r  0.2 if its effect lies in the volume, whose history brings everything back; else 1;
       twice as much if it destroys

A session or agent has a limit, E, on the sum (`budgets: { risk: 500000 }`), so that the calls that
run keep sum(risk) <= E. Its multiplier mu is the shadow price of that limit (see
fmos/ledger/prices.py), which rises while risk is spent faster than its window allows: where
mu * risk >= 1, a call costs more than a question to a person, and one is asked before the limit
is reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from fmos.canonical import content_digest
from fmos.errors import BudgetExceededError
from fmos.ledger.model import risk_amount
from fmos.runtime.kernel import Kernel
from fmos.runtime.standing import Standing
from fmos.storage.database import Database
from fmos.traps.manifest import Effect
from fmos.types import Outcome, OutcomeStatus, Principal
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding, finding

#: No call that changes something is without risk, however well it is explained.
_LEAST = 0.02
_SEVERITY: dict[Effect, float] = {"read": 0.0, "write": 1.0, "execute": 2.0, "send": 3.0}
_IN_VOLUME = 0.2
_DESTROYS = 2.0
#: What an answer of a person is worth, in the unit of the ledger's prices.
_QUESTION = 1.0

_RESOURCE = "risk"
_PUT = "INSERT OR REPLACE INTO trust_risk VALUES (?, ?, ?, ?)"
_TAKE = """
DELETE FROM trust_risk WHERE (tenant, agent, operation) = (?, ?, ?) RETURNING reservation
"""


def risk_of(facts: Facts) -> int:
    """Return the risk of a call in micro-units; 0 for one that only reads."""
    severity = _SEVERITY[facts.effect]
    if not severity:
        return 0
    likely = max(_LEAST, _unasked(facts))
    # A command may reach beyond the volume, whatever its capability is called.
    if facts.capability.startswith("fs.") and facts.effect == "write":
        severity *= _IN_VOLUME
    if facts.judgement.destructive:
        severity *= _DESTROYS
    return risk_amount(likely, severity)


def _unasked(facts: Facts) -> float:
    """Return how likely nobody but a stranger asked; without a user's word, as far as ordered."""
    evidence, seen = facts.evidence, facts.seen
    if evidence is None or seen is None:
        return 0.0
    return evidence.score if seen.seen.has_user else evidence.features["ordered"]


class RiskStore:
    """Which reservation holds the risk of which open call."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos_trust").joinpath("risk.sql")
        database.install("trust_risk", [schema.read_text(encoding="utf-8")])

    def put(self, who: Principal, operation: str, reservation: str) -> None:
        """Note the reservation of an open call."""
        with self._database.transaction():
            self._database.execute(_PUT, (who.tenant, who.agent_key, operation, reservation))

    def take(self, who: Principal, operation: str) -> str:
        """Return the reservation of a call, which is open no more; empty where there is none."""
        with self._database.transaction():
            rows = self._database.query(_TAKE, (who.tenant, who.agent_key, operation))
        return str(rows[0][0]) if rows else ""


class Risk:
    """The risk of one home's calls. Thread-safe, and safe across processes."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = RiskStore(kernel.database)

    def judge(self, facts: Facts) -> Iterator[Finding]:
        """Ask about a call whose risk its accounts have not left, or for whose price one asks."""
        standing = facts.standing
        if standing is None or not self._is_limited(facts, standing):
            return
        if not facts.dry:
            self._kernel.apply_limits(standing)
        risk = risk_of(facts)
        left = self._left(standing)
        if left is not None and risk > left:
            yield _exceeded(facts, risk, left)
            return
        price = self._kernel.ledger.price_of(standing.account, {_RESOURCE: risk})
        if price >= _QUESTION:
            yield finding(
                "ask", "execution", "trust.risk_price",
                f"risk is being spent faster than its budget allows, and {facts.tool!r} would cost"
                f" {risk:,} micro-units of it at a price of {price:.2f}",
                rule="risk", change="a person's yes, or less risk spent in this window",
            )  # fmt: skip

    def pay(self, facts: Facts, standing: Standing, *, approved: bool) -> None:
        """Set the risk of a call aside; what a person approved is paid beyond the limit too.

        Raises:
            BudgetExceededError: if nobody approved it and an account has not enough left.
        """
        if not self._is_limited(facts, standing):
            return
        risk, operation, who = risk_of(facts), facts.operation.id, standing.principal
        key = content_digest([who.agent_key, who.session, operation])  # one in a tenant
        try:
            held = self._kernel.hold_risk(standing, risk, operation=f"risk:{key}")
        except BudgetExceededError:
            if not approved:
                raise
            self._kernel.charge(who, {_RESOURCE: risk})
            return
        self._store.put(who, operation, held.id)

    def settle(self, who: Principal, outcome: Outcome) -> None:
        """Spend what a call held, or give it back where its effect did not come about."""
        held = self._store.take(who, outcome.operation)
        if not held:
            return
        if outcome.status is OutcomeStatus.DENIED:
            self._kernel.ledger.refund(held)
        else:
            self._kernel.ledger.commit(held)

    def _is_limited(self, facts: Facts, standing: Standing) -> bool:
        if facts.effect == "read":
            return False
        everybody = (standing, *standing.above)
        declared = (
            name == _RESOURCE
            for each in everybody
            for limits in each.mandate.limits.values()
            for name, _ in limits
        )
        return any(declared) or _RESOURCE in self._kernel.ledger.limited(standing.account)

    def _left(self, standing: Standing) -> int | None:
        """Return the least that an account on the path has left; None where none is limited."""
        rows = self._kernel.ledger.status(standing.account)
        lefts = [row.left for row in rows if row.resource == _RESOURCE and row.left is not None]
        return min(lefts, default=None)


def _exceeded(facts: Facts, risk: int, left: int) -> Finding:
    denies = facts.contract is not None and facts.contract.denies(_RESOURCE)
    message = (
        f"{facts.tool!r} would cost {risk:,} micro-units of risk, and {left:,} are left of the"
        " budget"
    )
    change = "a larger `budgets: { risk: ... }`" if denies else "a person's yes"
    effect = "deny" if denies else "ask"
    return finding(effect, "execution", "trust.risk", message, rule="risk", change=change)
