"""What the trust gate's tools take and return beside the kernel's own records."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fmos.types import Observation, Operation, Outcome, Principal, Record

ApprovalState = Literal["pending", "approved", "denied", "used"]


class Settled(Record):
    """An innocuous operation that ran without a trap, or an observation of its own."""

    operation: Operation | None = None
    outcome: Outcome | None = None
    observation: Observation | None = None


class Approval(Record):
    """One operation that waits, or waited, for a person."""

    id: str
    principal: Principal
    operation: str
    tool: str
    shown: str
    reasons: tuple[str, ...]
    digest: str
    state: ApprovalState
    created_ns: int
    expires_ns: int
    approver: str = ""
    comment: str = ""
    boot: str = Field(default="", description="the boot of the machine on which it was made")
    up_until_ns: int = Field(default=0, description="until when, by the time since that boot")
    decided_seq: int = Field(default=0, description="the journal's last row when it was answered")


class PendingApproval(Record):
    """An approval as an agent may see it."""

    id: str
    operation: str
    tool: str
    arguments: str
    reasons: tuple[str, ...]
    session: str
    expires_ns: int


class Pending(Record):
    """The approvals that wait."""

    approvals: tuple[PendingApproval, ...]


class Settlement(Record):
    """The outcome and the observation are noted."""

    ok: bool = True
    table: str = Field(default="", description="version of the agent's trap table as it is now")


class Registration(Record):
    """How many tools are registered, and the version of the trap table they give."""

    registered: int
    table_version: str
