"""Which delegations bind an agent at this moment: its own, and those of all it descends from.

Looked at in every operation of an agent that has a parent. What cannot be used stops the agent, and
nothing falls back to what it would have without a delegation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fmos.clock import Clock
from fmos.delegation.model import Delegation
from fmos.delegation.store import DelegationStore, Row
from fmos.delegation.token import Keys, problem, read_token
from fmos.errors import DeniedError
from fmos.storage.database import Database

#: Uses are noted this coarsely, so that a call does not cost a write.
_NOTED_EVERY_NS = 60_000_000_000
_KEPT = 1024


class Held(NamedTuple):
    """The delegations that an agent acts under, nearest first; `refused` says why it may not."""

    delegations: tuple[Delegation, ...] = ()
    refused: str = ""

    @property
    def ends_ns(self) -> int:
        """When the first of them ends; 0 where there is none."""
        return min((each.expires_ns for each in self.delegations), default=0)


NOTHING_HELD = Held()


class Delegations:
    """The delegations of one home. Thread-safe, and safe across processes."""

    def __init__(
        self, database: Database, clock: Clock, keys_of: Callable[[str], Keys], *, looking: bool
    ) -> None:
        self._store = DelegationStore(database)
        self._clock = clock
        self._keys_of = keys_of
        self._looking = looking
        self._lock = threading.Lock()
        self._read: dict[tuple[str, str], Delegation] = {}

    def held(self, tenant: str, lineage: Sequence[str]) -> Held:
        """Return what an agent of this lineage (its own key first) acts under now."""
        rows = self._store.of(tenant, lineage) if len(lineage) > 1 else {}
        if not rows:
            return NOTHING_HELD
        found: list[Delegation] = []
        for place, key in enumerate(lineage):
            row = rows.get(key)
            if row is None:
                continue
            parent = lineage[place + 1] if place + 1 < len(lineage) else ""
            delegation, refused = self._one(row, tenant, key, parent)
            if refused or delegation is None:
                whose = "" if place == 0 else f" (the agent {key!r}, which it descends from)"
                return Held((), f"the agent {lineage[0]!r} may do nothing{whose}: {refused}")
            found.append(delegation)
        return Held(tuple(found))

    def of_tenant(self, tenant: str) -> list[tuple[Row, Delegation | None, str]]:
        """Return every delegation of a tenant, and why it does not count."""
        found: list[tuple[Row, Delegation | None, str]] = []
        for row in self._store.of_tenant(tenant):
            delegation, refused = self._one(row, tenant, row.child, "")
            found.append((row, delegation, refused))
        return found

    def put(self, delegation: Delegation, token: str) -> None:
        """Let a delegation count, in the place of the one that the sub-agent had."""
        row = Row(
            delegation.tenant, delegation.child, delegation.id, token, delegation.issued_ns
        )  # fmt: skip
        self._store.put(row)

    def find(self, tenant: str, child: str) -> Row | None:
        """Return the row of a sub-agent."""
        return self._store.of(tenant, [child]).get(child)

    def end(self, row: Row, why: str) -> bool:
        """End a delegation for good; return whether it had not ended before."""
        return self._store.end(row, why)

    def forget(self, tenant: str, child: str) -> None:
        """Let go of the delegation of an id that is nobody's any more."""
        self._store.forget(tenant, child)

    def _one(self, row: Row, tenant: str, key: str, parent: str) -> tuple[Delegation | None, str]:
        """Return a row's delegation, and why it does not count for the agent of this key."""
        try:
            delegation = self._verified(row.token, tenant)
        except DeniedError as error:
            return None, str(error)
        why = row.ended or problem(delegation, tenant, key, self._clock, row.seen_ns)
        if not why and parent and delegation.parent.agent_key != parent:
            why = f"its delegation is from {delegation.parent.agent_key!r}, not from {parent!r}"
        if why:
            if not row.ended and why.endswith("expired") and not self._looking:
                self._store.end(row, why)  # a clock that is set back does not revive it
            return delegation, why
        now_ns = self._clock.now_ns()
        if now_ns - row.seen_ns >= _NOTED_EVERY_NS and not self._looking:
            self._store.seen(row, now_ns)
        return delegation, ""

    def _verified(self, token: str, tenant: str) -> Delegation:
        """Return the delegation of a signed text, the same object while the key is the same."""
        keys = self._keys_of(tenant)
        known = (getattr(keys, "public_key", ""), token)
        found = self._read.get(known)
        if found is None:
            found = read_token(token, keys)
            with self._lock:
                if len(self._read) >= _KEPT:
                    self._read.clear()
                self._read[known] = found
        return found
