"""Says why a call was allowed, asked about or denied: from the journal and what was sealed."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field

from fmos.audit.query import Wanted, rows_of
from fmos.audit.record import INTENT, OUTCOME
from fmos.entered.log import place_of
from fmos.errors import NotFoundError
from fmos.redaction import redacted, texts_in
from fmos.runtime.kernel import Kernel
from fmos.types import Decision, Principal, Reason, Record, Verdict
from fmos_trust.facts import Facts
from fmos_trust.provenance.store import Why, WhyStore
from fmos_trust.secrets import masked

_DECIDED = "approval.decide"
_LONGEST_VALUE = 80
_MOST_ARGUMENTS = 32
_DAY_NS = 86_400 * 1_000_000_000


class ArgumentOrigin(Record):
    """Where the value of one argument came from, as far as the session knew."""

    argument: str
    value: str = Field(description="its beginning, without what looks like a secret")
    came_from: tuple[str, ...] = Field(
        description="user, system, contract, field, text, memory, agent; none: nowhere"
    )


class Answer(Record):
    """What a person answered."""

    state: str
    approver: str
    time_ns: int


class Explanation(Record):
    """Why a call was allowed, asked about or denied."""

    operation: str
    tool: str
    agent: str
    session: str
    decision: str
    time_ns: int
    reasons: tuple[Reason, ...] = Field(
        description="rule, layer, sentence, and what would change the verdict"
    )
    origins: tuple[ArgumentOrigin, ...] = ()
    score: float | None = Field(
        default=None, description="from 0 to 1: how likely nobody but a stranger asked for it"
    )
    features: dict[str, float] = Field(default={}, description="what the score was made of")
    policy: str = Field(default="", description="hash of the contract and policies that decided")
    approval: str = ""
    answers: tuple[Answer, ...] = ()
    outcome: str = Field(default="", description="how the call ended; empty: nobody said")
    complete: bool = Field(
        default=True, description="false: only the journal is left of it, which has no sentences"
    )


class Explanations:
    """What can be said of the verdicts of one home. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = WhyStore(kernel.database)

    def keep(self, facts: Facts, verdict: Verdict) -> None:
        """Keep why a call was stopped, or what was noted of one that was not."""
        if verdict.decision is Decision.ALLOW and not _noted(verdict):
            return
        who = facts.operation.principal
        said = {
            "tool": facts.tool,
            "reasons": [each.model_dump() for each in verdict.reasons],
            "policy": verdict.policy,
            **_evidence(facts),
        }
        sealed = self._kernel.entered.seal(who, json.dumps(said).encode("ascii"))
        what = (facts.operation.id, verdict.approval or "", verdict.decision.value, sealed)
        self._store.put(Why(*place_of(who), *what, self._kernel.clock.now_ns()))

    def explain(self, tenant: str, id: str, only: Principal | None = None) -> Explanation:
        """Return why an operation, or the call of an approval, was answered as it was.

        With `only`, what is another agent's does not exist.

        Raises:
            NotFoundError: if nothing of that id was ever asked.
        """
        found = self._store.find(tenant, id)
        if found is not None and (only is None or found.agent == only.agent_key):
            return self._kept(found)
        explained = self._from_journal(tenant, id, only) if found is None else None
        if explained is None:
            raise NotFoundError(
                f"there is no operation or approval {id[:80]!r}",
                hint="`fmos audit show --kind op.intent` lists operations",
            )
        return explained

    def last_denial(self, who: Principal) -> Explanation | None:
        """Return why the last call of a session that was denied was; None if none was.

        Without a session, of any session of the agent.
        """
        found = self._store.last_denial(place_of(who))
        return None if found is None else self._kept(found)

    def expire(self) -> None:
        """Forget what is older than `[trust] evidence_keep_days`; the journal has the codes."""
        days = self._kernel.settings.trust.evidence_keep_days
        if days:
            self._store.forget(self._kernel.clock.now_ns() - int(days * _DAY_NS))

    def _kept(self, found: Why) -> Explanation:
        rows = self._rows(found.tenant, found.operation)
        opened = self._kernel.entered.unseal(found.place, found.sealed)
        if opened is None:
            journal = _journal(rows, found.operation)
            if journal is not None:
                return journal.model_copy(update={"approval": found.approval})
        said: dict[str, Any] = json.loads(opened) if opened else {}
        return Explanation(
            operation=found.operation,
            tool=said.get("tool", ""),
            agent=found.agent,
            session=found.session,
            decision=found.decision,
            time_ns=found.at_ns,
            reasons=tuple(Reason.from_answer(each) for each in said.get("reasons", ())),
            origins=tuple(ArgumentOrigin.from_answer(each) for each in said.get("origins", ())),
            score=said.get("score"),
            features=said.get("features", {}),
            policy=said.get("policy", ""),
            approval=found.approval,
            answers=tuple(self._answers(found.tenant, found.approval)),
            outcome=_outcome(rows),
            complete=opened is not None,
        )

    def _from_journal(self, tenant: str, id: str, only: Principal | None) -> Explanation | None:
        return _journal(self._rows(tenant, id, only), id)

    def _rows(
        self, tenant: str, operation: str, only: Principal | None = None
    ) -> list[dict[str, Any]]:
        wanted = Wanted(operation=operation)
        if only is not None:
            own = (only.agent, only.application)
            wanted = Wanted(operation=operation, agent=own[0], application=own[1])
        return rows_of(self._kernel, tenant, wanted, 50, exactly=only is not None)

    def _answers(self, tenant: str, approval: str) -> list[Answer]:
        rows = self._rows(tenant, approval) if approval else []
        return [
            Answer(
                state=str(row["detail"].get("state", "")),
                approver=str(row["detail"].get("approver", "")),
                time_ns=row["time_ns"],
            )
            for row in rows
            if row["operation"] == _DECIDED
        ]


