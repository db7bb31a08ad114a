"""What an agent may ask of the journal: its own events, and whether the journal is whole."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from fmos.audit.query import Wanted, rows_of
from fmos.audit.verify import verify_tail
from fmos.runtime.kernel import Kernel
from fmos.types import Principal, Record

MAX_ROWS = 200


class AuditRow(Record):
    """One event of the journal; texts in it are hidden."""

    seq: int
    time_ns: int
    session: str = Field(description="in which session of the agent; empty for none")
    kind: str = Field(description="such as op.intent (asked) and op.outcome (how it ended)")
    detail: dict[str, Any]


class AuditRows(Record):
    """An agent's events, oldest first."""

    rows: tuple[AuditRow, ...]


class AuditCheck(Record):
    """Whether the newest rows of the journal are as they were written."""

    ok: bool
    first_bad: int | None = Field(description="the first row that is not")
    problems: tuple[str, ...]
    unseen: tuple[str, ...] = Field(description="what such a check cannot see")


class AuditService:
    """Reads one home's journals for agents. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def query(
        self, who: Principal, *, kind: str, operation: str, since: int, limit: int
    ) -> AuditRows:
        """Return the newest events of one agent; of one session, where the caller has one."""
        wanted = Wanted(
            agent=who.agent, application=who.application, session=who.session, kind=kind,
            operation=operation, since=since,
        )  # fmt: skip
        if self._kernel.known_agent_fs(who) is None:
            return AuditRows(rows=())
        rows = rows_of(self._kernel, who.tenant, wanted, limit, exactly=True)
        return AuditRows(rows=tuple(_row(each) for each in rows))

    def verify(self, who: Principal) -> AuditCheck:
        """Check the newest checkpoint of the agent's tenant and the rows after it."""
        report = verify_tail(self._kernel, who.tenant)
        return AuditCheck(
            ok=report.ok,
            first_bad=report.first_bad,
            problems=tuple(each.sentence for each in report.problems),
            unseen=tuple(report.unseen),
        )


def _row(fields: dict[str, Any]) -> AuditRow:
    session = fields["principal"].split("/")[3]
    return AuditRow(
        seq=fields["seq"],
        time_ns=fields["time_ns"],
        session="" if session == "-" else session,
        kind=fields["operation"],
        detail=fields["detail"],
    )
