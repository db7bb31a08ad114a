"""Issues and checks bearer tokens, `fmos_<id>_<secret>`: for whom a call over TCP is made.

The secret has 256 random bits and is shown once, so a plain hash of it is enough to keep.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from fmos.clock import Clock
from fmos.errors import ArgumentError, NotFoundError, PrincipalError
from fmos.serving.credentials.store import Token, TokenStore
from fmos.storage.database import Database
from fmos.types import Principal

_NS = 1_000_000_000
_FORM = re.compile(r"fmos_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_TTL = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_S = 3_650 * 86_400

#: `used_ns` is this coarse, so that a call does not cost a write.
_NOTED_EVERY_NS = 60 * _NS

_ISSUE = "issue one with `fmos token issue --agent AGENT` and send it as `Authorization: Bearer`"


class Tokens:
    """The tokens of one home. Thread-safe, and safe across processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._store = TokenStore(database)
        self._clock = clock

    def issue(
        self, principal: Principal, ttl_s: int, *, any_agent: bool = False
    ) -> tuple[str, Token]:
        """Return a new token, which nobody can read again, and what is kept of it.

        Raises:
            ArgumentError: if it names no agent and `any_agent` is not set, or names a branch.
        """
        if bool(principal.agent) == any_agent:
            raise ArgumentError(
                "a token is for one agent, or for any agent of the tenant's application",
                hint="give --agent AGENT, or --any-agent if its holder may act for each of them",
            )
        secret = secrets.token_urlsafe(32)
        now_ns = self._clock.now_ns()
        token = Token(
            id=secrets.token_hex(6),
            digest=_digest(secret),
            principal=principal,
            created_ns=now_ns,
            expires_ns=now_ns + ttl_s * _NS,
        )
        self._store.put(token)
        return f"fmos_{token.id}_{secret}", token

    def all(self) -> list[Token]:
        """Return what is kept of every token, oldest first."""
        return self._store.all()

    def revoke(self, id: str) -> None:
        """End a token at once, for every process.

        Raises:
            NotFoundError: if there is no such token.
            ArgumentError: if it was revoked before.
        """
        if self._store.get(id) is None:
            raise NotFoundError(f"there is no token {id!r}", hint="see `fmos token list`")
        if not self._store.revoke(id, self._clock.now_ns()):
            raise ArgumentError(
                f"the token {id!r} is revoked already", hint="nothing is to be done"
            )

    def check(self, text: str) -> Principal:
        """Return whom a token is for.

        Raises:
            PrincipalError: if there is none, or it is unknown, expired or revoked.
        """
        if not text:
            raise PrincipalError("this server wants a bearer token", hint=_ISSUE)
        form = _FORM.fullmatch(text)
        token = self._store.get(form[1]) if form else None
        # Compared even for an id that there is not: both take as long.
        known = hmac.compare_digest(
            _digest(form[2] if form else ""), token.digest if token else b""
        )
        if token is None or not known:
            raise PrincipalError("the bearer token is not one of this home's", hint=_ISSUE)
        now_ns = self._clock.now_ns()
        state = token.state(now_ns)
        if state != "valid":
            raise PrincipalError(f"the bearer token {token.id} is {state}", hint=_ISSUE)
        if token.used_ns is None or now_ns - token.used_ns >= _NOTED_EVERY_NS:
            self._store.used(token.id, now_ns)
        return token.principal


def parse_ttl(text: str) -> int:
    """Return the seconds in a time to live such as `30d`, `12h`, `90m` or `45s`.

    Raises:
        ArgumentError: if it is none, or longer than ten years.
    """
    form = _TTL.fullmatch(text)
    seconds = int(form[1]) * _SECONDS[form[2]] if form else 0
    if not 0 < seconds <= _LONGEST_S:
        raise ArgumentError(
            f"{text!r} is not a time to live", hint="use 30d, 12h, 90m or 45s, at most 3650d"
        )
    return seconds


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
