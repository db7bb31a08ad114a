"""Which versions of the documents are read, and until when the older ones are."""

from __future__ import annotations

from datetime import date
from typing import Any

CURRENT = "agentos/v0.2"

#: Older versions that are still read, with the last day on which they are promised to be.
#: `agentos/v0.1` has the fields of v0.2; FMOS's own additions are as good in it.
DEPRECATED: dict[str, date] = {"agentos/v0.1": date(2027, 6, 30)}


def readable() -> tuple[str, ...]:
    """Return the versions that are read, the current one first."""
    return (CURRENT, *DEPRECATED)


def upgraded(document: dict[Any, Any]) -> dict[Any, Any]:
    """Return a document of an older version as one of the current version."""
    version = document.get("apiVersion")
    if not isinstance(version, str) or version not in DEPRECATED:
        return document
    return {**document, "apiVersion": CURRENT}
