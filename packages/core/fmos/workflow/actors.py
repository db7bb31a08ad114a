"""Who does a step's work: an actor is called with a `StepCall` and returns the step's outputs.

What an actor asks through the call (capabilities, budgets, files) is held to the step's contract.
An actor is the application's own code: what it does beside the call, nobody here sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fmos.contract.model import AgentContract
from fmos.errors import BudgetExceededError, DeniedError
from fmos.ledger.accounts import Account
from fmos.runtime.kernel import Kernel
from fmos.steps.model import Effect, Json, NotDone, StepContext, Verify
from fmos.types import Principal


class Retryable(NotDone):
    """An actor raises it to say: nothing has happened, and another attempt may succeed."""


class AgentStoppedError(DeniedError):
    """The agent of a step was paused or killed: its run waits until a person lets it go on."""


def require_running(kernel: Kernel, principal: Principal) -> None:
    """Refuse to go on with the step of an agent that is paused or was killed.

    Raises:
        AgentStoppedError: saying so.
    """
    try:
        kernel.require_running(principal)
    except DeniedError as error:
        raise AgentStoppedError(str(error)) from error


class Work(Protocol):
    """What does a step's work."""

    def __call__(self, call: StepCall, /) -> Mapping[str, Json] | None:
        """Return the step's outputs by port; None for a step without any."""
        ...


@dataclass(frozen=True, slots=True)
class Actor:
    """One agent's worker, and how its steps are run.

    Args:
        work: Does a step.
        effect: Where its effect is: see `Steps.run`. What goes through `StepCall.write` is always
            kept with the outcome, so that an actor that does nothing else is `idempotent`.
        compensate: Undoes a step that was done; it gets the step's inputs and outputs.
        compensate_effect: Where the effect of the compensation is.
        verify: Says whether an effect in doubt has happened.
        retry_on: What is worth another attempt.
        attempts: How often a step is tried in all.
    """

    work: Work
    effect: Effect = "outside"
    compensate: Callable[[StepCall], object] | None = None
    compensate_effect: Effect = "idempotent"
    verify: Verify | None = None
    retry_on: tuple[type[Exception], ...] = (Retryable,)
    attempts: int = 3


class StepCall:
    """One step as its actor sees it.

    `outputs` is what the step returned that is to be undone; None while it is done. Hand
    `idempotency_key` on to whatever has an effect outside.
    """

    def __init__(
        self,
        kernel: Kernel,
        context: StepContext,
        *,
        step: str,
        contract: AgentContract,
        manifest: str,
        account: Account,
    ) -> None:
        self.principal = context.principal
        self.run = context.run
        self.step = step
        self.agent = context.principal.agent
        self.inputs: dict[str, Json] = context.inputs
        self.outputs: dict[str, Json] | None = context.outcome
        self.idempotency_key = context.idempotency_key
        self.attempt = context.attempt
        self.contract = contract
        self.manifest = manifest
        self.account = account
        self._kernel = kernel
        self._files = context.files
        self._written: dict[str, bytes] = {}
        self.acted = False

    def use(self, capability: str) -> None:
        """Pay for one use of a capability, if the step has it.

        Raises:
            DeniedError: if the agent's contract or the step's does not grant it, or the agent is
                paused or was killed.
            BudgetExceededError: if an account on the step's path has no tool call left.
        """
        if not self.contract.grants(capability):
            raise DeniedError(
                f"step {self.step!r} of {self.agent!r} may not use {capability!r}",
                hint="grant it in the agent's contract and in the step's, and start another run",
            )
        self.spend(tool_calls=1)

    def spend(self, **amounts: int) -> None:
        """Spend of the step's budgets, before what costs is done.

        Raises:
            AgentStoppedError: if the agent is paused or was killed.
            BudgetExceededError: naming the account on the step's path that has not enough left.
        """
        require_running(self._kernel, self.principal)
        self._kernel.ledger.charge(self.account, amounts, needed=amounts)
        self.acted = True

    def report(self, amounts: Mapping[str, int]) -> None:
        """Record what was used already, whatever the limits say."""
        if amounts:
            self._kernel.ledger.charge(self.account, dict(amounts))

    def read(self, path: str) -> bytes:
        """Return a file of the agent's branch.

        Raises:
            DeniedError: if the path is out of the contract's scope.
        """
        if not self.contract.security.may_read(path):
            raise self._out_of_scope("read", path)
        return self._written[path] if path in self._written else self._files.read(path)

    def write(self, path: str, data: bytes | str) -> None:
        """Write a file of the agent's branch, together with the step's outcome or not at all.

        Raises:
            DeniedError: if `fs.write` is not granted, the path is out of the contract's scope, or
                the agent is paused or was killed.
        """
        try:
            require_running(self._kernel, self.principal)
        except AgentStoppedError:
            self.acted = True  # what is written may tell of an effect, so nothing is certain
            raise
        if not self.contract.grants("fs.write"):
            raise DeniedError(
                f"step {self.step!r} of {self.agent!r} may not use 'fs.write'",
                hint="grant it in the agent's contract and in the step's, and start another run",
            )
        if not self.contract.security.may_write(path):
            raise self._out_of_scope("write", path)
        self._written[path] = data.encode() if isinstance(data, str) else data

    def done_by(self, work: Callable[[StepCall], Any]) -> Any:
        """Let an actor work; what is refused before it did anything has certainly not happened."""
        try:
            return work(self)
        except (DeniedError, BudgetExceededError) as error:
            if self.acted:
                raise
            raise NotDone(str(error)) from error

    def written(self) -> dict[str, bytes]:
        """Return what is to be written together with the outcome."""
        return dict(self._written)

    def _out_of_scope(self, what: str, path: str) -> DeniedError:
        return DeniedError(
            f"step {self.step!r} of {self.agent!r} may not {what} {path!r}",
            hint="use a path within `security.paths` of the contract",
        )
