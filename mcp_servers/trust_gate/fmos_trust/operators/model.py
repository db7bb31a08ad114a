"""What every operator gives back, and how it says that it cannot read a value."""

from __future__ import annotations

from typing import Any, Protocol

from fmos.errors import ArgumentError
from fmos.redaction import redacted

_SHOWN = 60
_LOOKED_AT = 4_096


class OperatorError(ArgumentError):
    """A value is not of the type that is asked for, or may be read in more than one way."""


class Typed(Protocol):
    """A value in its one spelling: `text` is what equal values share."""

    @property
    def text(self) -> str:
        """The canonical spelling; reading it again gives it again."""
        ...


def unreadable(kind: str, value: Any, why: str, hint: str = "") -> OperatorError:
    """Return the error that names a value, shortened and without secrets, and why."""
    return OperatorError(f"{shown(value)} is not {kind} that can be judged: {why}", hint=hint)


def shown(value: Any) -> str:
    """Return a value as an error may show it: one line, at most 60 characters, no secret."""
    text = value if isinstance(value, str) else type(value).__name__
    head = text[:_LOOKED_AT].encode("utf-8", "replace").decode()
    head = redacted(head)
    cut = head if len(head) <= _SHOWN and len(text) <= _LOOKED_AT else f"{head[:_SHOWN]}..."
    return ascii(cut) if not cut.isprintable() else repr(cut)


def text_of(kind: str, value: Any, most: int) -> str:
    """Return a value that is text of at most `most` characters that can be stored.

    Raises:
        OperatorError: if it is not.
    """
    if not isinstance(value, str):
        raise unreadable(kind, value, "it is not text")
    if len(value) > most:
        raise unreadable(kind, value, f"it has {len(value):,} characters, more than {most:,}")
    if "\0" in value:
        raise unreadable(kind, value, "it holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise unreadable(kind, value, "it holds half of a character pair") from None
    return value
