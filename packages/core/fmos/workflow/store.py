"""All SQL of workflow runs. Every writing method expects the caller's transaction."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, NamedTuple

from fmos.contract.manifest import Manifest, parse_manifest
from fmos.contract.workflow import Workflow
from fmos.storage.database import Database
from fmos.workflow.model import Run, RunOptions, RunState, StoredRun, Waiting

_RUN = (
    "tenant, run, workflow, digest, application, state, reason, requested_by, started_ns,"
    " changed_ns, options, inputs"
)
_ADD_RUN = """
INSERT INTO workflow_run(tenant, run, workflow, digest, application, state, reason, requested_by,
    started_ns, changed_ns, options, inputs, document)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_WAIT = (
    "tenant, run, step, kind, about, consented, asked_ns, due_ns, asked_of, state, answered_by,"
    " comment, level"
)
_LISTS = ("about", "consented")
_SEALED = f"{_WAIT}, seal"
_ADD_WAIT = f"INSERT OR IGNORE INTO workflow_wait({_SEALED}) VALUES ({', '.join('?' * 14)})"
_CHANGE = """
UPDATE workflow_wait SET kind = :kind, about = :about, consented = :consented,
    asked_ns = :asked_ns, due_ns = :due_ns, asked_of = :asked_of, state = :state,
    answered_by = :answered_by, comment = :comment, level = :level, seal = :seal,
    answered_ns = :answered_ns
WHERE tenant = :tenant AND run = :run AND step = :step AND state = :was AND seal = :was_seal
"""
# Of version 2: what earlier answers to a question let through.
_ADD_CONSENTED = "ALTER TABLE workflow_wait ADD COLUMN consented TEXT NOT NULL DEFAULT '[]'"
# Of version 3: what only the tenant's key can say of a row. Rows of before have none, and SQL can
# give them none: nobody knows who wrote them, so what they answer is asked once more (waits.py).
_ADD_SEAL = "ALTER TABLE workflow_wait ADD COLUMN seal TEXT NOT NULL DEFAULT ''"
_DUE = f"SELECT {_SEALED} FROM workflow_wait WHERE state = 'waiting' AND due_ns <= ?"


class StoredWait(NamedTuple):
    """A question as it is stored, how often it has timed out, and its seal; empty: from before."""

    wait: Waiting
    level: int
    seal: str


