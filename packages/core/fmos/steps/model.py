"""The words of steps: what an action is given, what it may raise, and what is known of a step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentfs import AgentFS
from fmos.canonical import canonical_json
from fmos.errors import ArgumentError
from fmos.types import Principal

#: Where an effect is: in the agent's volume; outside; or outside, where twice is the same as once.
Effect = Literal["volume", "outside", "idempotent"]
StepState = Literal["running", "done", "failed", "in_doubt"]
SagaState = Literal["open", "complete", "undoing", "undone", "stuck"]

#: What steps take and return: JSON values.
Json: TypeAlias = Any

#: An outcome is kept in two databases; what is larger belongs in a file.
MAX_BYTES = 4_000_000
_MAX_KEY = 200

#: What the key of a compensation begins with; the key of what it undoes follows.
UNDO = "undo:"


class NotDone(Exception):
    """An action raises it to say: I failed, and nothing has happened outside."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What an action is given.

    `idempotency_key` is the same whenever this step is run, in any process, and no other step's:
    hand it on to what causes an effect outside. `files` is the agent's branch; where the effect is
    in the volume, what is written there is kept together with the outcome or not at all. `outcome`
    is what the step returned that a compensation undoes; None if it is not known to have ended.
    """

    principal: Principal
    run: str
    key: str
    idempotency_key: str
    attempt: int
    inputs: Json
    files: AgentFS
    outcome: Json = None


Action: TypeAlias = Callable[[StepContext], Json]

#: Returns the outcome (True for one without a value) of what happened, False for what did not, and
#: None where it cannot tell.
Verify: TypeAlias = Callable[[StepContext], Json]


@dataclass(frozen=True, slots=True)
class Compensation:
    """What undoes a step, known by a name that outlives the process.

    Undoing an `idempotent` step may find that it never took effect: it must do nothing then.
    """

    name: str
    action: Action
    effect: Effect = "idempotent"
    verify: Verify | None = None


@dataclass(frozen=True, slots=True)
class KnownStep:
    """One step as it is stored."""

    tenant: str
    run: str
    key: str
    id: str
    principal: Principal
    effect: Effect
    inputs: Json
    undoes: str
    compensation: str | None
    state: StepState
    attempt: int
    since_ns: int
    number: int | None
    outcome: Json
    error: str


def step_id(tenant: str, run: str, key: str) -> str:
    """Return the idempotency key of a step: 32 hex digits, always the same for the same step."""
    return hashlib.sha256(canonical_json([tenant, run, key])).hexdigest()[:32]


def as_json(value: Json, what: str) -> str:
    """Return a value as canonical JSON.

    Raises:
        ArgumentError: naming `what` is no JSON, or too large.
    """
    try:
        text = canonical_json(value).decode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"{what} cannot be kept: {error}",
            hint="use text, numbers, lists and mappings with text keys",
        ) from error
    if len(text) > MAX_BYTES:
        raise ArgumentError(
            f"{what} is of {len(text)} bytes, and {MAX_BYTES} are kept",
            hint="write it to a file of the agent's branch and return the path",
        )
    return text


def check_key(value: str, what: str) -> str:
    """Return a name of a run or a step, of 1 to 200 printable characters.

    Raises:
        ArgumentError: naming `what` it cannot be.
    """
    if not 0 < len(value) <= _MAX_KEY or not value.isprintable():
        raise ArgumentError(
            f"{value[:40]!r} cannot be {what}", hint=f"give 1 to {_MAX_KEY} printable characters"
        )
    return value
