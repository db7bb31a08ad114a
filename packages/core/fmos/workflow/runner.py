"""Runs a workflow, step by step, from wherever it stands: every state is in kernel.db.

Any process may go on with a run, also two at once: a step has one effect all the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from agentfs import AgentFS
from fmos.contract.model import AgentContract
from fmos.contract.workflow import Step, Workflow
from fmos.errors import (
    ArgumentError,
    BudgetExceededError,
    CompensationError,
    DeniedError,
    FmosError,
    InDoubtError,
    NotFoundError,
    StepFailedError,
)
from fmos.runtime.kernel import Kernel
from fmos.steps.model import UNDO, Compensation, Json, KnownStep, NotDone, StepContext
from fmos.steps.saga import BACK_OFF, BackOff, Saga
from fmos.steps.steps import WAIT_S, OnDone, Steps
from fmos.types import DEFAULT_TENANT, checked_id, new_id
from fmos.workflow.actors import Actor, AgentStoppedError, StepCall, Work, require_running
from fmos.workflow.gate import Gate, consents
from fmos.workflow.model import (
    ENDED,
    Progress,
    Run,
    RunOptions,
    RunState,
    StoredRun,
    Waiting,
)
from fmos.workflow.ports import check_flow, check_outputs, take
from fmos.workflow.store import WorkflowStore
from fmos.workflow.views import Runs, principal_of
from fmos.workflow.waits import Waits

#: Where a step's outputs lie in its agent's branch.
FOLDER = "/.fmos/workflows"

_CANCELLED = "cancelled by "

Told: TypeAlias = Callable[[Progress], None]


class Runner:
    """The workflows of one home. Thread-safe, and safe across processes.

    Args:
        kernel: The opened home.
        actors: Who does the steps, by the agent's name; looking at runs needs none.
        on_progress: Told what happens while a run is advanced.
        back_off: How often a failing compensation is tried, and the pauses of all retries.
        wait_s: How long to wait for another process that runs the same step.
    """

    def __init__(
        self,
        kernel: Kernel,
        actors: Mapping[str, Actor | Work] | None = None,
        *,
        on_progress: Told = lambda progress: None,
        back_off: BackOff = BACK_OFF,
        wait_s: float = WAIT_S,
    ) -> None:
        self._kernel = kernel
        self._actors = {
            name: each if isinstance(each, Actor) else Actor(each)
            for name, each in (actors or {}).items()
        }
        self._tell = on_progress
        self._back_off = back_off
        self._wait_s = wait_s
        self._gate = Gate(kernel)
        self._store = WorkflowStore(kernel.database)
        self.waits = Waits(kernel, self._store)
        self.runs = Runs(kernel)
        undoing = [self._undoing(name, each) for name, each in self._actors.items()]
        self.steps = Steps(kernel, [each for each in undoing if each is not None])

    # -- what a person does with a run

    def start(
        self,
        workflow: Workflow,
        inputs: Mapping[str, Json] | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        application: str = "",
        requested_by: str = "",
        options: RunOptions | None = None,
        run: str = "",
    ) -> Run:
        """Bind every step, note the run, and advance it; asked again with the same id, go on.

        Raises:
            ArgumentError: if an agent has no actor, a port is not fed, or the id is another run's.
            BindingError, AdmissionError: if a step cannot be bound here; nothing has begun then.
        """
        run = checked_id(run, "the id of a run") if run else new_id()
        given = dict(inputs or {})
        known = self._store.get(tenant, run)
        if known is not None:
            if (known.run.digest, known.run.inputs) != (workflow.digest, given):
                raise ArgumentError(
                    f"the run {run!r} is of {known.run.workflow!r} with other steps or inputs",
                    hint="choose another id for a new run",
                )
            return self.resume(run, tenant=tenant)
        self._require_actors(workflow)
        check_flow(workflow, given)
        now_ns = self._kernel.clock.now_ns()
        made = Run(
            tenant=tenant, run=run, workflow=workflow.workflow, digest=workflow.digest,
            application=application, state="running", reason="", requested_by=requested_by,
            started_ns=now_ns, changed_ns=now_ns, options=options or RunOptions(), inputs=given,
        )  # fmt: skip
        manifests = {
            step.id: self._gate.bind(workflow, step, principal_of(made, step))
            for step in workflow.steps
            if not step.needs_person
        }
        detail = {
            "run": run,
            "workflow": workflow.workflow,
            "digest": workflow.digest,
            "by": requested_by,
            "manifests": {name: each.hash for name, each in manifests.items()},
        }
        self._kernel.record(principal_of(made), "workflow.start", detail)
        with self._kernel.database.transaction():
            first = self._store.get(tenant, run) is None
            if first:
                self._store.add(made, workflow, manifests)
        if not first:  # another process has begun a run of this id meanwhile
            return self.start(workflow, given, tenant=tenant, run=run)
        return self._advance(StoredRun(run=made, document=workflow))

    def resume(self, run: str, *, tenant: str = DEFAULT_TENANT) -> Run:
        """Go on with a run from where it stands; one that has ended is returned as it is.

        Raises:
            NotFoundError: if there is no such run.
            CompensationError: if what was done cannot be undone.
            DeniedError: if the agent of the next step is paused or was killed.
        """
        stored = self.runs.stored(tenant, run)
        if stored.run.state in ENDED:
            return stored.run
        self.waits.expire()
        state, reason = self.steps.saga(tenant, run)
        if state == "complete":
            return self._set(stored, "done")
        if state != "open":
            return self._undo(stored, reason)
        self._require_actors(stored.document)
        return self._advance(stored)

    def cancel(
        self, run: str, *, tenant: str = DEFAULT_TENANT, by: str = "", reason: str = ""
    ) -> Run:
        """Begin no further step, and undo those that were done.

        Raises:
            NotFoundError: if there is no such run.
            ArgumentError: if it has ended.
            CompensationError: if what was done cannot be undone.
        """
        stored = self.runs.stored(tenant, run)
        if stored.run.state in ENDED:
            raise ArgumentError(
                f"the run {run!r} is {stored.run.state} and cannot be cancelled",
                hint="start another workflow that undoes it",
            )
        said = f"{_CANCELLED}{by or 'somebody'}"
        return self._undo(stored, f"{said}: {reason}" if reason else said)

    def answer(
        self,
        run: str,
        step: str,
        approve: bool,
        *,
        tenant: str = DEFAULT_TENANT,
        by: str,
        comment: str = "",
    ) -> Waiting:
        """Answer what a step asks; `resume` goes on with the run.

        Raises:
            NotFoundError: if there is no such run, or the step asks nothing.
            ArgumentError: if it was answered before.
            DeniedError: if `by` may not approve it.
        """
        stored = self.runs.stored(tenant, run)
        stored.document.step(step)
        return self.waits.answer(stored.run, step, approve, by=by, comment=comment)

    def resolve(
        self,
        run: str,
        step: str,
        happened: bool,
        *,
        tenant: str = DEFAULT_TENANT,
        by: str,
        outputs: Mapping[str, Json] | None = None,
    ) -> KnownStep:
        """Say whether a step in doubt has happened, and what it handed on.

        Raises:
            NotFoundError: if there is no such run or step.
            ArgumentError: if it is not in doubt, or the outputs are not those of its ports.
        """
        stored = self.runs.stored(tenant, run)
        found = stored.document.step(step.removeprefix(UNDO))
        given: Json = None
        if happened and not step.startswith(UNDO):
            given = check_outputs(found, outputs or {})
        return self.steps.resolve(tenant, run, step, happened=happened, by=by, outcome=given)

    # -- going on

    def _advance(self, stored: StoredRun) -> Run:
        values = dict(stored.run.inputs)
        for step in stored.document.steps:
            if not step.needs_person and self._done(stored.run, step) is None:
                self._kernel.require_running(principal_of(stored.run, step))
            try:
                question = self._question(stored, step, values)
                if question is not None and question.state == "waiting":
                    return self._wait(stored, step, _asks(step, question))
                if question is not None and question.state == "denied":
                    return self._undo(stored, _denied(step, question))
                values |= self._outputs(stored, step, values, question)
            except InDoubtError as error:
                return self._wait(stored, step, str(error))
            except (StepFailedError, DeniedError, BudgetExceededError, ArgumentError) as error:
                return self._after_error(stored, step, error)
        self.steps.mark(principal_of(stored.run), stored.run.run, "complete")
        return self._set(stored, "done")

    def _after_error(self, stored: StoredRun, step: Step, error: FmosError) -> Run:
        """Undo a run whose step failed; let it stand if that was because its agent was stopped."""
        stopped = self._stopped(stored.run, step, error)
        if stopped:
            return self._wait(stored, step, stopped)
        if isinstance(error, StepFailedError):
            return self._undo(stored, str(error).removesuffix(f"; {error.hint}"))
        return self._undo(stored, f"step {step.id!r}: {error}")

    def _stopped(self, run: Run, step: Step, error: BaseException) -> str:
        """Return why a failed step's agent could not go on, or nothing if it could."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, AgentStoppedError):
                return str(cause)
            cause = cause.__cause__
        if not step.needs_person:
            try:
                self._kernel.require_running(principal_of(run, step))
            except DeniedError as stopped:
                return str(stopped)
        return ""

    def _question(
        self, stored: StoredRun, step: Step, values: Mapping[str, Json]
    ) -> Waiting | None:
        """Return what a person is asked before or as this step; None where nothing is."""
        run = stored.run
        if step.needs_person:
            take(step, values)
            return self.waits.ask(run, step.id, "approval", step.policy.consent_for)
        if self._done(run, step) is not None:
            return None
        wanted = consents(self._contract(run, step))
        return self.waits.ask(run, step.id, "consent", wanted) if wanted else None

    def _outputs(
        self,
        stored: StoredRun,
        step: Step,
        values: Mapping[str, Json],
        question: Waiting | None,
    ) -> dict[str, Json]:
        if step.needs_person:
            by = question.answered_by if question else ""
            return {name: {"approved": True, "by": by} for name in step.out}
        done = self._done(stored.run, step)
        if done is not None:
            return done.outcome or {}
        if stored.run.state != "running":
            stored = stored.model_copy(update={"run": self._set(stored, "running")})
        return self._perform(stored, step, take(step, values))

    def _perform(self, stored: StoredRun, step: Step, inputs: dict[str, Json]) -> dict[str, Json]:
        """Do a step, as often as its actor wants to be retried."""
        run, actor = stored.run, self._actors[step.agent]
        who, contract = principal_of(run, step), self._contract(run, step)
        self._gate.require_budget(self._gate.account(who, step, contract), contract)
        pauses = BackOff(actor.attempts, self._back_off.first_s, self._back_off.longest_s).pauses()
        while True:
            self._tell(Progress(what="start", step=step.id, said=step.agent))
            written: dict[str, bytes] = {}
            try:
                outputs = self.steps.run(
                    who, run.run, step.id, self._action(stored, step, actor, written),
                    inputs=inputs, effect=actor.effect, verify=actor.verify,
                    compensate=self._undoing(step.agent, actor), wait_s=self._wait_s,
                    on_done=self._keeping(run, step, written),
                )  # fmt: skip
            except StepFailedError as error:
                pause = next(pauses, None)
                if pause is None or not isinstance(error.__cause__, actor.retry_on):
                    raise
                self._tell(Progress(what="retry", step=step.id, said=str(error.__cause__)))
                time.sleep(pause)
                continue
            self._tell(Progress(what="done", step=step.id))
            return outputs or {}

    def _action(
        self, stored: StoredRun, step: Step, actor: Actor, written: dict[str, bytes]
    ) -> Callable[[StepContext], Json]:
        def act(context: StepContext) -> Json:
            call = self._begun(stored.run, step, context)
            begun = time.monotonic()
            try:
                outputs = call.done_by(actor.work)
            finally:
                call.report({"wall_seconds": round(time.monotonic() - begun)})
            checked = check_outputs(step, {} if outputs is None else outputs)
            written.clear()
            written.update(call.written())
            return checked

        return act

    def _keeping(self, run: Run, step: Step, written: dict[str, bytes]) -> OnDone:
        """Return what writes a step's outputs and files, in the transaction of its outcome."""

        def keep(fs: AgentFS, outputs: Json) -> None:
            folder = f"{FOLDER}/{run.run}"
            fs.mkdir(folder, parents=True, exist_ok=True)
            fs.write(f"{folder}/{step.id}.json", json.dumps(outputs, indent=1, ensure_ascii=False))
            files = self._kernel.agent_files(principal_of(run, step))
            for path, data in written.items():
                parent = path.rpartition("/")[0]
                if parent:
                    files.mkdir(parent, parents=True, exist_ok=True)
                files.write(path, data)

        return keep

    def _undoing(self, agent: str, actor: Actor) -> Compensation | None:
        """Return what undoes an agent's steps, under a name that any process knows."""
        work = actor.compensate
        if work is None:
            return None

        def undo(context: StepContext) -> None:
            stored = self.runs.stored(context.principal.tenant, context.run)
            step = stored.document.step(context.key.removeprefix(UNDO))
            call = self._begun(stored.run, step, context)
            call.done_by(work)
            for path, data in call.written().items():
                context.files.write(path, data)

        return Compensation(f"actor:{agent}", undo, actor.compensate_effect)

    def _begun(self, run: Run, step: Step, context: StepContext) -> StepCall:
        """Return a step's call; where there is none, nothing of the step has happened."""
        try:
            require_running(self._kernel, context.principal)
            return self._call(run, step, context)
        except FmosError as error:
            raise NotDone(str(error)) from error

    def _call(self, run: Run, step: Step, context: StepContext) -> StepCall:
        contract = self._contract(run, step)
        manifest = self._store.manifest(run.tenant, run.run, step.id)
        return StepCall(
            self._kernel,
            context,
            step=step.id,
            contract=contract,
            manifest=manifest.hash if manifest else "",
            account=self._gate.account(context.principal, step, contract),
        )

    def _contract(self, run: Run, step: Step) -> AgentContract:
        manifest = self._store.manifest(run.tenant, run.run, step.id)
        if manifest is None:
            raise NotFoundError(f"step {step.id!r} of the run {run.run!r} was never bound")
        return self._gate.now(principal_of(run, step), manifest)

    # -- ends

    def _wait(self, stored: StoredRun, step: Step, reason: str) -> Run:
        self._tell(Progress(what="waiting", step=step.id, said=reason))
        return self._set(stored, "waiting", reason)

    def _undo(self, stored: StoredRun, reason: str) -> Run:
        run = stored.run
        saga = Saga(self.steps, principal_of(run), run.run, self._back_off, self._wait_s)
        try:
            undone = saga.undo(reason)
        except CompensationError as error:
            self._set(stored, "stuck", str(error))
            raise
        for key in undone.steps:
            self._tell(Progress(what="undone", step=key))
        told = self.steps.saga(run.tenant, run.run)[1]
        state: RunState = "cancelled" if told.startswith(_CANCELLED) else "failed"
        return self._set(stored, state, told)

    def _set(self, stored: StoredRun, state: RunState, reason: str = "") -> Run:
        run = stored.run
        now_ns = self._kernel.clock.now_ns()
        with self._kernel.database.transaction():
            changed = self._store.set_state(run.tenant, run.run, state, reason, now_ns)
        if changed and state != "running":
            detail = {"run": run.run, "workflow": run.workflow}
            self._kernel.record(principal_of(run), f"workflow.{state}", detail)
        if state in ENDED:
            self._tell(Progress(what="ended", said=reason or state))
        return run.model_copy(update={"state": state, "reason": reason, "changed_ns": now_ns})

    # -- what is read

    def _done(self, run: Run, step: Step) -> KnownStep | None:
        known = self.steps.find(run.tenant, run.run, step.id)
        return known if known is not None and known.state == "done" else None

    def _require_actors(self, workflow: Workflow) -> None:
        agents = [step.agent for step in workflow.steps if not step.needs_person]
        missing = sorted({agent for agent in agents if agent not in self._actors})
        if missing:
            raise ArgumentError(
                f"nobody does the work of {', '.join(missing)} in {workflow.workflow!r}",
                hint=f"give an actor to each, as in `--actor {missing[0]}=module:function`",
            )


def _asks(step: Step, question: Waiting) -> str:
    about = f" to {', '.join(question.about)}" if question.about else ""
    return f"{step.id} waits for a person's {question.kind}{about}"


def _denied(step: Step, question: Waiting) -> str:
    said = f": {question.comment}" if question.comment else ""
    return f"{step.id} was denied by {question.answered_by}{said}"
