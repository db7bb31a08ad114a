"""Records what a session asks and is answered, beside the journal rows of the same operations.

The journal is kept for ever and holds no content; a recording holds the content for `[replay]
keep_days`, in tables of the tenant's volume, encrypted under the tenant's key. An entry is written
in the transaction of its journal row. See docs/replay.md for what is not recorded.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from agentfs import AgentFS
from fmos.canonical import content_digest
from fmos.errors import ContractError
from fmos.replay.encryption import SALT_BYTES, SessionCipher
from fmos.replay.store import Recorded, RecordingStore
from fmos.types import Principal

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel
    from fmos.runtime.mandates import Mandate
    from fmos.runtime.standing import Standing

#: The journal's row that says that a recording began; its number is the state it began from.
STARTED = "recording.start"

#: Names of entries that are no tool calls: what held when the session began, and since.
BEGAN = "premise.session"
MANDATES = "premise.mandates"
STATE = "premise.state"
RULES = "trust.policies"

_KEPT = 1024
_FORGOTTEN_AT_ONCE = 20
_DAY_NS = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a service: its tool, its arguments, and what came back, as JSON or records.

    `outside` marks what no tool does, such as a person's answer; `time_ns` is the kernel's time of
    the call, 0 for now.
    """

    tool: str
    arguments: Mapping[str, Any]
    answer: Any = None
    operation: str = ""
    time_ns: int = 0
    outside: bool = False

    def content(self) -> dict[str, Any]:
        """Return what is kept of the call."""
        kept: dict[str, Any] = {"arguments": self.arguments}
        if self.answer is not None:
            kept["answer"] = self.answer
        if self.outside:
            kept["outside"] = True
        return kept


@dataclass(slots=True)
class _Session:
    """What this process knows of a session that it records."""

    key: int
    wanted: bool
    cipher: SessionCipher | None = None
    seen: dict[str, object] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)


