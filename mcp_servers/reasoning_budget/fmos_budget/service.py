"""Admits model calls against the session's account and settles what they used.

Order of writes: reserve, intent, (the call), outcome, commit. A call that is never settled gives
its reservation back when it expires.
"""

from __future__ import annotations

from contextlib import suppress

from fmos import telemetry
from fmos.audit.record import record_intent, record_outcome
from fmos.contract.model import AgentContract
from fmos.errors import (
    ArgumentError,
    BudgetExceededError,
    ContractError,
    DeniedError,
    FmosError,
    NotFoundError,
)
from fmos.ledger.model import RESOURCES, Known, check_amounts
from fmos.runtime.kernel import Kernel
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

#: How providers count the tokens of a call. The first that a report speaks counts alone, because
#: gateways repeat the same tokens in the words of two providers.
_TOKEN_WORDS = (
    ("total_tokens",),
    ("input_tokens", "output_tokens"),
    ("prompt_tokens", "completion_tokens"),
)


class BudgetService:
    """The budgets of one kernel's sessions. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

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
            self._kernel.recordings.broken(who, error)
        try:
            call = self._kernel.recordings.call(
                who, "budget_admit", {"operation": operation}, verdict, operation=operation.id
            )
            record_intent(self._kernel, asked, verdict, call=call)
        except Exception:
            self._give_back(verdict)
            raise
        return verdict

    def settle(self, who: Principal, reservation: str, usage: dict[str, int]) -> Settlement:
        """Commit what an operation used; without any usage the reservation is given back.

        What was reserved and is not reported counts as used. Settling twice changes nothing.

        Raises:
            NotFoundError: if this agent has no such reservation.
            ArgumentError: if the usage names no resource of the ledger.
        """
        account = self._kernel.account(who)
        reported = _resources(usage)
        happened = bool(usage)
        with self._kernel.database.transaction():
            known = self._known(reservation, account)
            first = known.state in ("open", "expired")
            used, alerts = known.used or {}, ()
            if first and happened:
                used = {**known.reservation.amounts, **reported}
                with telemetry.spending(who, used):
                    alerts = self._kernel.ledger.commit(reservation, used).alerts
            elif first:
                self._kernel.ledger.refund(reservation)
        settlement = Settlement(
            reservation=reservation,
            committed=used,
            balances=self._kernel.ledger.status(account),
            alerts=alerts,
        )
        if first:
            status = OutcomeStatus.OK if happened else OutcomeStatus.FAILED
            operation = known.reservation.operation
            outcome = Outcome(operation=operation, status=status, usage=used)
            given = {"reservation": reservation, "usage": usage}
            call = self._kernel.recordings.call(
                who, "budget_settle", given, settlement, operation=operation
            )
            record_outcome(self._kernel, who, outcome, call=call)
        return settlement

    def status(self, who: Principal) -> Balances:
        """Return the balances of a session and of every account above it."""
        account = self._kernel.account(who)
        with suppress(ContractError):  # a broken contract must not hide what was spent
            self._kernel.apply_limits(self._kernel.standing(who))
        return Balances(account=account, balances=self._kernel.ledger.status(account))

    def _decide(self, operation: Operation) -> Verdict:
        who = operation.principal
        standing = self._kernel.standing(who)
        self._kernel.recordings.standing(standing)
        mandate = standing.mandate
        policy = mandate.manifest.hash if mandate.manifest else ""
        if standing.stopped:
            code = f"agent.{standing.state}"
            return _deny(operation, code, standing.stopped, "lifecycle", policy)
        try:
            self._kernel.permit(who, operation.kind, standing)
        except DeniedError as error:
            return _deny(operation, "budget.denied", str(error), "contract", policy)
        refused = _refused_model(operation, mandate.bounds)
        if refused:
            return _deny(operation, "budget.model", refused, "model-policy", policy)
        try:
            held = self._kernel.reserve(
                who, _estimate(operation), operation=operation.id, standing=standing
            )
        except BudgetExceededError as error:
            message = _exceeded(error, who.agent, mandate.contract)
            return _deny(operation, "budget.exceeded", message, "ledger", policy)
        except ArgumentError as error:
            return _deny(operation, "budget.operation", str(error), "ledger", policy)
        text = ", ".join(f"{amount} {resource}" for resource, amount in held.amounts.items())
        reason = Reason(code="budget.reserved", message=f"reserved {text}", rule="ledger")
        return Verdict(
            operation=operation.id,
            decision=Decision.ALLOW,
            reasons=(reason,),
            reservation=held.id,
            policy=policy,
        )

    def _give_back(self, verdict: Verdict) -> None:
        if verdict.reservation:
            with suppress(FmosError):
                self._kernel.ledger.refund(verdict.reservation)

    def _known(self, reservation: str, account: str) -> Known:
        found = self._kernel.ledger.find(reservation)
        if found is None or found.reservation.account != account:
            raise NotFoundError(
                f"the account {str(account)!r} has no reservation {reservation!r}",
                hint="give the reservation that budget_admit returned, in the same session",
            )
        return found


def _refused_model(operation: Operation, contract: AgentContract) -> str:
    if operation.kind is not OperationKind.MODEL_GENERATE:
        return ""
    if contract.modelPolicy.allows(operation.name):
        return ""
    allowed = contract.modelPolicy.candidates() or ()
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
    """Return usage in the ledger's resources; tokens in a provider's words are added up.

    `tokens: 0` without a provider's count is what a client says that was told nothing: unreported.
    """
    used = {name: amount for name, amount in usage.items() if name in RESOURCES}
    counted = next((words for words in _TOKEN_WORDS if any(w in usage for w in words)), ())
    if usage and not used and not counted:
        raise ArgumentError(
            f"argument 'usage' names no resource of the ledger: {', '.join(sorted(usage))}",
            hint=f"it keeps {', '.join(RESOURCES)}",
        )
    if not used.get("tokens"):
        used.pop("tokens", None)
        if counted:
            used["tokens"] = sum(usage.get(word, 0) for word in counted)
    check_amounts(used)
    return used


def _deny(operation: Operation, code: str, message: str, rule: str, policy: str = "") -> Verdict:
    return Verdict(
        operation=operation.id,
        decision=Decision.DENY,
        reasons=(Reason(code=code, message=message, rule=rule),),
        policy=policy,
    )
