"""The kernel's records: operation, principal, verdict, outcome, observation.

Owns the shapes that cross a process border (published as JSON schemas in docs/spec/);
behaviour belongs to the packages beside this file.
"""

from __future__ import annotations

import re
import time
import uuid
from enum import StrEnum
from typing import Annotated, Any, Literal, NewType, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator

from fmos.errors import ArgumentError

TenantId = NewType("TenantId", str)

DEFAULT_TENANT = TenantId("default")

#: What an id may be made of: it becomes a file name, a branch name and a part of an account path.
IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$"
_OPTIONAL_IDENTIFIER = r"^([A-Za-z0-9][A-Za-z0-9._@+-]{0,127})?$"
_IDENTIFIER = re.compile(IDENTIFIER)

#: The branch that new agents are forked from; no agent may have its name.
TEMPLATE_BRANCH = "main"


class OperationKind(StrEnum):
    """What an agent may ask for; each kind has one owning server."""

    MODEL_GENERATE = "model.generate"
    TOOL_CALL = "tool.call"
    MEMORY_READ = "memory.read"
    MEMORY_WRITE = "memory.write"
    CONTEXT_COMPOSE = "context.compose"
    CHECKPOINT_WRITE = "checkpoint.write"
    FS_READ = "fs.read"
    FS_WRITE = "fs.write"
    MESSAGE_SEND = "message.send"
    SKILL_LOAD = "skill.load"


class OperationClass(StrEnum):
    """How the trap table classes an operation (Popek and Goldberg, CACM 17(7), 1974)."""

    INNOCUOUS = "innocuous"
    SENSITIVE = "sensitive"
    PRIVILEGED = "privileged"


class Decision(StrEnum):
    """What a server answers to a trapped operation."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"
    TRANSFORM = "transform"


class OutcomeStatus(StrEnum):
    """How an operation ended; `unknown` is what a crash leaves behind."""

    OK = "ok"
    FAILED = "failed"
    DENIED = "denied"
    UNKNOWN = "unknown"


class Record(BaseModel):
    """A frozen value that refuses fields it does not know: what comes in is checked at the door.

    An answer is read with `from_answer`, which passes over such fields, so that a newer server may
    say more than an older client understands.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def from_answer(cls, answer: Any) -> Self:
        """Return the record in a server's answer, without the fields that this version lacks."""
        return cls.model_validate(answer, extra="ignore")


def checked_id(value: str, what: str) -> str:
    """Return an id that may be a file name, a branch name and a part of an account path.

    Raises:
        ArgumentError: naming `what` the id is of.
    """
    if _IDENTIFIER.fullmatch(value) is None:
        shown = repr(value if len(value) <= 80 else value[:77] + "...")
        raise ArgumentError(
            f"{shown} cannot be {what}",
            hint="use at most 128 letters, digits and ._@+-, starting with a letter or digit",
        )
    return value


def new_id() -> str:
    """Return a fresh id that sorts by creation time (UUID version 7, RFC 9562, as hex)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | (uuid.uuid4().int & ((1 << 80) - 1))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return f"{value:032x}"


class Principal(Record):
    """Who asks: tenant, application, agent, session, and the branch the agent's state is on."""

    tenant: str = Field(default=DEFAULT_TENANT, pattern=IDENTIFIER)
    application: str = Field(default="", pattern=_OPTIONAL_IDENTIFIER)
    agent: str = Field(default="", pattern=_OPTIONAL_IDENTIFIER)
    session: str = Field(default="", pattern=_OPTIONAL_IDENTIFIER)
    branch: str = ""
    role: str = Field(
        default="", pattern=_OPTIONAL_IDENTIFIER, description="whose policies bind it as well"
    )
    project: str = Field(
        default="", max_length=4096, description="folder whose trusted policies bind it as well"
    )

    @field_validator("agent")
    @classmethod
    def _not_the_template(cls, agent: str) -> str:
        if agent == TEMPLATE_BRANCH:
            raise ValueError(
                f"{agent!r} is the branch that new agents are made from; choose another"
            )
        return agent

    @property
    def agent_key(self) -> str:
        """What tells this agent from all others of the tenant; no id holds a colon."""
        return f"{self.application}:{self.agent}" if self.application else self.agent

    @property
    def branch_name(self) -> str:
        """The branch of the tenant's volume that holds the agent's state: by default its key."""
        return self.branch or self.agent_key or TEMPLATE_BRANCH

    def __str__(self) -> str:
        parts = (self.tenant, self.application, self.agent, self.session)
        return "/".join(part or "-" for part in parts)


