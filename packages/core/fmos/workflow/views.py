"""What is known of runs, for a person: read from kernel.db, by any process, without actors."""

from __future__ import annotations

from collections.abc import Mapping

from fmos.contract.workflow import Step
from fmos.errors import NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.steps.model import UNDO, Json, KnownStep
from fmos.steps.steps import Steps
from fmos.types import DEFAULT_TENANT, Principal
from fmos.workflow.model import ENDED, Run, RunView, StepView, StoredRun, Waiting
from fmos.workflow.store import WorkflowStore
from fmos.workflow.waits import Waits


class Runs:
    """The runs of one home. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = WorkflowStore(kernel.database)
        self._waits = Waits(kernel, self._store)
        self._steps = Steps(kernel)

    def stored(self, tenant: str, run: str) -> StoredRun:
        """Return a run with its document.

        Raises:
            NotFoundError: if there is no such run.
        """
        found = self._store.get(tenant, run)
        if found is None:
            raise NotFoundError(
                f"there is no run {run!r} of the tenant {tenant!r}",
                hint="run `fmos workflow list` to see the runs",
            )
        return found

    def list(self, *, tenant: str | None = None, limit: int = 50) -> list[Run]:
        """Return the runs that were started last, newest first."""
        self._waits.expire()
        return self._store.runs(tenant, limit)

    def view(self, run: str, *, tenant: str = DEFAULT_TENANT) -> RunView:
        """Return a run with its steps and what it waits for.

        Raises:
            NotFoundError: if there is no such run.
        """
        self._waits.expire()
        stored = self.stored(tenant, run)
        known = self._known(stored.run)
        steps = tuple(self._step(stored, step, known) for step in stored.document.steps)
        return RunView(run=stored.run, steps=steps, waiting=self._waiting(stored.run, known))

    def pending(self) -> tuple[Waiting, ...]:
        """Return all that waits for a person: questions, doubts, and what could not be undone."""
        self._waits.expire()
        open_runs = [*self._store.in_state("waiting"), *self._store.in_state("stuck")]
        found = [each for run in open_runs for each in self._waiting(run, self._known(run))]
        return tuple(sorted(found, key=lambda each: each.asked_ns))

    def _known(self, run: Run) -> dict[str, KnownStep]:
        return {each.key: each for each in self._steps.of_run(run.tenant, run.run)}

    def _waiting(self, run: Run, known: Mapping[str, KnownStep]) -> tuple[Waiting, ...]:
        if run.state in ENDED:
            return ()
        found = list(self._waits.pending(run.tenant, run.run))
        for each in known.values():
            doubt = each.state == "in_doubt" and each.effect == "outside"
            stuck = run.state == "stuck" and bool(each.undoes) and each.state != "done"
            if doubt or stuck:
                wait = Waiting(
                    tenant=run.tenant,
                    run=run.run,
                    step=each.key,
                    kind="compensation" if each.undoes else "doubt",
                    asked_ns=each.since_ns,
                    comment=each.error,
                )
                found.append(wait)
        return tuple(found)

    def _step(self, stored: StoredRun, step: Step, known: Mapping[str, KnownStep]) -> StepView:
        run, row = stored.run, known.get(step.id)
        manifest = self._store.manifest(run.tenant, run.run, step.id)
        account = self._kernel.account(principal_of(run, step)).child("step", step.id)
        facts = StepView(
            step=step.id,
            agent=step.agent,
            state=self._state(run, step, known),
            manifest=manifest.hash if manifest else "",
            account="" if step.needs_person else str(account),
        )
        if row is None:
            return facts.model_copy(update={"inputs": _handed(stored, step, known)})
        return facts.model_copy(
            update={
                "attempt": row.attempt,
                "inputs": row.inputs,
                "outputs": row.outcome,
                "error": row.error,
            }
        )

    def _state(self, run: Run, step: Step, known: Mapping[str, KnownStep]) -> str:
        undo, row = known.get(UNDO + step.id), known.get(step.id)
        if undo is not None and undo.state == "done":
            return "undone"
        if row is not None:
            return row.state
        wait = self._store.wait(run.tenant, run.run, step.id)
        return wait.wait.state if wait is not None else "planned"


def principal_of(run: Run, step: Step | None = None) -> Principal:
    """Return who acts: a step's agent in the session of the run, or the run itself."""
    return Principal(
        tenant=run.tenant,
        application=run.application,
        agent=step.agent if step else "",
        session=run.run,
    )


def _handed(
    stored: StoredRun, step: Step, known: Mapping[str, KnownStep]
) -> dict[str, Json] | None:
    """Return what a step is handed, as far as it is there: what a person must see who decides."""
    values = dict(stored.run.inputs)
    for each in stored.document.steps:
        if each.id == step.id:
            break
        row = known.get(each.id)
        values |= (row.outcome or {}) if row is not None and row.state == "done" else {}
    return {name: values[name] for name in step.in_ if name in values} or None
