"""Reads rows of a journal for people and agents: as they may be shown, the newest of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from agentfs import AgentFS
from agentfs.types import JournalRow
from fmos.audit.shown import shown
from fmos.audit.tree import TreeStore
from fmos.runtime.kernel import Kernel

_SCANNED = 5_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows somebody wants; what is empty lets all through.

    `application` counts only together with an agent.
    """

    agent: str = ""
    application: str = ""
    session: str = ""
    kind: str = ""
    operation: str = ""
    since: int = 0
    until: int | None = None

    def passes(self, row: JournalRow, *, exactly: bool) -> bool:
        """Return whether a row is wanted; `exactly` lets through one agent's own events only."""
        if self.operation and row.detail.get("id") != self.operation:
            return False
        if not (exactly or self.agent or self.session):
            return True
        parts = row.principal.split("/")
        if len(parts) != 4:
            return False
        if exactly and (parts[1:3] != [self.application or "-", self.agent] or not _is_event(row)):
            return False
        return parts[2] == (self.agent or parts[2]) and parts[3] == (self.session or parts[3])


def _is_event(row: JournalRow) -> bool:
    """Return whether a row is of the kernel and not of the file system below it."""
    return "." in row.operation and not row.operation.startswith(("gc.", "kv.", "fsck."))


def rows_of(
    kernel: Kernel, tenant: str, wanted: Wanted, count: int, *, exactly: bool = False
) -> list[dict[str, Any]]:
    """Return the newest rows that are wanted, oldest first, as they may leave the home."""
    found: deque[JournalRow] = deque(maxlen=count)
    for rows in _from_the_end(kernel, tenant, wanted):
        fitting = [row for row in rows if wanted.passes(row, exactly=exactly)]
        found.extendleft(reversed(fitting[-(count - len(found)) :] if fitting else []))
        if len(found) >= count:
            break
    digest = kernel.keys_of(tenant).digest
    return [shown(row, digest).fields for row in found]


def row_before(volume: AgentFS, time_ns: int) -> int:
    """Return the number of the last row from before a time (nanoseconds), by the host's clock.

    Rows are taken to be in the order of time; 0, or where the journal begins, if all are later.
    """
    numbers = range(volume.journal_start().seq + 1, TreeStore(volume).head() + 1)

    def written_ns(seq: int) -> int:
        return next(volume.journal(seq - 1, 1, until=seq)).time_ns

    return numbers.start - 1 + bisect_left(numbers, time_ns, key=written_ns)


def _from_the_end(kernel: Kernel, tenant: str, wanted: Wanted) -> Iterator[list[JournalRow]]:
    """Yield pages of rows, the newest first."""
    volume = kernel.volume(tenant)
    if wanted.operation:
        numbers = TreeStore(volume).rows_of(wanted.operation)
        yield [row for each in numbers for row in volume.journal(each - 1, 1, until=each)]
        return
    head, start = TreeStore(volume).head(), volume.journal_start().seq
    until = head if wanted.until is None else min(wanted.until, head)
    floor = max(wanted.since, start)
    kind = wanted.kind or None
    while until > floor:
        since = max(floor, until - _SCANNED)
        yield list(islice(volume.journal(since, operation=kind, until=until), _SCANNED))
        until = since
