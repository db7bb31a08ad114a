"""The words of runs: options, states, what waits for a person, and what is told meanwhile."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, FiniteFloat, field_validator

from fmos.contract.workflow import Workflow
from fmos.types import Record

RunState = Literal["running", "waiting", "done", "failed", "cancelled", "stuck"]
ENDED: tuple[RunState, ...] = ("done", "failed", "cancelled")
WaitState = Literal["waiting", "approved", "denied"]
WaitKind = Literal["approval", "consent", "doubt", "compensation"]

_ON_TIMEOUT = re.compile(r"deny|escalate:[^\s,]{1,100}")


class RunOptions(Record):
    """How one run deals with people and with failures."""

    timeout_s: FiniteFloat | None = Field(
        default=None, gt=0, description="how long a person is waited for; null: without end"
    )
    on_timeout: tuple[str, ...] = Field(
        default=("deny",),
        description="what each time-out does, in turn: `deny` or `escalate:NAME`",
    )
    four_eyes: bool = Field(
        default=False, description="who started the run cannot approve its steps"
    )
    actors: dict[str, str] = Field(
        default_factory=dict, description="agent to `module:function` or a command"
    )
    undo: dict[str, str] = Field(
        default_factory=dict, description="agent to what undoes its steps, written likewise"
    )
    effects: dict[str, Literal["volume", "outside", "idempotent"]] = Field(
        default_factory=dict, description="agent to where its effect is"
    )
    folder: str = Field(default="", description="where actors are looked for, and commands run")

    @field_validator("on_timeout")
    @classmethod
    def _known_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if not _ON_TIMEOUT.fullmatch(word):
                raise ValueError(f"{word!r} is neither `deny` nor `escalate:NAME`")
        return words


class Waiting(Record):
    """A question of a run that a person answers."""

    tenant: str
    run: str
    step: str
    kind: WaitKind
    about: tuple[str, ...] = Field(default=(), description="capabilities that want consent")
    consented: tuple[str, ...] = Field(default=(), description="let through by earlier answers")
    asked_ns: int
    due_ns: int | None = None
    asked_of: str = Field(default="", description="whom it was escalated to")
    state: WaitState = "waiting"
    answered_by: str = ""
    comment: str = ""


class Run(Record):
    """One run of a workflow as it is stored."""

    tenant: str
    run: str
    workflow: str
    digest: str
    application: str
    state: RunState
    reason: str
    requested_by: str
    started_ns: int
    changed_ns: int
    options: RunOptions
    inputs: dict[str, Any]


class StepView(Record):
    """One step of a run, for a person."""

    step: str
    agent: str
    state: str = Field(description="planned, waiting, running, done, failed, in_doubt, undone")
    attempt: int = 0
    manifest: str = Field(default="", description="hash of what it was bound to")
    account: str = ""
    inputs: Any = None
    outputs: Any = None
    error: str = ""


class RunView(Record):
    """A run with its steps and what it waits for."""

    run: Run
    steps: tuple[StepView, ...]
    waiting: tuple[Waiting, ...]


class Progress(Record):
    """Something that happened while a run was advanced."""

    what: Literal["start", "done", "retry", "waiting", "undone", "ended"]
    step: str = ""
    said: str = ""


class StoredRun(Record):
    """A run with its document."""

    run: Run
    document: Workflow
