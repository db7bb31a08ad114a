"""Who acts on versions: people decide, programs may only propose, authors do not accept."""

from __future__ import annotations

import re

from fmos.errors import ArgumentError, DeniedError
from fmos.versions.model import Candidate

#: A person at this machine (by name or number) and one known by a token over HTTP.
_PEOPLE = ("user", "uid", "token")
_ACTOR = re.compile(r"(user|uid|token|agent|system):[^\s\x00-\x1f]{1,200}")

#: What takes a canary back by itself.
WATCH = "system:watch"


def checked_actor(actor: str) -> str:
    """Return who acts, such as `user:ada`, `token:ci` or `agent:learner`.

    Raises:
        ArgumentError: if it cannot be told whether that is a person.
    """
    if _ACTOR.fullmatch(actor) is None:
        raise ArgumentError(
            f"{actor[:80]!r} does not say who acts",
            hint="write user:NAME or token:SUBJECT for a person, agent:ID for a program",
        )
    return actor


def require_person(actor: str, what: str) -> str:
    """Return who acts, who must be a person.

    Raises:
        DeniedError: for a program.
    """
    if checked_actor(actor).partition(":")[0] not in _PEOPLE:
        raise DeniedError(
            f"{actor!r} may not {what}: a program proposes, and people decide",
            hint=f"let a person {what}",
        )
    return actor


def require_other(candidate: Candidate, actor: str, what: str) -> None:
    """Refuse somebody who wrote a version to decide that it is good.

    Raises:
        DeniedError: for one of its authors.
    """
    if actor in candidate.authors:
        raise DeniedError(
            f"{actor!r} proposed {candidate.label} and may not {what} it as well",
            hint="ask somebody else; in a home of one person, `[versions] self_accept = true` in"
            " fmos.toml allows it",
        )
