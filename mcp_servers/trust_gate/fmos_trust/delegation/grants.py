"""Gives, uses and ends the grants of authority to content, each for one purpose and a time.

A person gives them (`fmos grant`); no tool of the server reaches this. What lies in kernel.db
counts only under the seal of the tenant's key.
"""

from __future__ import annotations

from collections.abc import Iterable
from hmac import compare_digest
from importlib import resources

from fmos.canonical import canonical_json
from fmos.errors import ArgumentError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.storage.database import Database
from fmos.traps.manifest import ArgumentRole
from fmos.types import Principal, new_id
from fmos_trust.delegation.model import Grant, Source

_NS = 1_000_000_000
#: No grant lasts longer.
LONGEST_S = 7 * 86_400
_SLACK_NS = 5 * _NS

_PUT = """
INSERT INTO content_grant(id, tenant, agent, expires_ns, body, seal) VALUES (?, ?, ?, ?, ?, ?)
"""
_OF = "SELECT body, seal FROM content_grant WHERE tenant = ? AND agent = ? ORDER BY id"
_GET = "SELECT body, seal FROM content_grant WHERE id = ?"
_CHANGE = "UPDATE content_grant SET body = ?, seal = ? WHERE id = ? AND seal = ?"
_ALL = "SELECT body, seal FROM content_grant ORDER BY tenant, agent, id"
_FORGET = "DELETE FROM content_grant WHERE expires_ns < ?"
_KEPT_NS = 30 * 86_400 * _NS


