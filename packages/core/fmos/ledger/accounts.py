"""Account paths: who pays, from the organisation down to one step.

A path is made of typed parts, `org:default/tenant:acme/app:-/agent:boss/session:s1`, so that a
session and a fork of the same name are two accounts. A fork lies under the account that forked it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, Self, cast

from fmos.errors import ArgumentError

AccountKind = Literal["org", "tenant", "app", "agent", "session", "step"]

#: The organisation of a home that names none.
DEFAULT_ORGANISATION = "default"

#: The name of a part that the principal leaves empty.
UNNAMED = "-"

#: A fork adds two parts, and every part costs a row in each reservation.
MAX_PARTS = 256

#: What may stand directly below what; None is the root.
_PARENTS: dict[str | None, tuple[AccountKind, ...]] = {
    None: ("org",),
    "org": ("tenant",),
    "tenant": ("app",),
    "app": ("agent",),
    "agent": ("session", "agent"),
    "session": ("step", "agent"),
    "step": ("step", "agent"),
}
_NAME = re.compile(r"-|[A-Za-z0-9][A-Za-z0-9._@+:-]{0,255}")


class Account(str):
    """One account, written as its whole path. Every account on `path` pays for what it spends."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the account that a text names.

        Raises:
            ArgumentError: if a part has no known kind, no name, or a parent of the wrong kind.
        """
        if isinstance(text, cls):
            return text
        _check(text)
        return cls(text)

    @property
    def path(self) -> tuple[Account, ...]:
        """The accounts that pay for this one, from the root down to itself."""
        return _path(str(self))

    @property
    def kind(self) -> AccountKind:
        """The kind of the last part."""
        return cast("AccountKind", self.rpartition("/")[2].partition(":")[0])

    @property
    def name(self) -> str:
        """The name of the last part; `-` where the principal names none."""
        return self.rpartition("/")[2].partition(":")[2]

    @property
    def parent(self) -> Account | None:
        """The account above; None for an organisation."""
        above = self.rpartition("/")[0]
        return Account(above) if above else None

    def child(self, kind: AccountKind, name: str) -> Account:
        """Return the account of this kind and name below this one.

        Raises:
            ArgumentError: if the name cannot be one, or such an account cannot lie here.
        """
        return Account.parse(f"{self}/{kind}:{name}")

    def nearest(self, kind: AccountKind) -> Account | None:
        """Return the lowest account of a kind on the path, itself included."""
        return next((each for each in reversed(self.path) if each.kind == kind), None)


def account_of(
    tenant: str,
    application: str = "",
    agent: str = "",
    session: str = "",
    step: str = "",
    *,
    under: Account | None = None,
    organisation: str = DEFAULT_ORGANISATION,
) -> Account:
    """Return the account of a principal, or of a part of it where the last ids are empty.

    An empty id before one that is given is written `-`. `under` is the account that forked the
    agent: the agent lies below it, and spends from it.

    Raises:
        ArgumentError: if an id cannot be part of a path, or `under` is of another tenant.
    """
    parts: list[tuple[AccountKind, str]] = [
        ("agent", agent),
        ("session", session),
        ("step", step),
    ]
    if under is None:
        found = Account.parse(f"org:{organisation}/tenant:{tenant}")
        parts.insert(0, ("app", application))
    else:
        found = Account.parse(under)
        owner = found.nearest("tenant")
        if owner is None or owner.name != tenant:
            raise ArgumentError(
                f"an agent of the tenant {tenant!r} cannot lie under {str(found)!r}",
                hint="give the account that forked it, of the same tenant",
            )
    while parts and not parts[-1][1]:
        parts.pop()
    for kind, name in parts:
        found = found.child(kind, name or UNNAMED)
    return found


@lru_cache(maxsize=4096)
def _path(text: str) -> tuple[Account, ...]:
    parts = text.split("/")
    return tuple(Account("/".join(parts[: depth + 1])) for depth in range(len(parts)))


@lru_cache(maxsize=4096)
def _check(text: str) -> None:
    parts = text.split("/")
    if len(parts) > MAX_PARTS:
        raise ArgumentError(
            f"an account of {len(parts)} parts is too deep",
            hint=f"at most {MAX_PARTS} are kept; fork from an agent nearer to the first",
        )
    above: str | None = None
    for part in parts:
        kind, _, name = part.partition(":")
        if kind not in _PARENTS[above] or not _NAME.fullmatch(name):
            allowed = " or ".join(f"{each}:NAME" for each in _PARENTS[above])
            where = f"below {above}:" if above else "at the beginning"
            raise ArgumentError(
                f"{_shown(text)} cannot be an account: {_shown(part)} where {allowed} belongs",
                hint=f"write {allowed} {where}, as in 'org:default/tenant:t/app:-/agent:a'",
            )
        above = kind


def _shown(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:117] + "...")
