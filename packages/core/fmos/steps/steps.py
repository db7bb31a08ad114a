"""Exactly-once steps: one effect for each (tenant, run, key), whoever asks, however often.

Order of writes: claim (kernel.db), intent (journal), effect, outcome with its journal row (one
transaction of the volume, that of the effect where it lies there), index (kernel.db), return. What
is missing after a kill tells how far it came.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from agentfs import AgentFS
from fmos.errors import (
    ArgumentError,
    FmosError,
    InDoubtError,
    NotFoundError,
    StepFailedError,
)
from fmos.ledger.owners import this_process
from fmos.runtime.kernel import Kernel
from fmos.steps.holding import alone, is_abandoned, still_running
from fmos.steps.model import (
    UNDO,
    Action,
    Compensation,
    Effect,
    Json,
    KnownStep,
    NotDone,
    SagaState,
    StepContext,
    Verify,
    as_json,
    check_key,
    step_id,
)
from fmos.steps.store import Outcomes, Row, StepStore, owner_text
from fmos.types import Principal

#: How long a caller waits for another that runs the same step.
WAIT_S = 60.0

_POLL_S = (0.002, 0.1)
_MAX_ERROR = 2_000

#: Runs in the transaction of the outcome, on the agent's branch with the system area.
OnDone = Callable[[AgentFS, Json], None]


@dataclass(frozen=True, slots=True)
class _Ask:
    """What `run` was asked for."""

    principal: Principal
    run: str
    key: str
    action: Action
    inputs: str
    effect: Effect
    verify: Verify | None
    compensation: str | None
    undoes: str
    undone: Json
    on_done: OnDone | None

    @property
    def place(self) -> tuple[str, str, str]:
        return self.principal.tenant, self.run, self.key


class Steps:
    """The steps of one home. Thread-safe, and safe across processes.

    Args:
        kernel: The opened home.
        compensations: What this process can undo steps with, beside those that it runs itself.
    """

    def __init__(self, kernel: Kernel, compensations: Iterable[Compensation] = ()) -> None:
        self._kernel = kernel
        self._database = kernel.database
        self._store = StepStore(kernel.database)
        # However a home is spelled, its steps are the same.
        self._file = os.path.realpath(kernel.database.path)
        self._outcomes: dict[str, Outcomes] = {}
        self.compensations = {each.name: each for each in compensations}

    def run(
        self,
        principal: Principal,
        run: str,
        key: str,
        action: Action,
        *,
        inputs: Json = None,
        effect: Effect = "outside",
        verify: Verify | None = None,
        compensate: Compensation | None = None,
        undoes: KnownStep | None = None,
        on_done: OnDone | None = None,
        wait_s: float = WAIT_S,
    ) -> Json:
        """Do a step, or return the outcome that it has already.

        With the effect `volume` the action runs inside a transaction of the agent's volume, which
        no one else writes to meanwhile: keep it short. An action of the effect `outside` that
        raises anything but `NotDone` is in doubt, unless `verify` knows; one that is `idempotent`
        is simply run again. `undoes` is the step that this one compensates.

        Raises:
            StepFailedError: if the action failed, and it may be run again.
            InDoubtError: if it is not known whether its effect happened.
            ArgumentError: if the key was used with other inputs or another effect, if what comes in
                or out is no JSON, or inside a transaction.
            StorageError: if another process runs the step for longer than `wait_s`.
        """
        if compensate is not None:
            self.compensations[compensate.name] = compensate
        ask = _Ask(
            principal, check_key(run, "the name of a run"), check_key(key, "the key of a step"),
            action, as_json(inputs, f"what the step {key!r} is given"), effect, verify,
            compensate.name if compensate else None,
            undoes.key if undoes else "", undoes.outcome if undoes else None, on_done,
        )  # fmt: skip
        known = self._store.get(*ask.place)
        if known is None or known.state != "done":
            self._refuse_transactions(principal.tenant)
            deadline = time.monotonic() + wait_s
            with alone(self._file, ask.place, deadline):
                known = self._run_claimed(ask, deadline)
        _require_same(known, ask)
        return None if known.outcome is None else json.loads(known.outcome)

    def find(self, tenant: str, run: str, key: str) -> KnownStep | None:
        """Return what is known of a step, or None if it was never asked for."""
        row = self._store.get(tenant, run, key)
        return row.known() if row else None

    def of_run(self, tenant: str, run: str) -> tuple[KnownStep, ...]:
        """Return the steps of a run, compensations included, by when they changed last."""
        return tuple(row.known() for row in self._store.of_run(tenant, run))

    def saga(self, tenant: str, run: str) -> tuple[SagaState, str]:
        """Return whether a run goes on, is complete, or is undone, and why."""
        return self._store.saga(tenant, run)

    def mark(self, principal: Principal, run: str, state: SagaState, reason: str = "") -> None:
        """Set the state of a run as a whole: while it is undone, no new step of it begins."""
        with self._database.transaction():
            if self._store.saga(principal.tenant, run) == (state, reason):
                return
            now_ns = self._kernel.clock.now_ns()
            self._store.put_saga(principal.tenant, run, state, reason, now_ns)
        self._kernel.record(principal, f"step.{state}", {"run": run})

    def resolve(
        self,
        tenant: str,
        run: str,
        key: str,
        *,
        happened: bool,
        by: str,
        outcome: Json = None,
        comment: str = "",
    ) -> KnownStep:
        """Let a person say whether a step in doubt has happened, and with which outcome.

        Raises:
            NotFoundError: if there is no such step.
            ArgumentError: if it is not in doubt, or the outcome is no JSON.
        """
        text = as_json(outcome, f"the outcome of {key!r}")
        place = (tenant, run, key)
        with alone(self._file, place, time.monotonic() + WAIT_S):
            row = self._settled(self._known(place, undoing=True))
            by_hand = row.undoes and row.state == "failed"
            if row.state != "in_doubt" and not by_hand:
                raise ArgumentError(
                    f"the step {key!r} of {run!r} is not in doubt: it is {row.state}",
                    hint="run `fmos workflow show` to see what waits for an answer",
                )
            who = Principal.model_validate_json(row.principal)
            detail = {"id": row.id, "happened": happened, "by": by, "comment": bool(comment)}
            self._kernel.record(who, "step.resolve", detail)
            if happened:
                return self._keep(row, who, text).known()
            return self._end_failed(row, who, f"{by} says that it did not happen").known()

    def settle_abandoned(
        self, tenant: str | None = None, run: str | None = None
    ) -> tuple[KnownStep, ...]:
        """Say of each step whose process ended what is known of it, and return these steps."""
        found: list[KnownStep] = []
        for row in self._store.running(tenant):
            if run is None or row.run == run:
                with suppress(FmosError), alone(self._file, row.place, 0):
                    now = self._settled(row)
                    if now.state != "running":
                        found.append(now.known())
        return tuple(found)

    # -- one run of a step, alone in this process

    def _run_claimed(self, ask: _Ask, deadline: float) -> Row:
        while True:
            row, free = self._claim(ask, deadline)
            if free:
                break
            row = self._settle_for(row, ask)
            if row.state == "done":
                return row
            taken = self._take(row)
            if taken is not None:
                row = taken
                break
        context = self._context(row, ask)
        start = "step.compensate" if ask.undoes else "step.start"
        try:
            self._kernel.record(ask.principal, start, self._start(row))
        except BaseException as error:
            with suppress(Exception):  # a full disk: nothing has begun, and nothing is lost
                self._end(row, "failed", error=_said(error))
            raise
        try:
            return self._do(row, ask, context)
        except BaseException as error:
            return self._after_error(row, ask, context, error)

    def _claim(self, ask: _Ask, deadline: float) -> tuple[Row, bool]:
        """Return the step's row, and whether it may be run at once: no attempt is open."""
        pause, longest = _POLL_S
        while True:
            with self._database.transaction():
                row = self._store.get(*ask.place)
                if row is None or row.state == "failed":
                    self._require_open(ask)
                if row is None:
                    row = self._new(ask)
                    self._store.add(row)
                    return row, True
                _require_same(row, ask)
                now_ns = self._kernel.clock.now_ns()
                if row.state == "failed":
                    next_one = self._store.take(row, _me(), row.attempt + 1, now_ns, ask.effect)
                    return next_one, True
                if row.state != "running":
                    return row, False
                if is_abandoned(row, now_ns):
                    return self._store.take(row, _me(), row.attempt, now_ns), False
            if time.monotonic() > deadline:
                raise still_running(ask.place)
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def _settle_for(self, row: Row, ask: _Ask) -> Row:
        """Return the row as done or as free to run; raise where its effect is in doubt."""
        row = self._settle_row(row)
        if row.state != "in_doubt":
            return row
        self._require_open(ask)
        verdict = self._verified(ask, self._context(row, ask))
        if verdict is not None and verdict is not False:
            return self._keep(row, ask.principal, _outcome_of(verdict, ask.key), ask.on_done)
        if verdict is None and row.effect == "outside":
            raise _in_doubt(row)
        return row

    def _settled(self, row: Row) -> Row:
        """Return a step's row, settled if its process has ended; call it under `alone`."""
        now_ns = self._kernel.clock.now_ns()
        with self._database.transaction():
            row = self._known(row.place)
            if row.state != "running" or not is_abandoned(row, now_ns):
                return row
            row = self._store.take(row, _me(), row.attempt, now_ns)
        return self._settle_row(row)

    def _settle_row(self, row: Row) -> Row:
        """Bring the row of an attempt that ended, and is ours now, to what is known of it."""
        if row.state != "running":
            return row
        found = self._outcomes_of(row.tenant).get(row.id)
        if found is not None and found[1]:
            return self._end(row, "done", outcome=found[2])
        if found is not None and found[0] == row.attempt:
            return self._end(row, "failed", error=json.loads(found[2]))
        ended = "its process ended before it told its outcome"
        if row.effect == "volume":
            return self._end(row, "failed", error=ended)
        who = Principal.model_validate_json(row.principal)
        return self._doubt(row, who, ended)

    def _take(self, row: Row) -> Row | None:
        """Begin another attempt; None if somebody else has begun one meanwhile."""
        with self._database.transaction():
            now = self._store.get(*row.place)
            if now is None or (now.state, now.attempt) != (row.state, row.attempt):
                return None
            return self._store.take(row, _me(), row.attempt + 1, self._kernel.clock.now_ns())

    def _do(self, row: Row, ask: _Ask, context: StepContext) -> Row:
        if ask.effect != "volume":
            outcome = ask.action(context)
            return self._keep(row, ask.principal, _outcome_of(outcome, ask.key), ask.on_done)
        fs = self._kernel.agent_fs(ask.principal)
        outcomes = self._outcomes_of(row.tenant)
        with fs.transaction():
            found = outcomes.get(row.id)  # one that was thought dead may have been slow
            text = found[2] if found and found[1] else None
            if text is None:
                text = _outcome_of(ask.action(context), ask.key)
                self._note_done(row, ask.principal, text, ask.on_done)
        return self._end(row, "done", outcome=text)

    def _after_error(self, row: Row, ask: _Ask, context: StepContext, error: BaseException) -> Row:
        """Say what is known after an action failed; return the row if it happened all the same."""
        done = self._if_done(row)
        if done is not None:
            if not isinstance(error, Exception):
                raise error
            return done
        said = _said(error)
        certain = ask.effect == "volume" or isinstance(error, NotDone)
        verdict = False if certain else self._verified(ask, context)
        if verdict is not None and verdict is not False:
            return self._keep(row, ask.principal, _outcome_of(verdict, ask.key), ask.on_done)
        if verdict is False:
            self._end_failed(row, ask.principal, said)
        else:
            row = self._doubt(row, ask.principal, said)
        if not isinstance(error, Exception):
            raise error
        if verdict is None and ask.effect == "outside":
            raise _in_doubt(row) from error
        raise StepFailedError(
            f"the step {ask.key!r} of {ask.run!r} failed: {said}",
            hint="correct the cause, then run it again with the same key",
        ) from error

    def _if_done(self, row: Row) -> Row | None:
        """Return the row as done if the volume has its outcome, whatever failed after that."""
        found = self._outcomes_of(row.tenant).get(row.id)
        return self._end(row, "done", outcome=found[2]) if found and found[1] else None

    # -- what is written

    def _keep(self, row: Row, who: Principal, text: str, on_done: OnDone | None = None) -> Row:
        """Store an outcome in the volume with its journal row, then in kernel.db."""
        with self._kernel.agent_fs(who).transaction():
            self._note_done(row, who, text, on_done)
        return self._end(row, "done", outcome=text)

    def _note_done(self, row: Row, who: Principal, text: str, on_done: OnDone | None) -> None:
        self._outcomes_of(row.tenant).put(row.id, row.attempt, done=True, text=text)
        if on_done is not None:
            on_done(self._kernel.agent_fs(who), json.loads(text))
        digest = self._kernel.keys_of(row.tenant).digest(text.encode())
        self._kernel.record(who, "step.done", {**_named(row), "outcome": digest})

    def _end_failed(self, row: Row, who: Principal, said: str) -> Row:
        with self._kernel.agent_fs(who).transaction():
            outcomes = self._outcomes_of(row.tenant)
            outcomes.put(row.id, row.attempt, done=False, text=json.dumps(said))
            self._kernel.record(who, "step.failed", _named(row))
        return self._if_done(row) or self._end(row, "failed", error=said)

    def _doubt(self, row: Row, who: Principal, said: str) -> Row:
        self._kernel.record(who, "step.doubt", _named(row))
        return self._end(row, "in_doubt", error=said)

    def _end(self, row: Row, state: str, *, outcome: str | None = None, error: str = "") -> Row:
        with self._database.transaction():
            now_ns = self._kernel.clock.now_ns()
            return self._store.end(row, state, now_ns, outcome=outcome, error=error)  # type: ignore[arg-type]

    # -- what is read

    def _new(self, ask: _Ask) -> Row:
        now_ns = self._kernel.clock.now_ns()
        return Row(
            *ask.place, step_id(*ask.place), ask.principal.model_dump_json(), ask.effect,
            ask.inputs, ask.undoes, ask.compensation, "running", 1, _me(), now_ns, None, None, None,
        )  # fmt: skip

    def _context(self, row: Row, ask: _Ask) -> StepContext:
        return StepContext(
            principal=ask.principal,
            run=ask.run,
            key=ask.key,
            idempotency_key=row.id,
            attempt=row.attempt,
            inputs=json.loads(ask.inputs),
            files=self._kernel.agent_files(ask.principal),
            outcome=ask.undone,
        )

    def _start(self, row: Row) -> dict[str, Json]:
        digest = self._kernel.keys_of(row.tenant).digest(row.inputs.encode())
        return {**_named(row), "effect": row.effect, "inputs": digest, "undoes": row.undoes}

    def _verified(self, ask: _Ask, context: StepContext) -> Json:
        if ask.verify is None:
            return None
        try:
            return ask.verify(context)
        except Exception:  # it cannot tell, whatever the reason
            return None

    def _require_open(self, ask: _Ask) -> None:
        state, reason = self._store.saga(ask.principal.tenant, ask.run)
        if state != "open" and not ask.undoes:
            raise ArgumentError(
                f"the run {ask.run!r} is {state} and begins no step {ask.key!r}"
                + (f" ({reason})" if reason else ""),
                hint="start another run",
            )

    def _known(self, place: tuple[str, str, str], *, undoing: bool = False) -> Row:
        row = self._store.get(*place)
        if row is None and undoing and place[2].startswith(UNDO):
            row = self._by_hand(self._known((*place[:2], place[2].removeprefix(UNDO))))
        if row is None:
            raise NotFoundError(
                f"the run {place[1]!r} has no step {place[2]!r}",
                hint="run `fmos workflow show` to see its steps",
            )
        return row

    def _by_hand(self, step: Row) -> Row:
        """Add the row of a compensation that nothing here could begin."""
        key = UNDO + step.key
        made = step._replace(
            key=key, id=step_id(step.tenant, step.run, key), undoes=step.key, compensation=None,
            effect="idempotent", state="in_doubt", attempt=0, owner=None, number=None, outcome=None,
        )  # fmt: skip
        with self._database.transaction():
            self._store.add(made)
        return made

    def _outcomes_of(self, tenant: str) -> Outcomes:
        found = self._outcomes.get(tenant)
        if found is None:
            found = self._outcomes[tenant] = Outcomes(self._kernel.volume(tenant))
        return found

    def _refuse_transactions(self, tenant: str) -> None:
        """Refuse to run where somebody else could undo what is stored here."""
        outside: list[bool] = []
        self._database.after(lambda: outside.append(True))
        if not outside or self._outcomes_of(tenant).in_transaction():
            raise ArgumentError(
                "a step cannot be run inside a transaction, which could undo its outcome",
                hint="end the transaction first; a step inside a step needs the effect 'outside'",
            )