class Recordings:
    """The recordings that one kernel writes. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._on = kernel.settings.replay.record
        self._stores: WeakKeyDictionary[AgentFS, RecordingStore] = WeakKeyDictionary()
        self._sessions: OrderedDict[tuple[str, str], _Session] = OrderedDict()
        # What the calls of one operation ask for one after the other.
        self._last: tuple[Principal, _Session] | None = None
        self._lock = threading.Lock()

    def begin(self, principal: Principal) -> bool:
        """Return whether the principal's session is recorded, after noting what it begins from."""
        return self._on and self._session(principal).wanted

    def add(
        self,
        principal: Principal,
        call: Call,
        seq: int | None = None,
        handle: AgentFS | None = None,
    ) -> None:
        """Record a call whose session was begun; with `handle`, in the transaction it is in."""
        session = self._session(principal)
        self._add(principal, session, call.tool, call.content(), call, seq, handle)

    def call(
        self,
        principal: Principal,
        tool: str,
        arguments: Mapping[str, Any],
        answer: Any = None,
        *,
        operation: str = "",
        time_ns: int = 0,
    ) -> Call | None:
        """Return what to record of a call; None where the session is not recorded."""
        if not self.begin(principal):
            return None
        return Call(tool, arguments, answer, operation, time_ns)

    def note(self, principal: Principal, call: Call | None) -> None:
        """Record a call that has no journal row of its own, if there is something to record."""
        if call is not None and self.begin(principal):
            self.add(principal, call)

    def premise(
        self, principal: Principal, name: str, source: object, value: Callable[[], Any]
    ) -> None:
        """Record something that the answers of a session depend on, when it is new or changed.

        `value` is asked for only if `source` is another object than at the last time.
        """
        if not self._on:
            return
        session = self._session(principal)
        if not session.wanted or session.seen.get(name) is source:
            return
        self._tell(principal, session, name, value())
        session.seen[name] = source

    def knows(self, principal: Principal, name: str) -> bool:
        """Return whether a premise of that name was recorded for the principal's session."""
        return self._on and name in self._session(principal).told

    def standing(self, standing: Standing) -> None:
        """Note what binds a principal now, and whether that still wants a recording."""
        if not self._on:
            return
        who, mandate = standing.principal, standing.mandate
        session = self._session(who)
        self.premise(who, STATE, standing.state, lambda: standing.state.value)
        if session.seen.get(MANDATES) is mandate:
            return
        session.wanted = mandate.bounds.observability.record
        if not session.wanted:
            session.seen[MANDATES] = mandate
            return
        self._start(who, session)
        self.premise(who, MANDATES, mandate, lambda: mandates_of(standing))

    def broken(self, principal: Principal, error: ContractError) -> None:
        """Note that a document that binds a principal cannot be used now."""
        self.premise(principal, MANDATES, error, lambda: {"error": str(error)})

    def forget(self, tenant: str, key: int) -> None:
        """Remove the recording of a session."""
        volume = self._kernel.volume(tenant)
        with volume.transaction():
            self._store(volume).forget(key)
        with self._lock:
            self._sessions.clear()
            self._last = None

    def _session(self, principal: Principal) -> _Session:
        known = self._last
        if known is not None and known[0] is principal:
            return known[1]
        session = self._named(principal)
        self._last = (principal, session)
        return session

    def _named(self, principal: Principal) -> _Session:
        place = (principal.branch_name, str(principal))
        with self._lock:
            session = self._sessions.get(place)
            if session is not None:
                self._sessions.move_to_end(place)
                return session
        session = self._opened(principal)  # without the lock: it may wait for the volume
        with self._lock:
            if len(self._sessions) >= _KEPT:
                self._sessions.popitem(last=False)
            return self._sessions.setdefault(place, session)

    def _opened(self, principal: Principal) -> _Session:
        """Return what is known of a session, which begins now if it is new and to be recorded."""
        handle = self._handle(principal)
        store = self._store(handle)
        key = store.key(handle.branch, str(principal))
        session = _Session(key, wanted=True, told=store.premises(key))
        try:
            standing = self._kernel.standing(principal)
        except ContractError as error:
            self._start(principal, session)
            self._tell(principal, session, MANDATES, {"error": str(error)})
            return session
        session.wanted = standing.mandate.bounds.observability.record
        if session.wanted:
            self._start(principal, session)
            self._tell(principal, session, MANDATES, mandates_of(standing))
        session.seen[MANDATES] = standing.mandate
        return session

    def _start(self, principal: Principal, session: _Session) -> None:
        """Note a session that is new, with what it begins from."""
        handle = self._handle(principal)
        store = self._store(handle)
        salt = store.salt(session.key)
        if salt is not None:
            session.cipher = SessionCipher(self._kernel.keys_of(principal.tenant), salt)
            return
        began, now_ns = self._began(principal), self._kernel.clock.now_ns()
        who = str(principal)
        salt = os.urandom(SALT_BYTES)
        recorded = Recorded(session.key, handle.branch, who, principal.session, now_ns, salt)
        with handle.transaction():
            known = store.salt(session.key)
            session.cipher = SessionCipher(self._kernel.keys_of(principal.tenant), known or salt)
            if known is not None:  # another process was first
                return
            store.begin(recorded)
            seq = handle.record(STARTED, {"session": principal.session})
            self._add(principal, session, BEGAN, {"value": began}, None, seq)
            for old in store.older(self._oldest_ns(now_ns), _FORGOTTEN_AT_ONCE):
                store.forget(old)

    def _oldest_ns(self, now_ns: int) -> int:
        days = self._kernel.settings.replay.keep_days
        return now_ns - int(days * _DAY_NS) if days else 0

    def _began(self, principal: Principal) -> dict[str, Any]:
        """Return who the session is of, and the accounts that it spends from."""
        kernel = self._kernel
        account = kernel.account(principal)
        everybody = (principal, *kernel.agents.descent(principal).origins)
        accounts = [kernel.agents.descent(each).account for each in everybody]
        return {
            "family": [each.model_dump(mode="json") for each in everybody],
            "under": accounts,
            "account": str(account),
            "balances": [each.model_dump(mode="json") for each in kernel.ledger.status(account)],
        }

    def _tell(self, principal: Principal, session: _Session, name: str, value: Any) -> None:
        """Record a premise, unless it is what was recorded last."""
        digest = content_digest(value)
        if session.told.get(name) == digest:
            return
        handle = self._handle(principal)
        with handle.transaction():
            self._add(principal, session, name, {"value": value}, None, None)
            self._store(handle).put_premise(session.key, name, digest)
        session.told[name] = digest

    def _add(
        self,
        principal: Principal,
        session: _Session,
        name: str,
        content: dict[str, Any],
        call: Call | None,
        seq: int | None,
        handle: AgentFS | None = None,
    ) -> None:
        if session.cipher is None:
            return
        time_ns = (call.time_ns if call else 0) or self._kernel.clock.now_ns()
        where = handle or self._handle(principal)
        transaction = where.transaction() if handle is None else nullcontext()
        with transaction:
            self._store(where).add(
                session.key,
                session.cipher,
                content,
                time_ns=time_ns,
                seq=seq,
                name=name,
                operation=call.operation if call else "",
            )

    def _handle(self, principal: Principal) -> AgentFS:
        return self._kernel.agent_fs(principal)

    def _store(self, handle: AgentFS) -> RecordingStore:
        """Return the tables as this handle's connection has them, so that they are in its turn."""
        with self._lock:
            store = self._stores.get(handle)
        if store is None:
            store = RecordingStore(handle)
            with self._lock:
                self._stores[handle] = store
        return store


def composed_summary(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a composed context with a digest in place of its texts, which the session has."""
    messages = answer["messages"]
    texts = "".join([f"{each['text']}\0" for each in messages])
    digest = hashlib.sha256(texts.encode("utf-8", "surrogatepass"))
    shown = [[each["item"], each["replaced"]] for each in messages]
    return {**answer, "messages": shown, "digest": digest.hexdigest()}


def mandates_of(standing: Standing) -> dict[str, Any]:
    """Return what binds a principal and those that forked it, by agent, as JSON."""
    everybody = (standing, *standing.above)
    return {each.principal.agent_key: _mandate(each.mandate) for each in everybody}


def _mandate(mandate: Mandate) -> dict[str, Any]:
    manifest = mandate.manifest
    limits = {
        kind: [[resource, window, amount] for (resource, window), amount in declared.items()]
        for kind, declared in mandate.limits.items()
    }
    kept: dict[str, Any] = {"limits": limits, "wants_contract": mandate.wants_contract}
    if mandate.refused or mandate.ends_ns:  # what was delegated
        kept |= {"refused": mandate.refused, "tools": mandate.tools, "ends_ns": mandate.ends_ns}
    if manifest is not None:
        return {**kept, "manifest": manifest.model_dump(mode="json")}
    return {**kept, "bounds": mandate.bounds.model_dump(mode="json", by_alias=True)}
