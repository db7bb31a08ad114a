"""What the volume knows about runs: those under way, and one journal row for each that ended.

A run that was killed left its row in `ext_run_open`. Whoever finds it brings in what the run left
on the host and writes its journal row, both in the transaction that removes it: exactly once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentfs import journal
from agentfs.types import Change

from .backends import Target

if TYPE_CHECKING:
    from agentfs.extensions import Extension
    from agentfs.filesystem import AgentFS

OPERATION = "run"
PATHS = 50
_DDL = """
CREATE TABLE IF NOT EXISTS ext_run_open(
  id TEXT PRIMARY KEY,
  branch TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
"""
_ADD = "INSERT INTO ext_run_open(id, branch, detail) VALUES (?, ?, ?)"
_TAKE = "DELETE FROM ext_run_open WHERE id = ? RETURNING id"
_ALL = "SELECT id, branch, detail FROM ext_run_open ORDER BY id"


@dataclass(frozen=True, slots=True)
class Changes:
    """How many paths a run added, modified (content, mode or kind) and removed."""

    added: int = 0
    modified: int = 0
    removed: int = 0
    paths: tuple[str, ...] = ()
    """All of them, sorted."""

    @property
    def total(self) -> int:
        """Return how many paths changed."""
        return self.added + self.modified + self.removed

    @classmethod
    def of(cls, changes: Iterable[Change]) -> Changes:
        """Count the changes of a diff."""
        found = list(changes)
        added, removed = (
            sum(1 for each in found if each.kind == kind) for kind in ("added", "removed")
        )
        paths = tuple(each.path for each in found)
        return cls(added, len(found) - added - removed, removed, paths)

    def facts(self) -> dict[str, int]:
        """Return the three numbers by name."""
        return {"added": self.added, "modified": self.modified, "removed": self.removed}


@dataclass(frozen=True, slots=True)
class Open:
    """A run that has begun: `seq` is the journal row before it, `place` its directory."""

    id: str
    branch: str
    command: tuple[str, ...]
    backend: str
    target: Target
    place: str
    seq: int
    started_ns: int
    confined: bool
    network: bool
    pid: int


def _table(fs: AgentFS) -> Extension:
    return fs.extension("run", _DDL)


def begin(fs: AgentFS, run: Open) -> None:
    """Note that a run begins."""
    detail = {
        "command": run.command, "backend": run.backend, "at": run.target.at,
        "host": run.target.host, "place": run.place, "seq": run.seq,
        "started_ns": run.started_ns, "confined": run.confined, "network": run.network,
        "pid": run.pid,
    }  # fmt: skip
    table = _table(fs)
    with fs.transaction():
        table.execute(_ADD, (run.id, run.branch, json.dumps(detail)))


def forget(fs: AgentFS, run: Open) -> None:
    """Take back that a run began, because its command did not."""
    table = _table(fs)
    with fs.transaction():
        table.execute(_TAKE, (run.id,))


def end(
    fs: AgentFS, run: Open, changes: Changes, duration_s: float | None, **more: object
) -> int | None:
    """Write a run's journal row and return its number; None if somebody else wrote it already.

    Called in the transaction that brings the run's changes in.
    """
    table = _table(fs)
    with fs.transaction():
        if not table.execute(_TAKE, (run.id,)):
            return None
        detail: dict[str, Any] = {
            "command": list(run.command), "backend": run.backend, "host": run.target.host,
            "confined": run.confined, "network": run.network, "since": run.seq,
            "duration_s": None if duration_s is None else round(duration_s, 3),
            "changes": changes.facts(), "paths": list(changes.paths[:PATHS]), **more,
        }  # fmt: skip
        with fs.view_for_writing() as view:
            return journal.append(view, OPERATION, run.target.at, detail=detail)


def unfinished(fs: AgentFS) -> list[Open]:
    """Return the runs of a volume that have begun and not ended, oldest first."""
    return [_from_row(*row) for row in _table(fs).query(_ALL)]


def _from_row(name: str, branch: str, text: str) -> Open:
    detail = json.loads(text)
    return Open(
        name, branch, tuple(detail["command"]), detail["backend"],
        Target(detail["at"], detail["host"]), detail["place"], detail["seq"],
        detail["started_ns"], detail["confined"], detail["network"],
        detail["pid"],
    )  # fmt: skip
