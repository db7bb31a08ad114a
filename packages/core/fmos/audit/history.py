"""A tenant's keys in their order: each was signed for by the one before it, and signs for itself.

Who trusts one of the keys can follow the history to any other. A change also says what the old key
signed last, so that nothing beyond it is believed from a key that was given up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fmos.audit.keys import verify_signature
from fmos.errors import FormatError

_FORMAT = "fmos-audit-key/1"
_FIELDS = ("tenant", "number", "previous", "public", "time", "final")


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One change of a tenant's key; `final` is the last row that the old key signed for."""

    tenant: str
    number: int
    previous: str
    public: str
    time_ns: int
    final: int
    by_old: str = ""
    by_new: str = ""

    def statement(self) -> bytes:
        """Return what both keys sign."""
        values = (
            self.tenant, str(self.number), self.previous, self.public, str(self.time_ns),
            str(self.final),
        )  # fmt: skip
        lines = [f"{name} {value}" for name, value in zip(_FIELDS, values, strict=True)]
        return "\n".join([_FORMAT, *lines, ""]).encode("utf-8")

    def holds(self) -> bool:
        """Return whether both keys signed this change."""
        said = self.statement()
        return verify_signature(self.previous, said, self.by_old) and verify_signature(
            self.public, said, self.by_new
        )

    def to_json(self) -> dict[str, Any]:
        """Return the change as it is kept and handed out."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the change in a JSON object.

        Raises:
            FormatError: if it is none.
        """
        kinds = {"number": int, "time_ns": int, "final": int}
        for name in cls.__slots__:
            if not isinstance(data.get(name), kinds.get(name, str)):
                raise FormatError(f"a change of an audit key has no usable {name!r}")
        return cls(**{name: data[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """All public keys of a tenant, the first one and every change since."""

    tenant: str
    first: str
    changes: tuple[KeyChange, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The public keys by their number."""
        return (self.first, *(each.public for each in self.changes))

    def final_row(self, number: int) -> int | None:
        """Return the last row that a key may have signed for; None for the one in use."""
        return self.changes[number].final if number < len(self.changes) else None

    def signers(self, first: int, row: int) -> tuple[str, ...]:
        """Return the keys from a number on that may sign for a row: none given up before it."""
        finals = ((key, self.final_row(number)) for number, key in enumerate(self.keys))
        numbered = list(finals)[max(first, 0) :]
        return tuple(key for key, final in numbered if final is None or final >= row)

    def check(self) -> None:
        """Follow the history from the first key to the last.

        Raises:
            FormatError: naming the change that does not follow.
        """
        current = self.first
        for number, change in enumerate(self.changes, start=1):
            right = (change.number, change.previous, change.tenant) == (
                number, current, self.tenant,
            )  # fmt: skip
            if not right or not change.holds():
                raise FormatError(
                    f"change {number} of tenant {self.tenant!r}'s audit key is not signed by the"
                    " key before it and the new one",
                    hint="trust nothing that later keys signed; restore kernel.db from a backup",
                )
            current = change.public

    def to_json(self) -> dict[str, Any]:
        """Return the history as it is kept and handed out."""
        changes = [each.to_json() for each in self.changes]
        return {"tenant": self.tenant, "first": self.first, "changes": changes}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the history in a JSON object.

        Raises:
            FormatError: if it is none.
        """
        tenant, first, changes = data.get("tenant"), data.get("first"), data.get("changes")
        if not isinstance(tenant, str) or not isinstance(first, str):
            raise FormatError("this is no history of audit keys")
        if not isinstance(changes, Sequence) or not all(isinstance(c, dict) for c in changes):
            raise FormatError("this history of audit keys has no list of changes")
        return cls(tenant, first, tuple(KeyChange.from_json(each) for each in changes))
