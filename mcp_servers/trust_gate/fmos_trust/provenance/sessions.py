"""The evidence of sessions as they are judged by: read once from the log, then kept up to date."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from fmos.entered.log import Entry, Origin, place_of
from fmos.entered.store import Place
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_trust.evidence.normal import canonical, plain, words
from fmos_trust.evidence.session import SessionEvidence
from fmos_trust.keyed import KeyedHash
from fmos_trust.provenance.values import digest, unpacked

_KEPT = 64


@dataclass(slots=True)
class Seen:
    """What one session has seen. Hold `lock` while it is used.

    `kinds` has, for each output that the evidence observed, what it was: `tool`, `system` (a tool
    into whose output no stranger can write), `memory` or `agent`. `foreign` is what entered by no
    call of the session: a new object once there is more.
    """

    evidence: SessionEvidence = field(default_factory=SessionEvidence)
    has_user: bool = False
    unreadable: bool = False
    kinds: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    digests: dict[bytes, set[str]] = field(default_factory=dict)
    revision: tuple[int, int] = (-1, -1)
    lineage: tuple[str, ...] = ()
    after: dict[Place, int] = field(default_factory=dict)
    foreign: tuple[Entry, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, entry: Entry, *, own: bool) -> None:
        """Take one thing that entered; what a merged agent's user said is another agent's word."""
        kind = "agent" if entry.kind == "user" and not own else entry.kind
        trusted = entry.labels.is_trusted and kind in ("tool", "memory")
        if trusted and kind == "tool":
            kind = "system"
        if entry.text is None:
            for value, stands in unpacked(entry.digests):
                self.digests.setdefault(value, set()).add(stands if kind == "tool" else kind)
            return
        try:
            self._observe(entry, entry.text, kind, trusted=trusted)
        except Exception:  # whatever one text does, the others count; the judge asks for this one
            self.unreadable = True

    def _observe(self, entry: Entry, text: str, kind: str, *, trusted: bool) -> None:
        if kind == "user":
            self.has_user = True
            self.said.append(_spaced(text))
            self.evidence.observe_user(text)
            return
        outputs = len(self.evidence.index.places)
        self.kinds += ["tool"] * (outputs - len(self.kinds))  # of one that could not be taken
        self.kinds.append(kind)
        source = entry.source or kind
        self.evidence.observe_tool(source, text, trusted=trusted, source=entry.place)

    def came_from(self, text: str, keyed: KeyedHash) -> frozenset[str]:
        """Return where a value stands: `user`, `system`, `field`, `text`, `memory`, `agent`."""
        value = canonical(text)
        if not value:
            return frozenset()
        found = set(self.digests.get(digest(value, keyed), ())) if self.digests else set[str]()
        index, spaced = self.evidence.index, _spaced(value)
        for record, key in index.fields.get(value, ()):
            kind = self._kind(index.records[record].source)
            found.add("field" if kind == "tool" and not key.startswith("~") else _prose(kind))
        if value in index.inside:
            found.add(_prose(self._kind(index.inside[value])))
        if spaced.strip():
            if any(spaced in said for said in self.said):
                found.add("user")
            found |= {_prose(self._kind(p.source)) for p in index.passages if spaced in p.spaced}
        return frozenset(found)

    def _kind(self, source: int) -> str:
        return self.kinds[source] if source < len(self.kinds) else "tool"


class Sessions:
    """The sessions of one gate, the latest used of them in memory. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._kept: OrderedDict[Place, Seen] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, who: Principal, lineage: Sequence[str]) -> Seen:
        """Return what the session of a principal has seen by now, from whatever process."""
        place = place_of(who)
        revision = self._kernel.entered.revision()
        with self._lock:
            seen = self._kept.get(place)
            if seen is None or seen.revision[1] != revision[1] or seen.lineage != tuple(lineage):
                seen = self._kept[place] = Seen(lineage=tuple(lineage))
            self._kept.move_to_end(place)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        if seen.revision != revision:
            with seen.lock:
                self._read(who, seen, revision)
        return seen

    def _read(self, who: Principal, seen: Seen, revision: tuple[int, int]) -> None:
        if seen.revision == revision:
            return
        for origin in self._kernel.entered.origins(who):
            self._read_one(origin, seen, place_of(who))
        seen.revision = revision

    def _read_one(self, origin: Origin, seen: Seen, place: Place) -> None:
        after = seen.after.get(origin.place, 0)
        for number, entry in self._kernel.entered.since(origin.place, after):
            seen.take(entry, own=origin.own)
            if entry.text is not None and (origin.place != place or entry.kind == "memory"):
                kind = entry.kind if origin.own or entry.kind != "user" else "agent"
                seen.foreign = (*seen.foreign, dataclasses.replace(entry, kind=kind))
            seen.after[origin.place] = number


def _spaced(text: str) -> str:
    return f" {' '.join(words(plain(text)))} "


def _prose(kind: str) -> str:
    return "text" if kind == "tool" else kind
