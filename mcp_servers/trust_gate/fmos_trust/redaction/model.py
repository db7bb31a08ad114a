"""What the gate says that it hid."""

from __future__ import annotations

from pydantic import Field

from fmos.types import Record


class Hidden(Record):
    """How many values of one kind were hidden."""

    kind: str = Field(description="the id of a rule, such as `github-token`")
    count: int


class Settlement(Record):
    """The outcome and the observation are noted."""

    ok: bool = True
    table: str = Field(default="", description="version of the agent's trap table as it is now")
    redacted: str | None = Field(
        default=None,
        description="the last observed text as a model may read it; null: as it is",
    )
    hidden: tuple[Hidden, ...] = Field(default=(), description="what was hidden in it")


class Shown(Record):
    """An observed text as a model may read it."""

    text: str
    hidden: tuple[Hidden, ...]


def settlement(table: str, shown: Shown | None) -> Settlement:
    """Return the answer to a report: the table's version, and what a model may read."""
    if shown is None:
        return Settlement(table=table)
    return Settlement(table=table, redacted=shown.text, hidden=shown.hidden)
