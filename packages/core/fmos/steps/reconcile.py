"""Puts right what a killed process left between the two files of a home: kernel.db and the volume.

An operation that was asked for and never ended gets the outcome `unknown`, once. What the ledger
holds for an operation whose outcome is known is committed or given back. Steps are told what their
volume knows of them. Each look costs what the journal got since the last one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentfs import AgentFS
from agentfs.errors import AgentFSError, BranchNotFound
from fmos.errors import ArgumentError, FmosError
from fmos.ledger.model import RESOURCES, Known
from fmos.ledger.owners import is_dead
from fmos.runtime.kernel import Kernel
from fmos.steps.holding import is_abandoned
from fmos.steps.steps import Steps
from fmos.steps.store import OpenIntent, StepStore, owner_of
from fmos.types import TEMPLATE_BRANCH, OutcomeStatus

#: An operation of a process that is not known is given up after this.
UNKNOWN_AFTER_S = 3600

_INTENT, _OUTCOME = "op.intent", "op.outcome"
_ALLOWED = ("allow", "transform")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How many things were put right: outcomes, reservations (two ways), and steps."""

    unknown: int = 0
    settled: int = 0
    expired: int = 0
    steps: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return self.unknown + self.settled + self.expired + self.steps


def reconcile(kernel: Kernel, tenant: str | None = None) -> Reconciled:
    """Put right what killed processes left, of one tenant or of all; it may be called at any time.

    A tenant whose volume cannot be read is passed over: `fmos doctor` says what is wrong with it.
    """
    unknown = settled = 0
    for name in kernel.home.tenants() if tenant is None else [tenant]:
        try:
            found = _Tenant(kernel, name).put_right()
        except (AgentFSError, ArgumentError):  # the second where a file's name is no tenant's
            continue
        unknown, settled = unknown + found[0], settled + found[1]
    steps = len(Steps(kernel).settle_abandoned(tenant))
    return Reconciled(unknown, settled, kernel.ledger.expire(), steps)


def look(kernel: Kernel, tenant: str | None = None) -> Reconciled:
    """Return what `reconcile` would put right now, and change nothing.

    The kernel is one that only looks (`Kernel.look`): what expires does so in its copy alone.
    """
    if not kernel.looking:
        raise ValueError("a kernel that is not looking would change what it looks at")
    unknown = settled = 0
    for name in kernel.home.tenants() if tenant is None else [tenant]:
        try:
            found = _Tenant(kernel, name).to_put_right()
        except (AgentFSError, ArgumentError):
            continue
        unknown, settled = unknown + found[0], settled + found[1]
    now_ns = kernel.clock.now_ns()
    steps = sum(is_abandoned(row, now_ns) for row in StepStore(kernel.database).running(tenant))
    return Reconciled(unknown, settled, kernel.ledger.expire(), steps)


def reconcile_home(kernel: Kernel) -> int:
    """Do what `reconcile` does for the whole home; return how many things were put right."""
    return reconcile(kernel).total


@dataclass(slots=True)
class _Seen:
    """What a tenant's journal says up to row `seq` of operations that have not ended before it."""

    seq: int
    open: dict[str, OpenIntent]
    ended: dict[str, tuple[OpenIntent, Mapping[str, Any]]]


