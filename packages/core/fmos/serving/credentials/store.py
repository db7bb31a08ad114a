"""All SQL of the tokens, in kernel.db."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

from fmos.storage.database import Database
from fmos.types import Principal

_COLUMNS = (
    "id, digest, tenant, application, agent, session, role, created_ns, expires_ns, revoked_ns,"
    " used_ns"
)
_PUT = f"INSERT INTO token({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)"
_ONE = f"SELECT {_COLUMNS} FROM token WHERE id = ?"
_ALL = f"SELECT {_COLUMNS} FROM token ORDER BY created_ns, id"
_REVOKE = "UPDATE token SET revoked_ns = ? WHERE id = ? AND revoked_ns IS NULL"
_USED = "UPDATE token SET used_ns = ? WHERE id = ?"


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of one token: whom it is for, and when it ends. Times are in ns since 1970."""

    id: str
    digest: bytes
    principal: Principal
    created_ns: int
    expires_ns: int
    revoked_ns: int | None = None
    used_ns: int | None = None

    def state(self, now_ns: int) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked_ns is not None:
            return "revoked"
        # A clock that was set back must not give a token more time than it had.
        return "valid" if self.created_ns <= now_ns < self.expires_ns else "expired"


class TokenStore:
    """The table of tokens. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos.serving.credentials").joinpath("schema.sql")
        database.install("tokens", [schema.read_text(encoding="utf-8")])

    def put(self, token: Token) -> None:
        """Keep a new token."""
        who = token.principal
        place = (who.tenant, who.application, who.agent, who.session, who.role)
        row = (token.id, token.digest, *place, token.created_ns, token.expires_ns)
        with self._database.transaction():
            self._database.execute(_PUT, row)

    def get(self, id: str) -> Token | None:
        """Return a token in whatever state it is."""
        rows = self._database.query(_ONE, (id,))
        return _token(rows[0]) if rows else None

    def all(self) -> list[Token]:
        """Return every token that was ever issued, oldest first."""
        return [_token(row) for row in self._database.query(_ALL)]

    def revoke(self, id: str, now_ns: int) -> bool:
        """End a token, and return whether it had not ended by being revoked before."""
        with self._database.transaction():
            return self._database.execute(_REVOKE, (now_ns, id)) == 1

    def used(self, id: str, now_ns: int) -> None:
        """Note when a token was used last."""
        with self._database.transaction():
            self._database.execute(_USED, (now_ns, id))


def _token(row: tuple[Any, ...]) -> Token:
    id, digest, tenant, application, agent, session, role, *times = row
    who = Principal(tenant=tenant, application=application, agent=agent, session=session, role=role)
    return Token(id, digest, who, *times)
