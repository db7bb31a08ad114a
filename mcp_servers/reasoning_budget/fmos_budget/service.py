"""Admits model calls against the session's account and settles what they used.

Order of writes: reserve, intent, (the call), outcome, commit. A call that is never settled gives
its reservation back when it expires.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from fmos.audit.record import record_intent, record_outcome
from fmos.contract.globs import matches_name
from fmos.contract.model import AgentContract
from fmos.errors import ArgumentError, BudgetExceededError, ContractError, FmosError, NotFoundError
from fmos.ledger.model import RESOURCES, check_amounts
from fmos.runtime.kernel import Kernel
from fmos.storage.database import Database
from fmos.types import (
    Decision,
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Principal,
    Reason,
    Verdict,
)
from fmos_budget.model import Balances, Settlement
from fmos_budget.store import Admission, BudgetStore

#: How providers call the tokens of a call, apart from one total.
_TOKEN_PARTS = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")


class BudgetService:
    """The budgets of one kernel's sessions. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._database: Database = kernel.database
        self._store = BudgetStore(kernel.database)

    def admit(self, who: Principal, operation: Operation) -> Verdict:
        """Reserve what an operation may cost, or deny it with the way out.

        Raises:
            ArgumentError: if the estimate names a resource that the ledger does not keep.
        """
        check_amounts(operation.cost_estimate)
        asked = operation.model_copy(update={"principal": who})
        try:
            verdict = self._decide(asked)
        except ContractError as error:
            verdict = _deny(asked, "budget.contract", str(error), "contract")
        try:
            record_intent(self._kernel, asked, verdict)
        except Exception:
            self._give_back(verdict)
            raise
        return verdict

    def settle(self, who: Principal, reservation: str, usage: dict[str, int]) -> Settlement:
        """Commit what an operation used; without any usage the reservation is given back.

        Settling twice changes nothing.

        Raises:
            NotFoundError: if this agent has no such reservation.
            ArgumentError: if the usage names no resource of the ledger.
        """
        account = self._kernel.account(who)
        admission = self._known(reservation, account)
        used = _resources(usage)
        with self._database.transaction():
            first = self._store.settle(reservation, used)
            if first and used:
                self._kernel.ledger.commit(reservation, used)
            elif first:
                self._kernel.ledger.refund(reservation)
        if first:
            status = OutcomeStatus.OK if used else OutcomeStatus.FAILED
            outcome = Outcome(operation=admission.operation, status=status, usage=used)
            record_outcome(self._kernel, who, outcome)
        committed = used if first else (admission.settled or {})
        return Settlement(
            reservation=reservation,
            committed=committed,
            balances=self._kernel.ledger.status(account),
        )

    def status(self, who: Principal) -> Balances:
        """Return the balances of a session and of every account above it."""
        account = self._kernel.account(who)
        with suppress(ContractError):  # a broken contract must not hide what was spent
            self._apply_limits(account, self._kernel.contract(who))
        return Balances(account=account, balances=self._kernel.ledger.status(account))

    def _decide(self, operation: Operation) -> Verdict:
        contract = self._kernel.contract(operation.principal)
        policy = contract.digest if contract else ""
        refused = _refused_model(operation, contract)
        if refused:
            return _deny(operation, "budget.model", refused, "model-policy", policy)
        account = self._kernel.account(operation.principal)
        self._apply_limits(account, contract)
        amounts = _estimate(operation)
        try:
            with self._database.transaction():
                held = self._kernel.ledger.reserve(account, amounts, operation=operation.id)
                # The same operation asked again keeps its first reservation and its settlement.
                if self._store.admission(held.id) is None or amounts == held.amounts:
                    self._admit(held.id, operation, account, held.amounts)
        except BudgetExceededError as error:
            message = _exceeded(error, operation.principal.agent, contract)
            return _deny(operation, "budget.exceeded", message, "ledger", policy)
        text = ", ".join(f"{amount} {resource}" for resource, amount in held.amounts.items())
        reason = Reason(code="budget.reserved", message=f"reserved {text}", rule="ledger")
        return Verdict(
            operation=operation.id,
            decision=Decision.ALLOW,
            reasons=(reason,),
            reservation=held.id,
            policy=policy,
        )

    def _admit(
        self, reservation: str, operation: Operation, account: str, amounts: dict[str, int]
    ) -> None:
        known = self._store.admission(reservation)
        if known is None or known.settled == {}:  # new, or given back before and opened again
            self._store.admit(Admission(reservation, operation.id, account, amounts, None))

    def _apply_limits(self, account: str, contract: AgentContract | None) -> None:
        """Give the session the contract's limits, at first and whenever the contract changes."""
        declared = contract.budgets.limits() if contract else {}
        known = self._store.limits(account)
        if declared == known:
            return
        with self._database.transaction():
            for resource in sorted(declared.keys() | known.keys()):
                if declared.get(resource) != known.get(resource):
                    self._kernel.ledger.set_limit(account, resource, declared.get(resource))
                    self._store.put_limit(account, resource, declared.get(resource))

    def _give_back(self, verdict: Verdict) -> None:
        if verdict.reservation:
            with suppress(FmosError):
                self._kernel.ledger.refund(verdict.reservation)

    def _known(self, reservation: str, account: str) -> Admission:
        found = self._store.admission(reservation)
        if found is None or found.account != account:
            raise NotFoundError(
                f"the account {account!r} has no reservation {reservation!r}",
                hint="give the reservation that budget_admit returned, in the same session",
            )
        return found


