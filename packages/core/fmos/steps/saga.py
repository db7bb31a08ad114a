"""Compensation: the steps of a run are undone in reverse order, whoever undoes them, however often.

Each compensation is an exactly-once step itself, so that a process killed in the middle leaves a
rest that any other may do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from fmos.errors import (
    ArgumentError,
    CompensationError,
    FmosError,
    InDoubtError,
    StepFailedError,
    StorageError,
)
from fmos.steps.model import (
    UNDO,
    Action,
    Compensation,
    Effect,
    Json,
    KnownStep,
    SagaState,
    Verify,
)
from fmos.steps.steps import WAIT_S, Steps
from fmos.types import Principal


@dataclass(frozen=True, slots=True)
class BackOff:
    """How often a failing piece of work is tried in a row, and how long between: twice as long."""

    attempts: int = 5
    first_s: float = 0.1
    longest_s: float = 5.0

    def pauses(self) -> Iterator[float]:
        """Return the seconds after each attempt but the last."""
        pause = self.first_s
        for _ in range(self.attempts - 1):
            yield pause
            pause = min(2 * pause, self.longest_s)


BACK_OFF = BackOff()


@dataclass(frozen=True, slots=True)
class Undone:
    """What was undone, in the order in which it was; `without` had nothing that undoes it."""

    steps: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(slots=True)
class Saga:
    """The steps of one run, done in order or undone in reverse. Used as a context, it decides.

        with Saga(steps, principal, "order-17") as saga:
            saga.step("charge", charge, inputs={"cents": 990}, compensate=refund)
            saga.step("ship", ship, inputs={"to": "Ada"})

    An exception undoes what was done and goes on; without one the run is complete.
    """

    steps: Steps
    principal: Principal
    run: str
    back_off: BackOff = BACK_OFF
    wait_s: float = WAIT_S
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __enter__(self) -> Saga:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.complete()
        elif isinstance(error, Exception) and not isinstance(error, InDoubtError | StorageError):
            self.undo(f"{type(error).__name__}: {error}")

    @property
    def state(self) -> SagaState:
        """Whether the run goes on, is complete, or is undone."""
        return self.steps.saga(self.principal.tenant, self.run)[0]

    def step(
        self,
        key: str,
        action: Action,
        *,
        inputs: Json = None,
        effect: Effect = "outside",
        verify: Verify | None = None,
        compensate: Compensation | None = None,
        principal: Principal | None = None,
    ) -> Json:
        """Do one step of the run; see `Steps.run`."""
        return self.steps.run(
            principal or self.principal,
            self.run,
            key,
            action,
            inputs=inputs,
            effect=effect,
            verify=verify,
            compensate=compensate,
            wait_s=self.wait_s,
        )

    def complete(self) -> None:
        """End the run: what was done stays.

        Raises:
            ArgumentError: if it is being undone.
        """
        state = self.state
        if state not in ("open", "complete"):
            raise ArgumentError(
                f"the run {self.run!r} is {state} and cannot be completed",
                hint="start another run",
            )
        self.steps.mark(self.principal, self.run, "complete")

    def undo(self, reason: str) -> Undone:
        """Undo every step that was done, the last one first; asked again, it goes on.

        Raises:
            CompensationError: if one failed as often as it may, or nobody here knows how to undo
                it; its sentence says what was undone and what is left.
            ArgumentError: if the run is complete.
            StorageError: if a step of the run is still being run.
        """
        state, before = self.steps.saga(self.principal.tenant, self.run)
        if state == "complete":
            raise ArgumentError(
                f"the run {self.run!r} is complete and is not undone", hint="start another run"
            )
        if state != "undone":
            self.steps.mark(self.principal, self.run, "undoing", before or reason)
        done, without = self._settled()
        for step in done:
            self._compensate(step, done)
        if state != "undone":
            self.steps.mark(self.principal, self.run, "undone", before or reason)
        return Undone(tuple(step.key for step in done), without)

    def left(self) -> tuple[str, ...]:
        """Return the steps that are still to be undone, in that order."""
        known = {each.key: each for each in self._of_run()}
        undone = {each.undoes for each in known.values() if each.undoes and each.state == "done"}
        return tuple(step.key for step in _to_undo(known.values()) if step.key not in undone)

    def _of_run(self) -> tuple[KnownStep, ...]:
        return self.steps.of_run(self.principal.tenant, self.run)

    def _settled(self) -> tuple[list[KnownStep], tuple[str, ...]]:
        """Wait for what still runs, and return what is to be undone and what cannot be."""
        deadline = time.monotonic() + self.wait_s
        while True:
            self.steps.settle_abandoned(self.principal.tenant, self.run)
            steps = [each for each in self._of_run() if not each.undoes]
            running = [each.key for each in steps if each.state == "running"]
            if not running:
                break
            if time.monotonic() > deadline:
                raise StorageError(
                    f"the step {running[0]!r} of {self.run!r} is still being run",
                    hint="wait until it has finished, then undo the run again",
                )
            self.sleep(0.02)
        doubtful = [
            each
            for each in steps
            if each.state == "in_doubt" and each.effect == "outside" and each.compensation
        ]
        if doubtful:
            self._give_up(doubtful[0].key, "whether it has happened is not known")
        without = [each.key for each in steps if not each.compensation and each.state != "failed"]
        return _to_undo(steps), tuple(without)

    def _compensate(self, step: KnownStep, done: list[KnownStep]) -> None:
        known = self.steps.find(step.tenant, step.run, UNDO + step.key)
        if known is not None and known.state == "done":
            return
        compensation = self.steps.compensations.get(step.compensation or "")
        if compensation is None:
            self._give_up(step.key, f"nothing here is called {step.compensation!r} and undoes it")
            return
        pauses = self.back_off.pauses()
        while True:
            try:
                self._undo_once(step, compensation)
                return
            except InDoubtError as error:
                self._give_up(step.key, str(error), error)
            except StepFailedError as error:
                pause = next(pauses, None)
                if pause is None:
                    self._give_up(step.key, str(error), error)
                    return
                self.sleep(pause)

    def _undo_once(self, step: KnownStep, compensation: Compensation) -> None:
        self.steps.run(
            step.principal,
            step.run,
            UNDO + step.key,
            compensation.action,
            inputs=step.inputs,
            effect=compensation.effect,
            verify=compensation.verify,
            undoes=step,
            wait_s=self.wait_s,
        )

    def _give_up(self, key: str, why: str, cause: FmosError | None = None) -> None:
        """Leave the rest to a person, and say all that is left."""
        left = self.left()
        reason = self.steps.saga(self.principal.tenant, self.run)[1]
        self.steps.mark(self.principal, self.run, "stuck", reason)
        undone = [each.undoes for each in self._of_run() if each.undoes and each.state == "done"]
        said = f"undone so far: {', '.join(undone) or 'nothing'}; left: {', '.join(left) or key}"
        raise CompensationError(
            f"the step {key!r} of {self.run!r} could not be undone: {why}; {said}",
            hint=f"correct the cause and run `fmos workflow resume {self.run}`, or undo it by hand"
            f" and say so: `fmos workflow answer {self.run} {UNDO}{key} --happened`",
        ) from cause


def _to_undo(steps: Iterable[KnownStep]) -> list[KnownStep]:
    """Return what is to be undone: the last that was done first, before it what may have been."""
    found = [
        each
        for each in steps
        if not each.undoes
        and each.compensation
        and (each.state == "done" or (each.state == "in_doubt" and each.effect == "idempotent"))
    ]
    return sorted(found, key=lambda each: -(each.number or 1 << 62))
