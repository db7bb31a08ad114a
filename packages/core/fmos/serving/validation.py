"""Says in one sentence what is wrong with arguments that do not fit."""

from __future__ import annotations

from pydantic import ValidationError

_SHOWN = 80

# Doors validate with a model or with the function itself; pydantic words the two differently.
_MISSING = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})


def describe_validation(error: ValidationError) -> str:
    """Return one sentence that names the first offending argument and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    where = shortened(".".join(str(part) for part in first["loc"]) or "the arguments")
    if first["type"] in _MISSING:
        return f"argument {where!r} is missing"
    if first["type"] in _UNKNOWN:
        return f"there is no argument {where!r}"
    shown = shortened(repr(first.get("input")))
    message = first["msg"]
    return f"argument {where!r}: {message[:1].lower()}{message[1:]} (got {shown})"


def shortened(text: str) -> str:
    """Return a text that a caller chose at a length that an error sentence can hold."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