class _Tenant:
    """The look at one tenant."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self._kernel = kernel
        self._name = name
        self._store = StepStore(kernel.database)

    def put_right(self) -> tuple[int, int]:
        """Return how many outcomes were written and reservations settled."""
        begin = self._store.reconciled(self._name)
        known = {each.id: each for each in self._store.open_intents(self._name)}
        seen = _Seen(begin, dict(known), {})
        volume = self._kernel.volume(self._name)
        self._read(volume, seen, until=volume.watch().seq)
        lost = [each for each in seen.open.values() if self._has_ended(each)]
        if lost:
            # Nobody else writes meanwhile, so that what was not written yet is not written twice.
            with volume.transaction():
                self._read(volume, seen)
                lost = [each for each in lost if each.id in seen.open]
                for each in lost:
                    self._write_unknown(volume, each)
                    del seen.open[each.id]
        settled = sum(self._settle(*each) for each in seen.ended.values())
        self._remember(begin, known, seen)
        return len(lost), settled

    def to_put_right(self) -> tuple[int, int]:
        """Return how many outcomes `put_right` would write now, and reservations settle."""
        known = {each.id: each for each in self._store.open_intents(self._name)}
        seen = _Seen(self._store.reconciled(self._name), known, {})
        volume = self._kernel.volume(self._name)
        self._read(volume, seen, until=volume.watch().seq)
        lost = sum(self._has_ended(each) for each in seen.open.values())
        return lost, sum(self._to_settle(*each) is not None for each in seen.ended.values())

    def _read(self, volume: AgentFS, seen: _Seen, until: int | None = None) -> None:
        """Read the journal's new rows; without `until` nobody may be writing."""
        since = seen.seq
        for row in volume.journal(since=since, until=until, operation=_INTENT):
            seen.seq = max(seen.seq, row.seq)
            if row.detail.get("decision") in _ALLOWED:
                seen.open[row.detail["id"]] = OpenIntent(
                    self._name,
                    row.detail["id"],
                    row.principal,
                    row.branch,
                    row.time_ns,
                    _process_text(row.detail.get("process")),
                    row.detail.get("reservation") or "",
                )
        for row in volume.journal(since=since, until=until, operation=_OUTCOME):
            seen.seq = max(seen.seq, row.seq)
            asked = seen.open.pop(row.detail["id"], None)
            if asked is not None:
                seen.ended[asked.id] = (asked, row.detail)

    def _has_ended(self, asked: OpenIntent) -> bool:
        """Return whether nobody can tell the outcome any more."""
        process = owner_of(asked.process) if asked.process else None
        if process is not None:
            return is_dead(process)
        held = self._held(asked.reservation)
        if held is not None and held.state == "open":
            return False
        return self._kernel.clock.now_ns() - asked.at_ns > UNKNOWN_AFTER_S * 1_000_000_000

    def _write_unknown(self, volume: AgentFS, asked: OpenIntent) -> None:
        """Note in the name of who asked that nobody knows, with what the ledger knows was used."""
        held = self._held(asked.reservation)
        detail = {
            "id": asked.id,
            "status": OutcomeStatus.UNKNOWN.value,
            "duration_ms": 0.0,
            "usage": (held.used or {}) if held is not None else {},
            "reconciled": True,
        }
        try:
            handle = volume.on(asked.branch, principal=asked.principal)
        except BranchNotFound:  # the agent is gone; its history is not
            handle = volume.on(TEMPLATE_BRANCH, principal=asked.principal)
        handle.record(_OUTCOME, detail)

    def _to_settle(
        self, asked: OpenIntent, outcome: Mapping[str, Any]
    ) -> tuple[Known, dict[str, int]] | None:
        """Return what is still held for an operation that has ended, and what it used."""
        held = self._held(asked.reservation)
        if held is None or held.state not in ("open", "expired") or not self._is_left(asked):
            return None
        used = {name: n for name, n in outcome.get("usage", {}).items() if name in RESOURCES}
        return (held, used) if used or held.state == "open" else None

    def _settle(self, asked: OpenIntent, outcome: Mapping[str, Any]) -> bool:
        """Commit or give back what is still held for an operation that has ended."""
        found = self._to_settle(asked, outcome)
        if found is None:
            return False
        held, used = found
        try:
            if used:
                amounts = {**held.reservation.amounts, **used}
                self._kernel.ledger.commit(held.reservation.id, amounts)
            else:
                self._kernel.ledger.refund(held.reservation.id)
        except FmosError:  # its own process was faster
            return False
        return True

    def _is_left(self, asked: OpenIntent) -> bool:
        """Return whether the process that should settle it has ended, or has had its time."""
        process = owner_of(asked.process) if asked.process else None
        if process is not None:
            return is_dead(process)
        return self._kernel.clock.now_ns() - asked.at_ns > UNKNOWN_AFTER_S * 1_000_000_000

    def _held(self, reservation: str) -> Known | None:
        return self._kernel.ledger.find(reservation) if reservation else None

    def _remember(self, begin: int, known: Mapping[str, OpenIntent], seen: _Seen) -> None:
        """Keep how far this came, unless another process has come further meanwhile."""
        unsettled = [asked for asked, _ in seen.ended.values() if self._still_held(asked)]
        if seen.seq == begin and seen.open == known:
            return
        with self._kernel.database.transaction():
            if self._store.reconciled(self._name) != begin or unsettled:
                return  # what is unsettled is read again: its process lives and will settle it
            self._store.put_reconciled(self._name, seen.seq)
            self._store.put_intents(seen.open.values())
            self._store.drop_intents(self._name, known.keys() - seen.open.keys())

    def _still_held(self, asked: OpenIntent) -> bool:
        held = self._held(asked.reservation)
        return held is not None and held.state == "open"


def _process_text(process: object) -> str:
    return json.dumps(process, separators=(",", ":")) if process else ""
