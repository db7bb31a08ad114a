"""SQL of redaction in kernel.db: seen secrets, pieces of outgoing texts, and tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from importlib import resources
from threading import Lock

from fmos.storage.database import Database
from fmos.types import Principal
from fmos_trust.redaction.exact import Known, KnownSecret

_MIGRATIONS = ("schema.sql",)
_KEPT = 256
_PUT = """
INSERT INTO trust_known(tenant, agent, digest, length, kind, source, forms, until_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(tenant, agent, digest) DO UPDATE SET until_ns = max(until_ns, excluded.until_ns)
"""
_SEEN = "SELECT 1 FROM trust_known WHERE tenant = ? AND agent = ? AND digest = ? AND until_ns >= ?"
_SECRETS = (
    "SELECT kind, length, digest, source, forms FROM trust_known WHERE tenant = ? AND agent = ?"
)
_REVISION = "SELECT revision FROM trust_known_revision WHERE tenant = ? AND agent = ?"
_REVISE = """
INSERT INTO trust_known_revision(tenant, agent, revision) VALUES (?, ?, 1)
ON CONFLICT(tenant, agent) DO UPDATE SET revision = revision + 1
"""
_EXPIRED = "SELECT DISTINCT tenant, agent FROM trust_known WHERE until_ns < ?"
_EXPIRE = (
    "DELETE FROM trust_known WHERE until_ns < ?",
    "DELETE FROM trust_fragment WHERE until_ns < ?",
    "DELETE FROM trust_token WHERE until_ns < ?",
)
_FORGET = (
    "DELETE FROM trust_fragment WHERE tenant = ? AND agent = ? AND session = ?",
    "DELETE FROM trust_token WHERE tenant = ? AND agent = ? AND session = ?",
)
_HOLDERS = "SELECT DISTINCT tenant, agent FROM trust_token"
_FORGET_AGENT = "DELETE FROM trust_token WHERE tenant = ? AND agent = ?"
_FRAGMENTS = "SELECT sealed FROM trust_fragment WHERE tenant = ? AND agent = ? AND session = ?"
_PUT_FRAGMENTS = "INSERT OR REPLACE INTO trust_fragment VALUES (?, ?, ?, ?, ?)"
_TOKEN_OF = (
    "SELECT token FROM trust_token WHERE tenant = ? AND agent = ? AND session = ? AND digest = ?"
)
_TOKENS = (
    "SELECT count(*) FROM trust_token WHERE tenant = ? AND agent = ? AND session = ? AND kind = ?"
)
_PUT_TOKEN = "INSERT INTO trust_token VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_VALUE = (
    "SELECT sealed FROM trust_token WHERE tenant = ? AND agent = ? AND session = ? AND token = ?"
)


class RedactionStore:
    """The tables of redaction. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[tuple[str, ...], tuple[tuple[int, ...], Known]] = OrderedDict()
        self._lock = Lock()
        folder = resources.files("fmos_trust.redaction")
        steps = [folder.joinpath(name).read_text(encoding="utf-8") for name in _MIGRATIONS]
        database.install("redaction", steps)

    def put(
        self, who: Principal, secrets: Iterable[KnownSecret], until_ns: int, fresh_ns: int
    ) -> None:
        """Keep what is known of secrets until a time; those kept until `fresh_ns` at least stay.

        So a secret that is read again and again is written once a day, not at every reading.
        """
        place = (who.tenant, who.agent_key)
        new = [each for each in secrets if not self._seen((*place, each.digest, fresh_ns))]
        if not new:
            return
        with self._database.transaction():
            for each in new:
                told = (each.digest, each.length, each.kind, each.source, each.forms)
                self._database.execute(_PUT, (*place, *told, until_ns))
            self._database.execute(_REVISE, place)

    def known(self, tenant: str, lineage: Sequence[str]) -> Known:
        """Return what an agent and the agents it was forked from have seen.

        The same object, until something is added or has expired.
        """
        key = (tenant, *lineage)
        revisions = tuple(self._revision(tenant, agent) for agent in lineage)
        with self._lock:
            found = self._known.get(key)
        if found is not None and found[0] == revisions:
            return found[1]
        known = Known(
            KnownSecret(*row)
            for agent in lineage
            for row in self._database.query(_SECRETS, (tenant, agent))
        )
        with self._lock:
            self._known[key] = (revisions, known)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known

    def expire(self, now_ns: int) -> None:
        """Forget what was kept until before now."""
        with self._database.transaction():
            for place in self._database.query(_EXPIRED, (now_ns,)):
                self._database.execute(_REVISE, place)
            for statement in _EXPIRE:
                self._database.execute(statement, (now_ns,))

    def forget(self, who: Principal) -> None:
        """Forget the tokens of a session, with their values, and the pieces of what it sent."""
        with self._database.transaction():
            for statement in _FORGET:
                self._database.execute(statement, _place(who))

    def holders(self) -> set[tuple[str, str]]:
        """Return the tenant and key of each agent that has tokens."""
        return {(tenant, agent) for tenant, agent in self._database.query(_HOLDERS)}

    def forget_agent(self, tenant: str, agent: str) -> None:
        """Forget all tokens of an agent, with their values."""
        self._database.execute(_FORGET_AGENT, (tenant, agent))

    def fragments(self, who: Principal) -> bytes | None:
        """Return the sealed pieces of a session's outgoing texts."""
        rows = self._database.query(_FRAGMENTS, _place(who))
        return rows[0][0] if rows else None

    def put_fragments(self, who: Principal, sealed: bytes, until_ns: int) -> None:
        """Keep the sealed pieces of a session's outgoing texts."""
        self._database.execute(_PUT_FRAGMENTS, (*_place(who), sealed, until_ns))

    def token(self, who: Principal, kind: str, digest: bytes, sealed: bytes, until_ns: int) -> str:
        """Return what stands for a value in a session: the token it has, or a new one."""
        place = _place(who)
        with self._database.transaction():
            rows = self._database.query(_TOKEN_OF, (*place, digest))
            if rows:
                return rows[0][0]
            number = self._database.query(_TOKENS, (*place, kind))[0][0] + 1
            token = f"<secret:{kind}:{number}>"
            self._database.execute(_PUT_TOKEN, (*place, token, kind, digest, sealed, until_ns))
            return token

    def value(self, who: Principal, token: str) -> bytes | None:
        """Return the sealed value that a token of a session stands for."""
        rows = self._database.query(_VALUE, (*_place(who), token))
        return rows[0][0] if rows else None

    def _seen(self, key: tuple[object, ...]) -> bool:
        return bool(self._database.query(_SEEN, key))

    def _revision(self, tenant: str, agent: str) -> int:
        rows = self._database.query(_REVISION, (tenant, agent))
        return rows[0][0] if rows else 0


def _place(who: Principal) -> tuple[str, str, str]:
    return who.tenant, who.agent_key, who.session
