"""The tables of triggers: what was asked for, how far each came, and a row per journal row taken.

A trigger that was removed stays as a row, so that its number is never used again and its runs
still have a name.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

from agentfs.connection import Row
from agentfs.extensions import Extension
from agentfs.paths import from_stored, to_stored

TriggerKind = Literal["command", "function"]
OnCrash = Literal["ask", "retry", "skip"]
RunState = Literal["waiting", "running", "done", "failed", "interrupted", "skipped", "lost"]

NAME = "trigger"
DDL = """
CREATE TABLE IF NOT EXISTS ext_trigger_trigger (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    path ANY NOT NULL,
    operations TEXT,
    branch TEXT NOT NULL,
    kind TEXT NOT NULL,
    action TEXT NOT NULL,
    cwd ANY,
    timeout_s REAL NOT NULL,
    recursive INTEGER NOT NULL,
    on_crash TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    principal TEXT NOT NULL,
    cursor INTEGER NOT NULL,
    removed_ns INTEGER
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS ext_trigger_name ON ext_trigger_trigger(name)
    WHERE removed_ns IS NULL;
CREATE TABLE IF NOT EXISTS ext_trigger_run (
    id INTEGER PRIMARY KEY,
    trigger INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    process TEXT,
    claimed_ns INTEGER NOT NULL,
    ended_ns INTEGER,
    exit_code INTEGER,
    output TEXT NOT NULL,
    UNIQUE (trigger, seq)
) STRICT;
CREATE INDEX IF NOT EXISTS ext_trigger_open ON ext_trigger_run(trigger, state, seq)
    WHERE state IN ('waiting', 'running');
"""
_TRIGGER = (
    "SELECT id, name, path, operations, branch, kind, action, cwd, timeout_s, recursive, on_crash,"
    " created_ns, principal, cursor FROM ext_trigger_trigger WHERE removed_ns IS NULL"
)
_ADD = (
    "INSERT INTO ext_trigger_trigger(name, path, operations, branch, kind, action, cwd, timeout_s,"
    " recursive, on_crash, created_ns, principal, cursor) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_REMOVE = "UPDATE ext_trigger_trigger SET removed_ns = ? WHERE id = ?"
_ADVANCE = "UPDATE ext_trigger_trigger SET cursor = max(cursor, ?) WHERE id = ?"
_RUN = (
    "SELECT r.id, t.name, r.seq, r.state, r.attempt, r.depth, r.process, r.claimed_ns, r.ended_ns,"
    " r.exit_code, r.output FROM ext_trigger_run r JOIN ext_trigger_trigger t ON t.id = r.trigger"
)
_RUNS = (
    f"{_RUN} WHERE (:name IS NULL OR t.name = :name) AND (:state IS NULL OR r.state = :state)"
    " ORDER BY r.id DESC LIMIT :limit"
)
_OPEN = f"{_RUN} WHERE r.trigger = ? AND r.state = ? ORDER BY r.seq"
_BEGIN = (
    "INSERT INTO ext_trigger_run(trigger, seq, state, attempt, depth, claimed_ns, output)"
    " VALUES (?, ?, 'running', 1, ?, ?, '') RETURNING id"
)
_BEGIN_AGAIN = (
    "UPDATE ext_trigger_run SET state = 'running', attempt = attempt + 1, process = NULL,"
    " claimed_ns = ?, ended_ns = NULL, exit_code = NULL, output = '' WHERE id = ?"
)
_PROCESS = "UPDATE ext_trigger_run SET process = ? WHERE id = ?"
_END = (
    "UPDATE ext_trigger_run SET state = ?, ended_ns = ?, exit_code = ?, output = ?"
    " WHERE id = ? AND state = 'running'"
)
_WAIT = "UPDATE ext_trigger_run SET state = 'waiting' WHERE id = ?"
_NOTE = (
    "INSERT INTO ext_trigger_run(trigger, seq, state, attempt, depth, claimed_ns, ended_ns, output)"
    " VALUES (?, ?, ?, 0, ?, ?, ?, ?) RETURNING id"
)
# A trigger takes one row at a time, so that the time says which run wrote a row.
_DEPTH = (
    "SELECT max(r.depth) FROM ext_trigger_run r JOIN ext_trigger_trigger t ON t.id = r.trigger"
    " WHERE t.name = :name AND r.claimed_ns <= :time"
    " AND (r.ended_ns IS NULL OR r.ended_ns >= :time)"
)
_FORGET = "DELETE FROM ext_trigger_run WHERE state = 'done' AND ended_ns < ?"


@dataclass(frozen=True, slots=True)
class Trigger:
    """What is to happen on a change below a path; `cursor` is the last journal row looked at.

    `action` is a command with its arguments, or the name of a function. Without `operations` every
    change of a name or of content counts.
    """

    id: int
    name: str
    path: str
    operations: tuple[str, ...] | None
    branch: str
    kind: TriggerKind
    action: tuple[str, ...]
    cwd: str | None
    timeout_s: float
    recursive: bool
    on_crash: OnCrash
    created_ns: int
    principal: str
    cursor: int

    @property
    def own_principal(self) -> str:
        """Return the name that journal rows carry which the trigger itself causes."""
        return f"trigger:{self.name}"


@dataclass(frozen=True, slots=True)
class TriggerRun:
    """What became of one journal row that a trigger took.

    `waiting` is to be run (again), `interrupted` began and nobody saw its end, `skipped` is that
    by policy, and `lost` stands for rows that gc let go before anybody looked at them.
    """

    id: int
    trigger: str
    seq: int
    state: RunState
    attempt: int
    depth: int
    process: str | None
    claimed_ns: int
    ended_ns: int | None
    exit_code: int | None
    output: str


class Store:
    """Reads and writes both tables; writing needs a transaction."""

    def __init__(self, tables: Extension) -> None:
        """Take the tables of one volume."""
        self._tables = tables

    def triggers(self) -> list[Trigger]:
        """Return the triggers that were not removed, sorted by name."""
        return [_to_trigger(row) for row in self._tables.query(f"{_TRIGGER} ORDER BY name")]

    def named(self, name: str) -> Trigger | None:
        """Return a trigger that was not removed."""
        found = self._tables.query(f"{_TRIGGER} AND name = ?", (name,))
        return _to_trigger(found[0]) if found else None

    def current(self, trigger: Trigger) -> Trigger | None:
        """Return a trigger as it is now, or None when it was removed."""
        found = self._tables.query(f"{_TRIGGER} AND id = ?", (trigger.id,))
        return _to_trigger(found[0]) if found else None

    def add(self, trigger: Trigger) -> None:
        """Keep a trigger; its `id` is chosen here."""
        operations = None if trigger.operations is None else json.dumps(trigger.operations)
        cwd = None if trigger.cwd is None else to_stored(trigger.cwd)
        self._tables.execute(
            _ADD,
            (
                trigger.name, to_stored(trigger.path), operations, trigger.branch, trigger.kind,
                json.dumps(trigger.action), cwd, trigger.timeout_s, trigger.recursive,
                trigger.on_crash, trigger.created_ns, trigger.principal, trigger.cursor,
            ),
        )  # fmt: skip

    def remove(self, trigger: Trigger) -> None:
        """Let a trigger take no more rows."""
        self._tables.execute(_REMOVE, (time.time_ns(), trigger.id))

    def advance(self, trigger: Trigger, seq: int) -> None:
        """Note that all rows up to a number were looked at."""
        self._tables.execute(_ADVANCE, (seq, trigger.id))

    def begin(self, trigger: Trigger, seq: int, depth: int) -> TriggerRun:
        """Take a journal row."""
        self.advance(trigger, seq)
        made = self._tables.execute(_BEGIN, (trigger.id, seq, depth, time.time_ns()))
        return self.run(made[0][0])

    def begin_again(self, run: TriggerRun) -> TriggerRun:
        """Take the row of a run that waits for it."""
        self._tables.execute(_BEGIN_AGAIN, (time.time_ns(), run.id))
        return self.run(run.id)

    def started(self, run: TriggerRun, process: str) -> None:
        """Note the process of a command."""
        self._tables.execute(_PROCESS, (process, run.id))

    def end(
        self, run: TriggerRun, state: RunState, exit_code: int | None = None, output: str = ""
    ) -> TriggerRun:
        """Note how a run ended."""
        self._tables.execute(_END, (state, time.time_ns(), exit_code, output, run.id))
        return self.run(run.id)

    def wait(self, run: TriggerRun) -> None:
        """Let a run be taken again."""
        self._tables.execute(_WAIT, (run.id,))

    def note(
        self, trigger: Trigger, seq: int, state: RunState, output: str, depth: int = 0
    ) -> TriggerRun:
        """Note what became of a row, or of all up to it, that is not run."""
        self.advance(trigger, seq)
        now = time.time_ns()
        made = self._tables.execute(_NOTE, (trigger.id, seq, state, depth, now, now, output))
        return self.run(made[0][0])

    def run(self, number: int) -> TriggerRun:
        """Return a run that must exist."""
        found = self.find_run(number)
        assert found is not None
        return found

    def find_run(self, number: int) -> TriggerRun | None:
        """Return a run, if there is one with the number."""
        found = self._tables.query(f"{_RUN} WHERE r.id = ?", (number,))
        return TriggerRun(*found[0]) if found else None

    def open_runs(self, trigger: Trigger, state: RunState) -> list[TriggerRun]:
        """Return a trigger's runs that are `waiting` or `running`, by their rows."""
        return [TriggerRun(*row) for row in self._tables.query(_OPEN, (trigger.id, state))]

    def runs(self, name: str | None, state: str | None, limit: int | None) -> list[TriggerRun]:
        """Return runs, newest first."""
        bindings = {"name": name, "state": state, "limit": -1 if limit is None else limit}
        return [TriggerRun(*row) for row in self._tables.query(_RUNS, bindings)]

    def depth(self, principal: str, time_ns: int) -> int:
        """Return how many triggers in a row led to what a principal did at a time."""
        name = principal.removeprefix("trigger:")
        found = self._tables.query(_DEPTH, {"name": name, "time": time_ns})
        return found[0][0] or 0

    def forget_done(self, before_ns: int) -> None:
        """Drop old runs that ended well; exactly once does not depend on them."""
        self._tables.execute(_FORGET, (before_ns,))


def _to_trigger(row: Row) -> Trigger:
    number, name, path, operations, branch, kind, action, cwd, timeout_s, recursive, *rest = row
    wanted: Any = None if operations is None else tuple(json.loads(operations))
    return Trigger(
        number, name, from_stored(path), wanted, branch, kind, tuple(json.loads(action)),
        None if cwd is None else from_stored(cwd), timeout_s, bool(recursive), *rest,
    )  # fmt: skip
