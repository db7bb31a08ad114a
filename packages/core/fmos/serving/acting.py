"""Whom the current call is made for: what a door found out, for the tools behind it.

A door sets it around a call, and worker threads inherit it. Ids in a tool's arguments can only
repeat it: where it names nobody, it is the launch configuration of the process that counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fmos.errors import ArgumentError, PrincipalError
from fmos.serving.validation import describe_validation
from fmos.types import Principal

#: Where a request of MCP carries the launch configuration of the client that sends it.
PRINCIPAL_META_KEY = "fmos/principal"

#: A client's to choose as far as the door leaves them open; a project only ever tightens.
_OPEN = ("agent", "session", "project")
#: Never a client's to choose where a door knows whom it serves: whatever else a principal has.
_FIXED = tuple(name for name in Principal.model_fields if name not in _OPEN)


@dataclass(frozen=True, slots=True)
class Door:
    """What stands behind a call: a credential's principal, or the word of the home's owner.

    Args:
        principal: Whom the credential is for; None where the door knows nobody.
        trusts_claims: The client's own launch configuration counts: only the owner of the home
            can open the unix socket.
    """

    principal: Principal | None = None
    trusts_claims: bool = False


_KNOWS_NOBODY = Door()

_door: ContextVar[Door] = ContextVar("fmos_door", default=_KNOWS_NOBODY)
_acting: ContextVar[Principal | None] = ContextVar("fmos_acting", default=None)
_over_mcp: ContextVar[bool] = ContextVar("fmos_over_mcp", default=False)


def acting() -> Principal | None:
    """Return the principal of the current call, or None where the launch configuration counts."""
    return _acting.get() or _door.get().principal


def door_name() -> str:
    """Return what the current call came through: `unix`, `http`, or `stdio` where no door is."""
    door = _door.get()
    if door.trusts_claims:
        return "unix"
    return "stdio" if door.principal is None else "http"


def launched() -> bool:
    """Return whether the application calls, and not an agent with the server in its tool list.

    An application calls in process, or over the unix socket that only the home's owner can open.
    """
    door = _door.get()
    return door.trusts_claims or (door.principal is None and not _over_mcp.get())


@contextmanager
def through(door: Door) -> Iterator[None]:
    """Let the calls in the block come through a door."""
    token = _door.set(door)
    try:
        yield
    finally:
        _door.reset(token)


@contextmanager
def claiming(meta: Any, launch: Principal) -> Iterator[None]:
    """Act for the principal that a request's `_meta` names, as far as the door allows it.

    Raises:
        PrincipalError: if it is not the one that the door or the launch configuration names.
        ArgumentError: if it is no principal.
    """
    claim = meta.get(PRINCIPAL_META_KEY) if meta else None
    token = _acting.set(None if claim is None else _accepted(claim, launch))
    over_mcp = _over_mcp.set(True)
    try:
        yield
    finally:
        _over_mcp.reset(over_mcp)
        _acting.reset(token)


def agree(known: Principal, claimed: Principal, what: str) -> Principal:
    """Return the claimed principal, with what it leaves open taken from the known one.

    Raises:
        PrincipalError: if the two disagree; `what` is the subject of the sentence.
    """
    for field in (*_FIXED, *_OPEN):
        mine, theirs = getattr(known, field), getattr(claimed, field)
        silent = field in _OPEN and "" in (mine, theirs)
        if mine != theirs and not silent:
            raise PrincipalError(
                f"{what} is for {field} {mine or '(none)'!r} and cannot act for"
                f" {theirs or '(none)'!r}",
                hint=f"give the client the {field} {mine!r}" if mine else f"leave {field!r} out",
            )
    update = {field: getattr(claimed, field) or getattr(known, field) for field in _OPEN}
    return claimed.model_copy(update=update)


def _accepted(claim: Any, launch: Principal) -> Principal:
    try:
        claimed = Principal.model_validate(claim)
    except ValidationError as error:
        raise ArgumentError(
            f"_meta[{PRINCIPAL_META_KEY!r}] is no principal: {describe_validation(error)}"
        ) from error
    door = _door.get()
    if door.trusts_claims:
        return claimed
    if door.principal is not None:
        return agree(door.principal, claimed, "the token")
    return agree(launch, claimed, "this server")
