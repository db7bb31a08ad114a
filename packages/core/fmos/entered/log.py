"""Keeps what entered a session, so that a restart, another process or a fork knows it.

A text is sealed (AES-256-GCM under a key of the session) for `[trust] evidence_keep_days`; the
keyed digests of its values and its labels stay. What an agent has beside its own: that of the
agents it descends from, of those that were merged into it, and of those that handed over to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import zstandard

from fmos.entered.labels import UNKNOWN, Labels
from fmos.entered.store import EnteredStore, Place, Row
from fmos.redaction import redacted
from fmos.replay.encryption import SALT_BYTES, SessionCipher
from fmos.types import Principal

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel

EntryKind = Literal["user", "tool", "memory", "agent"]

#: So many characters of a text are kept; what stands behind them is looked at by nobody.
LONGEST_TEXT = 65_536

#: So many entries of a session are read at once, and what its user said.
MOST_READ = 1_000

_DAY_NS = 86_400 * 1_000_000_000
_DIGEST_BYTES = 16
_LEVEL = 1
_KEPT = 512
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that enters, or entered, a session.

    `source` is the tool's name, `place` what it was asked for (path, link, query). `text` is None
    where only the digests of its values are left.
    """

    kind: EntryKind
    text: str | None
    source: str = ""
    place: str = ""
    operation: str = ""
    labels: Labels = UNKNOWN
    digests: bytes = b""

    def as_json(self) -> dict[str, Any]:
        """Return the entry with its text, as JSON data."""
        said = {"kind": self.kind, "text": self.text, "source": self.source, "place": self.place}
        return {**said, "operation": self.operation, "labels": self.labels.model_dump()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        """Return the entry that `as_json` told of."""
        return cls(**{**data, "labels": Labels.of(data["labels"]) or UNKNOWN})


class Origin(NamedTuple):
    """A session whose entries an agent has; `own` of its own line, else merged or handed over."""

    place: Place
    own: bool


@dataclass(slots=True)
class _Known:
    """What this process knows of the sessions that it wrote to."""

    salts: dict[Place, bytes] = field(default_factory=dict)
    ciphers: dict[bytes, SessionCipher] = field(default_factory=dict)


class EntryLog:
    """What entered the sessions of one home. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._store = EnteredStore(kernel.database)
        self._known = _Known()

    def add(self, who: Principal, entries: Sequence[Entry]) -> None:
        """Keep what entered the session of a principal, and join its labels.

        The same text of the same kind is kept once.
        """
        if not entries:
            return
        place, now_ns = place_of(who), self._kernel.clock.now_ns()
        salt = self._known.salts.get(place) or os.urandom(SALT_BYTES)
        if not self._added(place, entries, salt, now_ns):  # another process has begun it
            salt = self._store.begin(place, salt, now_ns)
            self._added(place, entries, salt, now_ns)

    def _added(self, place: Place, entries: Sequence[Entry], salt: bytes, now_ns: int) -> bool:
        cipher = self._cipher(place.tenant, salt)
        labels = entries[0].labels
        for each in entries[1:]:
            labels = labels.joined(each.labels)
        rows = [self._row(place.tenant, each, cipher, now_ns) for each in entries]
        if not self._store.add(place, rows, labels, salt, now_ns):
            return False
        if len(self._known.salts) >= _KEPT:
            self._known.salts.clear()
        self._known.salts[place] = salt
        return True

    def seal(self, who: Principal, data: bytes) -> bytes:
        """Return data as only the session's key opens it; what erases the session erases it."""
        place = place_of(who)
        salt = self._store.begin(place, os.urandom(SALT_BYTES), self._kernel.clock.now_ns())
        return self._cipher(place.tenant, salt).encrypt(data)

    def unseal(self, place: Place, data: bytes) -> bytes | None:
        """Return what was sealed in a session; None if that was erased, or the data changed."""
        known = self._store.session(place)
        return self._cipher(place.tenant, known[0]).decrypt(data) if known else None

    def since(self, place: Place, after: int = 0, most: int = MOST_READ) -> list[tuple[int, Entry]]:
        """Return what entered a session after a row, with the rows' numbers.

        Of more than `most` the newest, and everything that the user said.
        """
        rows = self._store.since(place, after, most)
        if not rows:
            return []
        known = self._store.session(place)
        cipher = self._cipher(place.tenant, known[0]) if known else None
        return [(row.id, _entry(row, cipher)) for row in rows]

    def revision(self) -> tuple[int, int]:
        """Return what differs once anything was added or forgotten, by whatever process."""
        return self._store.revision()

    def origins(self, who: Principal) -> list[Origin]:
        """Return the sessions whose entries a principal has, the eldest first."""
        descent = self._kernel.agents.descent(who)
        forkers = {each.agent_key: each.session for each in descent.origins}
        found: list[Origin] = []
        for agent in reversed(descent.lineage):
            sessions = dict.fromkeys((forkers.get(agent, who.session), who.session))
            found += [Origin(Place(who.tenant, agent, each), own=True) for each in sessions]
        for other, _how in self._store.links(who.tenant, who.agent_key):
            places = (Place(who.tenant, other, s) for s in self._store.sessions(who.tenant, other))
            found += [Origin(place, own=False) for place in places]
        return found

    def labels(self, who: Principal) -> Labels | None:
        """Return the labels of all that entered a session; None where nobody kept any of it."""
        found: Labels | None = None
        for origin in self.origins(who):
            known = self._store.session(origin.place)
            if known is not None and known[1] is not None:
                found = known[1] if found is None else found.joined(known[1])
        return found

    def now(self, made: Labels | None, place: Place) -> Labels:
        """Return the labels of what was made in a session, with what was heard of it since.

        A client may tell of an output after something was made from it, so the session counts.
        """
        known = self._store.session(place)
        since = known[1] if known else None
        return UNKNOWN if made is None or since is None else made.joined(since)

    def keeps(self, who: Principal) -> bool:
        """Return whether anything that entered a session is kept."""
        known = self._store.session(place_of(who))
        return known is not None and known[1] is not None

    def labels_of(self, who: Principal, kind: EntryKind, text: str) -> Labels | None:
        """Return the labels of a text that entered a session, or None where it did not."""
        digest = self._digest(who.tenant, kind, text[:LONGEST_TEXT])
        found = (self._store.labels_of(each.place, digest) for each in self.origins(who))
        return next((labels for labels in found if labels is not None), None)

    def join(self, who: Principal, labels: Labels) -> None:
        """Note that something with these labels entered a session; what it was, is not kept."""
        if labels != Labels():
            now_ns = self._kernel.clock.now_ns()
            self._store.begin(place_of(who), os.urandom(SALT_BYTES), now_ns)
            self._store.label(place_of(who), labels)

    def merged(self, who: Principal, other: Principal) -> None:
        """Note that the state of another agent became a part of a principal's."""
        self._store.link(who.tenant, who.agent_key, other.agent_key, "merged")

    def handed_over(self, who: Principal, other: Principal) -> None:
        """Note that another agent told a principal what it knew: a sub-agent that is no fork."""
        self._store.link(who.tenant, who.agent_key, other.agent_key, "handed")

    def others(self, who: Principal) -> list[str]:
        """Return the keys of the agents that were merged into a principal's, or handed over."""
        return [other for other, _how in self._store.links(who.tenant, who.agent_key)]

    def expire(self, digests: Callable[[str, Entry], bytes]) -> int:
        """Let go of texts whose time is over and return how many; labels and digests stay.

        `digests` says what is kept of an entry of a tenant in place of its text.
        """
        days = self._kernel.settings.trust.evidence_keep_days
        before_ns = self._kernel.clock.now_ns() - int(days * _DAY_NS)
        count = 0
        while days and (rows := self._store.older(before_ns, _AT_ONCE)):
            for place, row in rows:
                known = self._store.session(place)
                entry = _entry(row, self._cipher(place.tenant, known[0]) if known else None)
                self._store.let_go(row.id, digests(place.tenant, entry))
            count += len(rows)
        return count

    def forget(self, who: Principal) -> None:
        """Erase what entered one session, its key with it: no backup can be read then."""
        self._store.forget(place_of(who))
        self._known.salts.pop(place_of(who), None)

    def _row(
        self, tenant: str, entry: Entry, cipher: SessionCipher, now_ns: int
    ) -> tuple[object, ...]:
        text = (entry.text or "")[:LONGEST_TEXT]
        sealed = json.dumps({"text": text, "place": entry.place[:LONGEST_TEXT]}).encode("ascii")
        return (
            entry.kind,
            _plain(redacted(entry.source[:256])),
            _plain(entry.operation[:64]),
            entry.labels.integrity,
            entry.labels.confidentiality,
            self._digest(tenant, entry.kind, text),
            entry.digests,
            cipher.encrypt(zstandard.compress(sealed, _LEVEL)),
            now_ns,
        )

    def _digest(self, tenant: str, kind: str, text: str) -> bytes:
        key = bytes.fromhex(self._kernel.keys_of(tenant).digest(b"fmos: texts that entered"))
        said = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
        return blake2b(said, key=key, digest_size=_DIGEST_BYTES).digest()

    def _cipher(self, tenant: str, salt: bytes) -> SessionCipher:
        found = self._known.ciphers.get(salt)
        if found is None:
            if len(self._known.ciphers) >= _KEPT:
                self._known.ciphers.clear()
            found = self._known.ciphers[salt] = SessionCipher(self._kernel.keys_of(tenant), salt)
        return found


def _plain(text: str) -> str:
    """Return a text without lone surrogates, which SQLite does not take."""
    return text.encode("utf-8", "replace").decode()


def place_of(who: Principal) -> Place:
    """Return the session of a principal."""
    return Place(who.tenant, who.agent_key, who.session)


def _entry(row: Row, cipher: SessionCipher | None) -> Entry:
    opened = cipher.decrypt(row.sealed) if cipher and row.sealed is not None else None
    kept: dict[str, str] = json.loads(zstandard.decompress(opened)) if opened else {}
    return Entry(
        kind=row.kind,  # type: ignore[arg-type]  # the table checks it
        text=kept.get("text"),
        source=row.source,
        place=kept.get("place", ""),
        operation=row.operation,
        labels=Labels(integrity=row.integrity, confidentiality=row.confidentiality),  # type: ignore[arg-type]
        digests=row.digests,
    )
