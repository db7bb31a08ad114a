"""Typed values that are brought to one spelling before anything compares them.

Every function takes what a call's argument holds and returns a value with `text`, its canonical
spelling, or raises `OperatorError`; nothing else, whatever the text. No network, no disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fmos.errors import ArgumentError
from fmos_trust.operators.amounts import AmountValue, amount_of
from fmos_trust.operators.emails import EmailValue, email_of, emails_of
from fmos_trust.operators.model import OperatorError, Typed, shown
from fmos_trust.operators.paths import PathValue, followed, in_scopes, path_of, path_under
from fmos_trust.operators.shell_command import CommandValue, command_of
from fmos_trust.operators.sql import CLASSES as SQL_CLASSES
from fmos_trust.operators.sql import SqlClass, SqlValue, sql_of
from fmos_trust.operators.urls import HostValue, UrlValue, host_matches, host_of, url_of

#: What a policy calls each type.
TYPES: Mapping[str, Callable[[Any], Typed]] = {
    "path": path_of,
    "url": url_of,
    "host": host_of,
    "email": email_of,
    "amount": amount_of,
    "command": command_of,
    "sql": sql_of,
}


def typed(name: str) -> Callable[[Any], Typed]:
    """Return the function that reads values of a type.

    Raises:
        ArgumentError: if there is no such type.
    """
    found = TYPES.get(name)
    if found is None:
        raise ArgumentError(
            f"there is no type {name!r}", hint=f"use one of {', '.join(sorted(TYPES))}"
        )
    return found


__all__ = [
    "SQL_CLASSES",
    "TYPES",
    "AmountValue",
    "CommandValue",
    "EmailValue",
    "HostValue",
    "OperatorError",
    "PathValue",
    "SqlClass",
    "SqlValue",
    "Typed",
    "UrlValue",
    "amount_of",
    "command_of",
    "email_of",
    "emails_of",
    "followed",
    "host_matches",
    "host_of",
    "in_scopes",
    "path_of",
    "path_under",
    "shown",
    "sql_of",
    "typed",
    "url_of",
]
