"""The steps of a sequence, what is seen of them, and the report of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from pydantic import Field, FiniteFloat

from fmos.types import Record

#: Is told what is worked on, and how much of it is done.
Progress: TypeAlias = Callable[[str, int], None]

Does = Literal["tool", "model", "remember", "recall", "observe", "answer", "advance"]


class Step(Record):
    """One operation of a sequence; docs/equivalence.md says which field counts for which."""

    do: Does
    name: str = Field(default="", max_length=256, description="of the tool or the model")
    arguments: dict[str, Any] = Field(default_factory=dict, description="of the tool")
    text: str = Field(default="", max_length=1_000_000, description="to remember, find or observe")
    tokens: int = Field(default=1, ge=0, le=10**12, description="that a model call reserves")
    used: int | None = Field(default=None, ge=0, le=10**12, description="null: all of `tokens`")
    fails: bool = Field(default=False, description="the tool runs, and fails")
    approve: bool = Field(default=True, description="what a person answers to what waits")
    seconds: FiniteFloat = Field(default=0, ge=0, le=10**9, description="by which time moves on")


class Tolerance(Record):
    """How far two runs may differ and still count as equivalent.

    Times, generated ids and hashes never count.
    """

    spend: int = Field(default=0, ge=0, description="of any resource, in the ledger's units")
    reasons: bool = Field(default=True, description="whether the codes of reasons count")
    history: bool = Field(default=True, description="whether the rows of the journal count")


class Seen(Record):
    """What is seen of one step: the same keys in every realisation, without ids and times."""

    index: int
    what: str
    facts: dict[str, Any]


class Broken(Record):
    """One way in which a run did not keep the contract."""

    where: str = Field(description="name of the realisation")
    rule: str
    index: int | None = Field(default=None, description="of the step, from 0; null: of the end")
    message: str


class Difference(Record):
    """One thing that is not the same in both."""

    what: str
    index: int | None = Field(default=None, description="of the step, from 0; null: of the end")
    first: str
    second: str


class Report(Record):
    """Whether two realisations keep the contract and are equivalent under it."""

    first: str
    second: str
    contract: str
    steps: int
    holds: dict[str, bool]
    equivalent: bool
    broken: tuple[Broken, ...] = ()
    differences: tuple[Difference, ...] = ()
    counterexample: tuple[Step, ...] = Field(
        default=(), description="the shortest sequence found that shows the first failure"
    )
    tries: int = Field(default=0, description="sequences that were run to shorten it")

    @property
    def passed(self) -> bool:
        """Whether the contract holds in both and nothing differs."""
        return self.equivalent and all(self.holds.values())
