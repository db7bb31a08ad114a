"""Integrity and confidentiality of what enters a session, and of what was made from it."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeVar

from pydantic import Field

from fmos.types import Record

Integrity = Literal["user", "trusted", "untrusted"]
Confidentiality = Literal["plain", "secret"]

_T = TypeVar("_T")

_INTEGRITY: tuple[Integrity, ...] = ("user", "trusted", "untrusted")
_CONFIDENTIALITY: tuple[Confidentiality, ...] = ("plain", "secret")


class Labels(Record):
    """Who could have written something, and whether a secret may be in it."""

    integrity: Integrity = Field(
        default="user", description="the least of all that it was made from"
    )
    confidentiality: Confidentiality = Field(
        default="plain", description="the most of all that it was made from"
    )

    def joined(self, other: Labels) -> Labels:
        """Return the labels of what is made from both."""
        if other is self or other == self:
            return self
        return Labels(
            integrity=_most(_INTEGRITY, self.integrity, other.integrity),
            confidentiality=_most(_CONFIDENTIALITY, self.confidentiality, other.confidentiality),
        )

    @property
    def is_trusted(self) -> bool:
        """Whether no stranger can have written any of it."""
        return self.integrity != "untrusted"

    @classmethod
    def of(cls, found: Any) -> Self | None:
        """Return the labels in a document, or None where it has none that are understood."""
        try:
            return cls.from_answer(found)
        except ValueError:
            return None


def _most(order: tuple[_T, ...], one: _T, other: _T) -> _T:
    """Return which of two stands later in an order."""
    return order[max(order.index(one), order.index(other))]


#: Of what nobody knows where it came from.
UNKNOWN = Labels(integrity="untrusted")
