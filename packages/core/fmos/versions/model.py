"""The records of versions: what is served, what is proposed, and how it did."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from fmos.types import Record

#: The kinds whose content is checked.
POLICY, TRAP_MODEL, TRUST_POLICY = "policy", "trap_model", "trust_policy"

#: The kinds that FMOS has a word for; an application may have others.
KNOWN_KINDS = (POLICY, "prompt", TRAP_MODEL, TRUST_POLICY, "tool_hint", "budget_prior")

Better = Literal["higher", "lower"]
Outcome = Literal["passed", "inconclusive", "regressed", "too_few"]


class Status(StrEnum):
    """Where one version is."""

    CANDIDATE = "candidate"
    CANARY = "canary"
    ACCEPTED = "accepted"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"
    REVERTED = "reverted"


class Comparison(Record):
    """One metric before and after, on the same traces; `improvement` is above 0 where better."""

    metric: str
    better: Better
    before: FiniteFloat
    after: FiniteFloat
    improvement: FiniteFloat
    low: FiniteFloat = Field(description="of the paired bootstrap interval, 95 %")
    high: FiniteFloat


class Evaluation(Record):
    """How a candidate did on held-out traces, against the version that was accepted then."""

    outcome: Outcome
    metric: str
    why: str
    base: str = Field(description="id of the version that it was compared with; empty: none")
    traces: int = Field(description="held-out traces, all of which both versions were given")
    source: str = Field(description="SHA-256 of all traces, held out or not")
    comparisons: tuple[Comparison, ...] = ()
    changed: dict[str, int] = Field(
        default_factory=dict, description="of a policy: how many decisions changed, and to what"
    )
    by: str
    at_ns: int


class Candidate(Record):
    """One version that somebody proposed. `id` is the SHA-256 of its content."""

    schema_version: Literal[1] = 1
    tenant: str
    kind: str
    name: str
    id: str
    size: int
    authors: tuple[str, ...]
    why: str
    metric: str
    better: Better
    base: str = Field(description="id of the version that was accepted then; empty: none")
    status: Status = Status.CANDIDATE
    proposed_ns: int
    evaluation: Evaluation | None = None
    accepted_by: str = ""

    @property
    def key(self) -> str:
        """What tells the artefact from all others of the tenant."""
        return f"{self.kind}/{self.name}"

    @property
    def branch(self) -> str:
        """The fork of the template branch that holds it."""
        return f"versions/{self.kind}/{self.name}/{self.id}"

    @property
    def path(self) -> str:
        """Where its content lies in that fork, and in the template branch once accepted."""
        return artefact_path(self.kind, self.name)

    @property
    def label(self) -> str:
        """How a person reads it."""
        return f"{self.key}@{self.id[:12]}"


class Canary(Record):
    """A candidate that a share of the sessions gets."""

    id: str
    share: Annotated[float, Field(gt=0, le=1)]
    metric: str
    better: Better
    since_seq: int = Field(description="journal row after which sessions are compared")
    started_ns: int
    by: str


class Freeze(Record):
    """Who froze what, and why."""

    by: str
    why: str
    at_ns: int


class Served(Record):
    """What is served of one artefact."""

    accepted: str = ""
    history: tuple[str, ...] = Field(
        default=(), description="ids that were accepted before, the last one last"
    )
    canary: Canary | None = None


class Register(Record):
    """What a tenant serves: the one file that every consumer's question reads."""

    schema_version: Literal[1] = 1
    artefacts: dict[str, Served] = Field(default_factory=dict, description="by kind/name")
    frozen: dict[str, Freeze] = Field(
        default_factory=dict, description="by `` (all), kind, or kind/name"
    )

    def of(self, key: str) -> Served:
        """Return what is served of an artefact."""
        return self.artefacts.get(key, _NOTHING)

    def freeze_of(self, key: str) -> Freeze | None:
        """Return what holds an artefact as it is, or None."""
        kind = key.partition("/")[0]
        found = (self.frozen.get(each) for each in ("", kind, key))
        return next((each for each in found if each is not None), None)

    def with_served(self, key: str, served: Served) -> Register:
        """Return the register with another entry."""
        return self.model_copy(update={"artefacts": {**self.artefacts, key: served}})


@dataclass(frozen=True, slots=True)
class Artefact:
    """What a consumer gets; `version` is its id, for the attribution of a run."""

    kind: str
    name: str
    version: str
    content: bytes
    canary: bool = False


_NOTHING = Served()


def artefact_path(kind: str, name: str) -> str:
    """Return the path of an accepted artefact in the template branch."""
    return f"/.fmos/artefacts/{kind}/{name}"
