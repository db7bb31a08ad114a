"""What a confined handle may reach in its volume: its own branch, and what was forked from that.

Such a handle is what an agent gets (`fs.on(name, confined=True)`). It holds back calls whose
arguments an agent chooses; Python code in the same process can always go around a handle.
"""

from __future__ import annotations

from .errors import PermissionDenied
from .paths import is_system
from .transaction import Session
from .types import JournalRow

# What follows the own branch in the names of its forks: no id of an agent holds one of these.
_MARKS = "/~"
# UNION, not UNION ALL: a branch that was deleted and made again may be its own ancestor.
_DESCENDS = (
    "WITH RECURSIVE above(name) AS ("
    "VALUES (coalesce((SELECT branch FROM snapshot WHERE name = :name), :name))"
    " UNION SELECT branch.parent FROM branch JOIN above ON branch.name = above.name"
    " WHERE branch.parent IS NOT NULL) SELECT 1 FROM above WHERE name = :own"
)


class Reach:
    """The branch that a confined handle and all that come from it are bound to."""

    def __init__(self, own: str) -> None:
        """Bind to a branch."""
        self.own = own

    def has(self, session: Session, name: str) -> bool:
        """Say whether a branch or snapshot is the own one or was forked from it."""
        if name == self.own:
            return True
        bindings = {"name": name, "own": self.own}
        return session.execute(_DESCENDS, bindings).fetchone() is not None

    def require(self, session: Session, name: str) -> None:
        """Refuse a branch or snapshot that exists and is somebody else's.

        Raises:
            BranchNotFound: there is none of this name.
            PermissionDenied: it is out of reach.
        """
        session.ref(name)
        if not self.has(session, name):
            reason = f"this handle is confined to the branch {self.own!r} and the forks of it"
            raise PermissionDenied(name, reason)

    def require_new(self, name: str) -> None:
        """Refuse a name for a fork or snapshot that somebody else's branch may want to have.

        Raises:
            PermissionDenied: it does not begin with the own branch and one of `/~`.
        """
        if not name.startswith(tuple(f"{self.own}{each}" for each in _MARKS)):
            shown = " or ".join(repr(f"{self.own}{each}...") for each in _MARKS)
            raise PermissionDenied(name, f"a confined handle may use the names {shown} only")

    def refuse(self, what: str) -> None:
        """Refuse what concerns the whole volume.

        Raises:
            PermissionDenied: always.
        """
        raise PermissionDenied(what, "it concerns the whole volume, and this handle is confined")

    def shows(self, session: Session, row: JournalRow) -> bool:
        """Say whether a journal row is of a branch in reach and names nothing in `/.fmos`."""
        return self.has(session, row.branch) and not any(map(is_system, (row.path, row.path2)))