class WorkflowStore:
    """The tables of runs in kernel.db."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos.workflow").joinpath("schema.sql")
        database.install(
            "workflow", [schema.read_text(encoding="utf-8"), _ADD_CONSENTED, _ADD_SEAL]
        )

    def get(self, tenant: str, run: str) -> StoredRun | None:
        """Return a run with its document."""
        rows = self._database.query(
            f"SELECT {_RUN}, document FROM workflow_run WHERE tenant = ? AND run = ?",
            (tenant, run),
        )
        if not rows:
            return None
        document = Workflow.model_validate_json(rows[0][-1])
        return StoredRun(run=_run(rows[0][:-1]), document=document)

    def runs(self, tenant: str | None, limit: int) -> list[Run]:
        """Return the runs that were started last, newest first."""
        rows = self._database.query(
            f"SELECT {_RUN} FROM workflow_run WHERE ?1 IS NULL OR tenant = ?1"
            " ORDER BY started_ns DESC, run LIMIT ?2",
            (tenant, limit),
        )
        return [_run(row) for row in rows]

    def in_state(self, state: RunState) -> list[Run]:
        """Return the runs of a state, oldest first."""
        sql = f"SELECT {_RUN} FROM workflow_run WHERE state = ? ORDER BY started_ns"
        return [_run(row) for row in self._database.query(sql, (state,))]

    def add(self, run: Run, document: Workflow, manifests: dict[str, Manifest]) -> None:
        """Write a new run with what its steps were bound to."""
        text = document.model_dump_json(by_alias=True, exclude_unset=True)
        options = run.options.model_dump_json()
        facts = run.model_dump(include={*_RUN.split(", ")} - {"options", "inputs"})
        ordered = [facts[name] for name in _RUN.split(", ")[:-2]]
        self._database.execute(_ADD_RUN, (*ordered, options, json.dumps(run.inputs), text))
        self._database.execute_each(
            "INSERT INTO workflow_manifest VALUES (?, ?, ?, ?)",
            [
                (run.tenant, run.run, step, manifest.model_dump_json())
                for step, manifest in manifests.items()
            ],
        )

    def manifest(self, tenant: str, run: str, step: str) -> Manifest | None:
        """Return what a step was bound to, checked against its seal."""
        rows = self._database.query(
            "SELECT manifest FROM workflow_manifest WHERE tenant = ? AND run = ? AND step = ?",
            (tenant, run, step),
        )
        return parse_manifest(rows[0][0], f"the manifest of {run} {step}") if rows else None

    def set_state(self, tenant: str, run: str, state: RunState, reason: str, now_ns: int) -> bool:
        """Set the state of a run; return whether it was another."""
        sql = (
            "UPDATE workflow_run SET state = ?1, reason = ?2, changed_ns = ?3 WHERE tenant = ?4"
            " AND run = ?5 AND (state <> ?1 OR reason <> ?2)"
        )
        return self._database.execute(sql, (state, reason, now_ns, tenant, run)) == 1

    def wait(self, tenant: str, run: str, step: str) -> StoredWait | None:
        """Return a question as it is stored."""
        sql = f"SELECT {_SEALED} FROM workflow_wait WHERE tenant = ? AND run = ? AND step = ?"
        rows = self._database.query(sql, (tenant, run, step))
        return _stored(rows[0]) if rows else None

    def add_wait(self, made: StoredWait) -> bool:
        """Write a new question; return whether it was not there."""
        facts = _facts(made)
        ordered = [facts[name] for name in _SEALED.split(", ")]
        return self._database.execute(_ADD_WAIT, ordered) == 1

    def change(self, was: StoredWait, now: StoredWait, answered_ns: int | None = None) -> bool:
        """Put a question in the place of what it was; False if that is not there any more."""
        given = {"was": was.wait.state, "was_seal": was.seal, "answered_ns": answered_ns}
        return self._database.execute(_CHANGE, {**_facts(now), **given}) == 1

    def due(self, now_ns: int) -> list[StoredWait]:
        """Return the questions whose time is up."""
        return [_stored(row) for row in self._database.query(_DUE, (now_ns,))]

    def waits(self, tenant: str | None = None, run: str | None = None) -> list[Waiting]:
        """Return what waits for a person, oldest first: of one run, or of the whole home."""
        sql = (
            f"SELECT {_WAIT} FROM workflow_wait WHERE state = 'waiting'"
            " AND (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR run = ?2) ORDER BY asked_ns"
        )
        return [_waiting(row) for row in self._database.query(sql, (tenant, run))]


def _run(row: tuple[Any, ...]) -> Run:
    facts = dict(zip(_RUN.split(", "), row, strict=True))
    options = RunOptions.model_validate_json(facts.pop("options"))
    inputs = json.loads(facts.pop("inputs"))
    return Run(**facts, options=options, inputs=inputs)


def _facts(stored: StoredWait) -> dict[str, Any]:
    facts = {**stored.wait.model_dump(), "level": stored.level, "seal": stored.seal}
    return facts | {name: json.dumps(facts[name]) for name in _LISTS}


def _stored(row: tuple[Any, ...]) -> StoredWait:
    return StoredWait(_waiting(row[:-1]), row[-2], row[-1])


def _waiting(row: tuple[Any, ...]) -> Waiting:
    facts: dict[str, Any] = dict(zip(_WAIT.split(", "), row, strict=True))
    del facts["level"]
    facts |= {name: tuple(json.loads(facts[name])) for name in _LISTS}
    return Waiting(**facts)