class Operation(Record):
    """Something an agent asks for. The id is the same in every store that hears of it."""

    id: str = Field(default_factory=new_id, min_length=1, max_length=64)
    kind: OperationKind
    name: str = Field(min_length=1, max_length=256, description="the tool, model or memory asked")
    arguments: dict[str, Any] = Field(default_factory=dict)
    principal: Principal = Field(default_factory=Principal)
    labels: tuple[str, ...] = ()
    hints: dict[str, FiniteFloat] = Field(
        default_factory=dict,
        description="what the caller knows about its own certainty: docs/spec/trap-abi.md",
    )
    cost_estimate: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, description="resource name to amount, in the ledger's units"
    )
    parent: str | None = Field(default=None, description="id of the operation that caused this one")
    trace: str | None = Field(default=None, description="W3C trace id, 32 hex digits")
    span: str | None = Field(
        default=None, description="W3C id of the span around it, 16 hex digits"
    )


Layer = Literal["", "input", "selection", "execution", "audit"]


class Reason(Record):
    """One reason of a verdict: a stable code, a sentence, and the rule that gave it."""

    code: str
    message: str
    rule: str = ""
    layer: Layer = Field(default="", description="at which of the gate's layers it was found")
    change: str = Field(default="", description="what would change the verdict")


class Obligation(Record):
    """What the caller must do with an allowed or asked operation, such as `run_on_fork`."""

    kind: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class Verdict(Record):
    """A server's answer to one trapped operation."""

    operation: str = Field(description="id of the operation")
    decision: Decision
    reasons: tuple[Reason, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    arguments: dict[str, Any] | None = Field(
        default=None, description="with `transform`: the arguments to use instead"
    )
    approval: str | None = Field(default=None, description="with `ask`: the approval that waits")
    reservation: str | None = Field(default=None, description="what the ledger reserved for it")
    policy: str = Field(default="", description="hash of the contract and policies that decided")
    signals: tuple[str, ...] = Field(
        default=(), description="trap signals that the operation raised"
    )
    table: str = Field(default="", description="version of the agent's trap table as it is now")

    @property
    def allowed(self) -> bool:
        """Whether the operation may run now."""
        return self.decision in (Decision.ALLOW, Decision.TRANSFORM)

    @property
    def reason(self) -> str:
        """All reasons as one sentence for a person or a model."""
        return "; ".join(reason.message for reason in self.reasons)


class Outcome(Record):
    """How one operation ended, as the adapter saw it."""

    operation: str
    status: OutcomeStatus
    error: str = ""
    duration_ms: float = Field(default=0.0, ge=0)
    usage: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)


class Observation(Record):
    """What entered a session: a user's text or a tool's output."""

    operation: str = ""
    source: str = Field(description="`user`, or the name of the tool that produced it")
    text: str


class Step(Record):
    """One line of a run's timeline, as an adapter reports it."""

    operation: str = Field(description="kind and name, such as `tool.call read_file`")
    id: str
    path: str = Field(description="`fast` (classified locally) or `slow` (trapped to a server)")
    verdict: Decision
    added_ms: float = Field(description="time FMOS added: every call to a server, none of the tool")
    reason: str = ""