def _journal(rows: list[dict[str, Any]], id: str) -> Explanation | None:
    asked = next((row for row in reversed(rows) if row["operation"] == INTENT), None)
    if asked is None:
        return None
    detail, who = asked["detail"], asked["principal"].split("/")
    codes, rules = detail.get("reasons", ()), detail.get("rules", ())
    named = [*rules, *[""] * (len(codes) - len(rules))]
    return Explanation(
        operation=id,
        tool=str(detail.get("name", "")),
        agent=who[2] if len(who) == 4 else "",
        session="" if len(who) != 4 or who[3] == "-" else who[3],
        decision=str(detail.get("decision", "")),
        time_ns=asked["time_ns"],
        reasons=tuple(
            Reason(code=code, message="", rule=rule)
            for code, rule in zip(codes, named, strict=False)
        ),
        policy=str(detail.get("policy", "")),
        approval=str(detail.get("approval") or ""),
        outcome=_outcome(rows),
        complete=False,
    )


def _outcome(rows: list[dict[str, Any]]) -> str:
    ended = (row["detail"].get("status", "") for row in rows if row["operation"] == OUTCOME)
    return str(next(ended, ""))


def _noted(verdict: Verdict) -> bool:
    return len(verdict.reasons) > 1


def _evidence(facts: Facts) -> dict[str, Any]:
    """Return what the session said of a call, masked."""
    if facts.seen is None:
        return {}
    found = facts.evidence
    kept: dict[str, Any] = {}
    if found is not None and any(found.features.values()):
        kept = {"score": round(found.score, 3), "features": dict(found.features)}
    origins: list[dict[str, Any]] = []
    for name in list(facts.operation.arguments)[:_MOST_ARGUMENTS]:
        pointer = name.replace("~", "~0").replace("/", "~1")
        came_from = sorted(facts.provenance(f"/{pointer}"))
        if came_from:
            value = _shown(facts.operation.arguments[name], facts)
            origins.append({"argument": name[:128], "value": value, "came_from": came_from})
    return {**kept, "origins": origins}


def _shown(value: Any, facts: Facts) -> str:
    text = ", ".join(texts_in(value, numbers=True))
    hidden = redacted(masked(text[: 4 * _LONGEST_VALUE], facts.secrets, facts.keyed))
    return hidden if len(hidden) <= _LONGEST_VALUE else f"{hidden[: _LONGEST_VALUE - 3]}..."
