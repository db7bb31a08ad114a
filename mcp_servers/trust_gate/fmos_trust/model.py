"""What the trust gate's tools take and return beside the kernel's own records."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fmos.types import Observation, Operation, Outcome, Principal, Reason, Record

ApprovalState = Literal["pending", "approved", "denied", "used", "replaced"]


class Settled(Record):
    """An innocuous operation that ran without a trap, or an observation of its own."""

    operation: Operation | None = None
    outcome: Outcome | None = None
    observation: Observation | None = None


class ShownEffect(Record):
    """What a call did on a fork, as a person is shown it."""

    branch: str = Field(description="the fork that a yes merges")
    digest: str = Field(description="of all that the merge changes; it must be the same then")
    paths: tuple[tuple[str, str, int], ...] = Field(description="kind, path and size of each")
    patch: str = Field(description="a unified diff without secrets, possibly cut")


class Approval(Record):
    """One operation that waits, or waited, for a person."""

    id: str
    principal: Principal
    operation: str
    server: str = Field(default="", description="the server that the tool is of")
    kind: str = ""
    tool: str
    shown: str
    reasons: tuple[str, ...]
    findings: tuple[Reason, ...] = ()
    policy: str = Field(default="", description="digest of the contract and descriptor that judged")
    digest: str
    nonce: str = Field(default="", description="makes the seal of each approval its own")
    state: ApprovalState
    created_ns: int
    expires_ns: int
    approver: str = ""
    comment: str = ""
    boot: str = Field(default="", description="the boot of the machine on which it was made")
    up_until_ns: int = Field(default=0, description="until when, by the time since that boot")
    decided_seq: int = Field(default=0, description="the journal's last row when it was answered")
    effect: ShownEffect | None = None
    expired: bool = False

    def escalated(self, now_ns: int) -> bool:
        """Return whether half of the time for an answer has passed without one."""
        return self.state == "pending" and now_ns * 2 >= self.created_ns + self.expires_ns


class Tried(Record):
    """On which fork a call ran before it was approved, and what it printed there."""

    branch: str = ""
    output: str = ""


NOT_TRIED = Tried()


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


class Registration(Record):
    """How many tools are in force, what waits, and the version of the trap table they give."""

    registered: int
    table_version: str
    waiting: tuple[str, ...] = Field(
        default=(), description="tools that are denied until a person runs `fmos tools approve`"
    )