class GrantStore:
    """The grants of one home in kernel.db, each with its seal."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos_trust.delegation").joinpath("grants.sql")
        database.install("content_grants", [schema.read_text(encoding="utf-8")])

    def put(self, grant: Grant, seal: str) -> None:
        """Keep a new grant."""
        who = grant.principal
        row = (
            grant.id, who.tenant, who.agent_key, grant.expires_ns, grant.model_dump_json(), seal,
        )  # fmt: skip
        with self._database.transaction():
            self._database.execute(_PUT, row)

    def of(self, tenant: str, agent: str) -> list[tuple[Grant, str]]:
        """Return the grants of an agent with their seals."""
        return [_read(row) for row in self._database.query(_OF, (tenant, agent))]

    def all(self) -> list[tuple[Grant, str]]:
        """Return the grants of the home with their seals."""
        return [_read(row) for row in self._database.query(_ALL)]

    def get(self, id: str) -> tuple[Grant, str] | None:
        """Return a grant with its seal."""
        rows = self._database.query(_GET, (id,))
        return _read(rows[0]) if rows else None

    def change(self, grant: Grant, seal: str, was: str) -> bool:
        """Put a grant in the place of what had the seal `was`; return whether that was there."""
        with self._database.transaction():
            row = (grant.model_dump_json(), seal, grant.id, was)
            return self._database.execute(_CHANGE, row) == 1

    def forget(self, before_ns: int) -> None:
        """Remove what expired before a time."""
        with self._database.transaction():
            self._database.execute(_FORGET, (before_ns,))


class Grants:
    """The grants of one home. Thread-safe, and safe across processes."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = GrantStore(kernel.database)

    def give(
        self,
        who: Principal,
        source: Source,
        tools: Iterable[str],
        *,
        ttl_s: int,
        uses: int = 1,
        targets: Iterable[ArgumentRole] = (),
        person: str = "",
    ) -> Grant:
        """Let the targets of an agent's calls come out of one source, for a time.

        Raises:
            ArgumentError: if it names no source, no tool, or a time that no grant may have.
        """
        if source == Source():
            raise ArgumentError(
                "a grant names where the text comes from", hint="give a tool, a field or a digest"
            )
        if not 0 < ttl_s <= LONGEST_S:
            raise ArgumentError(
                f"a grant cannot last {ttl_s} s", hint=f"give 1 to {LONGEST_S} s (7 days)"
            )
        named = tuple(tools)
        if not named:
            raise ArgumentError("a grant names the tools that it is for", hint="give one or more")
        now_ns, up = self._kernel.clock.now_ns(), self._kernel.clock.uptime()
        grant = Grant(
            id=new_id(),
            principal=who,
            source=source,
            tools=named,
            targets=tuple(targets),
            uses=uses,
            issued_ns=now_ns,
            expires_ns=now_ns + ttl_s * _NS,
            boot=up.boot,
            up_until_ns=up.ns + ttl_s * _NS,
            person=person,
        )
        shown = grant.model_dump(mode="json", exclude={"boot", "up_until_ns", "used_by", "state"})
        self._kernel.record(who, "grant.give", shown)
        self._store.forget(now_ns - _KEPT_NS)
        self._store.put(grant, self._seal(grant))
        return grant

    def of(self, who: Principal, operation: str = "") -> tuple[Grant, ...]:
        """Return the grants that count for a principal now, and those that an operation used."""
        rows = self._store.of(who.tenant, who.agent_key)
        return tuple(
            grant
            for grant, seal in rows
            if grant.principal.session in ("", who.session)
            and not self._problem(grant, seal, operation)
        )

    def all(self) -> list[tuple[Grant, str]]:
        """Return every grant of the home, and why it does not count; empty where it does."""
        return [(grant, self._problem(grant, seal)) for grant, seal in self._store.all()]

    def use(self, id: str, who: Principal, operation: str) -> str:
        """Use a grant for a call, once; return why it cannot be, or an empty text.

        Raises:
            NotFoundError: if there is no such grant.
        """
        grant, seal = self._known(id)
        mine = (who.tenant, who.agent_key) == (grant.principal.tenant, grant.principal.agent_key)
        why = self._problem(grant, seal, operation) if mine else "it is another agent's"
        if why:
            return f"the grant {id!r} cannot be used: {why}"
        if operation in grant.used_by:
            return ""
        used = grant.model_copy(update={"used_by": (*grant.used_by, operation)})
        if not self._store.change(used, self._seal(used), seal):
            return self.use(id, who, operation)  # another process used it meanwhile
        self._kernel.record(who, "grant.use", {"id": id, "operation": operation, "left": used.left})
        return ""

    def end(self, id: str, *, person: str = "") -> Grant:
        """End a grant at once.

        Raises:
            NotFoundError: if there is no such grant.
        """
        grant, seal = self._known(id)
        ended = grant.model_copy(update={"state": "ended"})
        if grant.state == "open" and not self._store.change(ended, self._seal(ended), seal):
            return self.end(id, person=person)
        self._kernel.record(grant.principal, "grant.end", {"id": id, "person": person})
        return ended

    def _problem(self, grant: Grant, seal: str, operation: str = "") -> str:
        clock = self._kernel.clock
        now_ns, up = clock.now_ns(), clock.uptime()
        if not compare_digest(self._seal(grant), seal):
            return "it was not given by this home, or was changed since"
        if grant.state == "ended":
            return "it was ended"
        if grant.left <= 0 and operation not in grant.used_by:
            return "it was used up"
        if now_ns + _SLACK_NS < grant.issued_ns:
            return "the clock was set back since it was given"
        if now_ns >= grant.expires_ns or (up.boot == grant.boot and up.ns >= grant.up_until_ns):
            return "it has expired"
        return ""

    def _known(self, id: str) -> tuple[Grant, str]:
        found = self._store.get(id)
        if found is None:
            raise NotFoundError(f"there is no grant {id!r}", hint="`fmos grant list` shows them")
        return found

    def _seal(self, grant: Grant) -> str:
        said = canonical_json(grant.model_dump(mode="json"))
        return self._kernel.keys_of(grant.principal.tenant).seal("grant", said)


def _read(row: tuple[str, str]) -> tuple[Grant, str]:
    return Grant.model_validate_json(row[0]), row[1]