def _refused_model(operation: Operation, contract: AgentContract | None) -> str:
    if contract is None or operation.kind is not OperationKind.MODEL_GENERATE:
        return ""
    allowed = contract.modelPolicy.allow
    if not allowed or matches_name(allowed, operation.name):
        return ""
    return (
        f"the contract {contract.name!r} does not allow the model {operation.name!r};"
        f" it allows {', '.join(allowed)}: use one of these, or add it to `modelPolicy.allow`"
    )


def _estimate(operation: Operation) -> dict[str, int]:
    """Return what to reserve; a model call without an estimate still needs one token left."""
    amounts = dict(operation.cost_estimate)
    if operation.kind is OperationKind.MODEL_GENERATE:
        amounts["tokens"] = max(1, amounts.get("tokens", 0))
    return amounts


def _exceeded(error: BudgetExceededError, agent: str, contract: AgentContract | None) -> str:
    name = contract.name if contract else agent
    return (
        f"the account {error.account!r} has {error.left} {error.resource} left and"
        f" {error.asked} are asked for; raise `budgets: {{ {error.resource}: ... }}` in the"
        f" contract {name!r} (contracts/{name}.yaml), or finish with what you have"
    )


def _resources(usage: dict[str, int]) -> dict[str, int]:
    """Return usage in the ledger's resources; a provider's token counts are added up."""
    used = {name: amount for name, amount in usage.items() if name in RESOURCES}
    if "tokens" not in used and "total_tokens" in usage:
        used["tokens"] = usage["total_tokens"]
    elif "tokens" not in used and (parts := list(_parts(usage))):
        used["tokens"] = sum(parts)
    if usage and not used:
        raise ArgumentError(
            f"argument 'usage' names no resource of the ledger: {', '.join(sorted(usage))}",
            hint=f"it keeps {', '.join(RESOURCES)}",
        )
    check_amounts(used)
    return used


def _parts(usage: dict[str, int]) -> Iterator[int]:
    return (usage[name] for name in _TOKEN_PARTS if name in usage)


def _deny(operation: Operation, code: str, message: str, rule: str, policy: str = "") -> Verdict:
    return Verdict(
        operation=operation.id,
        decision=Decision.DENY,
        reasons=(Reason(code=code, message=message, rule=rule),),
        policy=policy,
    )
