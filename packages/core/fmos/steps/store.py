"""All SQL of steps: their rows in kernel.db, and their outcomes in a tenant's volume."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple, cast

from agentfs import AgentFS, Extension
from agentfs.errors import TransactionRequired
from fmos.ledger.owners import Owner, owner_of
from fmos.ledger.owners import owner_text as owner_text
from fmos.steps.model import Effect, KnownStep, SagaState, StepState
from fmos.storage.database import Database
from fmos.types import Principal

_NAMES = (
    "tenant, run, key, id, principal, effect, inputs, undoes, compensation, state, attempt, owner,"
    " since_ns, number, outcome, error"
)
_WHERE = "WHERE tenant = ? AND run = ? AND key = ?"
_GET = f"SELECT {_NAMES} FROM step {_WHERE}"
_OF_RUN = f"SELECT {_NAMES} FROM step WHERE tenant = ? AND run = ? ORDER BY since_ns, key"
_RUNNING = f"SELECT {_NAMES} FROM step INDEXED BY step_running WHERE state = 'running'"
_ADD = f"INSERT INTO step({_NAMES}) VALUES ({', '.join('?' * 16)})"
_TAKE = (
    f"UPDATE step SET state = 'running', owner = ?, attempt = ?, since_ns = ?, effect = ? {_WHERE}"
)
_END = f"UPDATE step SET state = ?, outcome = ?, error = ?, number = ?, since_ns = ? {_WHERE}"
_NUMBER = "SELECT coalesce(max(number), 0) + 1 FROM step WHERE tenant = ? AND run = ?"
_PUT_SAGA = "INSERT OR REPLACE INTO saga VALUES (?, ?, ?, ?, ?)"
_PUT_INTENT = "INSERT OR REPLACE INTO open_intent VALUES (?, ?, ?, ?, ?, ?, ?)"

# What was done stays done, whatever fails after it.
_PUT_OUTCOME = """
INSERT INTO ext_steps_outcome(id, attempt, done, outcome) VALUES (?, ?, ?, ?)
ON CONFLICT(id) DO UPDATE
SET attempt = excluded.attempt, done = excluded.done, outcome = excluded.outcome
WHERE done = 0 OR excluded.done = 1
"""
_GET_OUTCOME = "SELECT attempt, done, outcome FROM ext_steps_outcome WHERE id = ?"


class Row(NamedTuple):
    """One row of `step`."""

    tenant: str
    run: str
    key: str
    id: str
    principal: str
    effect: Effect
    inputs: str
    undoes: str
    compensation: str | None
    state: StepState
    attempt: int
    owner: str | None
    since_ns: int
    number: int | None
    outcome: str | None
    error: str | None

    @property
    def place(self) -> tuple[str, str, str]:
        """Return the primary key."""
        return self.tenant, self.run, self.key

    @property
    def process(self) -> Owner | None:
        """Return the process that runs it, or None where that is not known."""
        return None if self.owner is None else owner_of(self.owner)

    def known(self) -> KnownStep:
        """Return the row with its values read."""
        return KnownStep(
            self.tenant, self.run, self.key, self.id,
            Principal.model_validate_json(self.principal), self.effect, json.loads(self.inputs),
            self.undoes, self.compensation, self.state, self.attempt, self.since_ns, self.number,
            None if self.outcome is None else json.loads(self.outcome), self.error or "",
        )  # fmt: skip


class OpenIntent(NamedTuple):
    """What was asked for and has no outcome yet, as the journal tells it."""

    tenant: str
    id: str
    principal: str
    branch: str
    at_ns: int
    process: str
    reservation: str


class StepStore:
    """The tables of steps in kernel.db. Writing methods expect the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.install("steps", [_text("schema.sql")])

    def get(self, tenant: str, run: str, key: str) -> Row | None:
        """Return one step."""
        rows = self._database.query(_GET, (tenant, run, key))
        return Row(*rows[0]) if rows else None

    def of_run(self, tenant: str, run: str) -> list[Row]:
        """Return the steps of a run, compensations included, by when they changed last."""
        return [Row(*row) for row in self._database.query(_OF_RUN, (tenant, run))]

    def running(self, tenant: str | None = None) -> list[Row]:
        """Return the steps that run, or ran when their process ended."""
        rows = [Row(*row) for row in self._database.query(_RUNNING)]
        return [row for row in rows if tenant is None or row.tenant == tenant]

    def add(self, row: Row) -> None:
        """Write a new step."""
        self._database.execute(_ADD, row)

    def take(
        self, row: Row, owner: str | None, attempt: int, now_ns: int, effect: Effect | None = None
    ) -> Row:
        """Let a process run a step, and return its row as it is then."""
        effect = effect or row.effect
        self._database.execute(_TAKE, (owner, attempt, now_ns, effect, *row.place))
        return row._replace(
            state="running", owner=owner, attempt=attempt, since_ns=now_ns, effect=effect
        )

    def end(
        self, row: Row, state: StepState, now_ns: int, *, outcome: str | None, error: str | None
    ) -> Row:
        """Set how a step ended; one that is done gets the next place in its run."""
        number = row.number
        if state == "done" and number is None:
            number = cast("int", self._database.query(_NUMBER, row.place[:2])[0][0])
        self._database.execute(_END, (state, outcome, error, number, now_ns, *row.place))
        return row._replace(state=state, outcome=outcome, error=error, number=number)

    def saga(self, tenant: str, run: str) -> tuple[SagaState, str]:
        """Return the state of a run as a whole, and why it has it."""
        where = "WHERE tenant = ? AND run = ?"
        rows = self._database.query(f"SELECT state, reason FROM saga {where}", (tenant, run))
        return cast("tuple[SagaState, str]", rows[0]) if rows else ("open", "")

    def put_saga(self, tenant: str, run: str, state: SagaState, reason: str, now_ns: int) -> None:
        """Set the state of a run as a whole."""
        self._database.execute(_PUT_SAGA, (tenant, run, state, reason, now_ns))

    def reconciled(self, tenant: str) -> int:
        """Return the number of the last journal row that was looked at."""
        rows = self._database.query("SELECT seq FROM reconciled WHERE tenant = ?", (tenant,))
        return rows[0][0] if rows else 0

    def put_reconciled(self, tenant: str, seq: int) -> None:
        """Note up to which row a journal was looked at."""
        self._database.execute("INSERT OR REPLACE INTO reconciled VALUES (?, ?)", (tenant, seq))

    def open_intents(self, tenant: str) -> list[OpenIntent]:
        """Return what was asked for in the rows that were looked at, and has no outcome there."""
        rows = self._database.query("SELECT * FROM open_intent WHERE tenant = ?", (tenant,))
        return [OpenIntent(*row) for row in rows]

    def put_intents(self, intents: Iterable[OpenIntent]) -> None:
        """Keep intents that have no outcome yet."""
        self._database.execute_each(_PUT_INTENT, intents)

    def drop_intents(self, tenant: str, ids: Iterable[str]) -> None:
        """Forget intents that have an outcome."""
        sql = "DELETE FROM open_intent WHERE tenant = ? AND id = ?"
        self._database.execute_each(sql, ((tenant, each) for each in ids))


class Outcomes:
    """The outcomes in one tenant's volume: written in the transaction of the effect."""

    def __init__(self, fs: AgentFS) -> None:
        self._table: Extension = fs.extension("steps", _text("volume.sql"))

    def get(self, id: str) -> tuple[int, bool, str] | None:
        """Return attempt, whether it was done, and outcome or error of a step's last attempt."""
        rows: list[Any] = self._table.query(_GET_OUTCOME, (id,))
        return (rows[0][0], bool(rows[0][1]), rows[0][2]) if rows else None

    def in_transaction(self) -> bool:
        """Return whether this thread has a transaction of the volume open."""
        try:
            self._table.execute("SELECT 1")
        except TransactionRequired:
            return False
        return True

    def put(self, id: str, attempt: int, *, done: bool, text: str) -> None:
        """Keep how an attempt ended, in the current transaction, but no failure over an outcome."""
        self._table.execute(_PUT_OUTCOME, (id, attempt, int(done), text))


@lru_cache(maxsize=4)
def _text(name: str) -> str:
    return resources.files("fmos.steps").joinpath(name).read_text(encoding="utf-8")