def _require_same(row: Row, ask: _Ask) -> None:
    if row.inputs != ask.inputs:
        raise ArgumentError(
            f"the step {ask.key!r} of {ask.run!r} was run with other inputs",
            hint="give each piece of work its own key, or another run",
        )
    if row.effect != ask.effect and row.state != "failed":
        raise ArgumentError(
            f"the step {ask.key!r} of {ask.run!r} has the effect {row.effect!r}, not"
            f" {ask.effect!r}",
            hint="keep the effect of a step for the whole run",
        )


def _me() -> str | None:
    return owner_text(this_process())


def _named(row: Row) -> dict[str, Json]:
    return {"id": row.id, "run": row.run, "key": row.key, "attempt": row.attempt}


def _outcome_of(value: Json, key: str) -> str:
    return as_json(None if value is True else value, f"what the step {key!r} returned")


def _said(error: BaseException) -> str:
    name = type(error).__name__
    text = f"{name}: {error}" if str(error) else name
    if isinstance(error, NotDone) and str(error):  # it speaks for itself
        text = str(error)
    return text[:_MAX_ERROR]


def _in_doubt(row: Row) -> InDoubtError:
    return InDoubtError(
        f"whether the step {row.key!r} of {row.run!r} has happened is not known"
        + (f" ({row.error})" if row.error else ""),
        hint="look outside for the idempotency key "
        f"{row.id}, then let a person answer: `fmos workflow answer {row.run} {row.key}"
        " --happened` or `--not-happened`",
    )
