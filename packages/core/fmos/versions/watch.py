"""Watches canaries: sessions that get one against those that do not, and takes a worse one back.

What is compared comes from the journal rows of sessions that began after the canary did and got one
version only. A session counts once nothing came from it for a while.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from agentfs.types import JournalRow
from fmos.audit.record import INTENT, OUTCOME
from fmos.errors import FmosError
from fmos.runtime.kernel import Kernel
from fmos.types import Decision, OutcomeStatus
from fmos.versions.metrics import OBSERVED
from fmos.versions.model import Canary
from fmos.versions.people import WATCH
from fmos.versions.reading import REPORT
from fmos.versions.sequential import Evidence, evidence
from fmos.versions.store import VersionStore, read_register
from fmos.versions.versions import Versions, kind_of

#: Evidence beyond this is shown as that.
_MOST = 1e6


@dataclass(slots=True)
class Session:
    """What one session did since the canary began."""

    last_seq: int = 0
    last_ns: int = 0
    asked: int = 0
    denied: int = 0
    consents: int = 0
    ended: int = 0
    failed: int = 0
    durations: list[float] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    reported: dict[str, list[float]] = field(default_factory=dict)

    def add(self, row: JournalRow) -> None:
        """Take one row of the session into account."""
        self.last_seq, self.last_ns = row.seq, row.time_ns
        if row.operation == INTENT:
            self.asked += 1
            self.denied += row.detail.get("decision") == Decision.DENY
            self.consents += row.detail.get("decision") == Decision.ASK
        elif row.operation == OUTCOME:
            self.ended += 1
            self.failed += row.detail.get("status") == OutcomeStatus.FAILED
            self.durations.append(float(row.detail.get("duration_ms", 0.0)))
            for resource, amount in row.detail.get("usage", {}).items():
                self.usage[resource] = self.usage.get(resource, 0) + int(amount)
        elif row.operation == REPORT:
            value = float(row.detail["value"])
            self.reported.setdefault(str(row.detail["metric"]), []).append(value)

    def value(self, metric: str) -> float | None:
        """Return the session's value of a metric; None if it says nothing about it."""
        if metric in self.reported:
            return sum(self.reported[metric]) / len(self.reported[metric])
        observe = _OBSERVERS.get(metric)
        return observe(self) if observe else None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a canary does: the sessions of both sides, their means, and what speaks against it."""

    tenant: str
    key: str
    canary: Canary
    sessions: int
    control: int
    mean: float | None
    control_mean: float | None
    evidence: Evidence
    needed: float

    @property
    def is_worse(self) -> bool:
        """Whether the evidence is enough to take the canary back, at the stated error rate."""
        return self.evidence.value >= self.needed

    @property
    def sentence(self) -> str:
        """What a person reads in the decision log."""
        found = self.evidence
        return (
            f"{self.canary.metric} is {_shown(self.mean)} in {self.sessions} sessions with the"
            f" canary and {_shown(self.control_mean)} in {self.control} without; of"
            f" {found.differing} pairs that differ the canary is worse in {found.worse}"
            f" (evidence {_large(found.value)}, needed {self.needed:.1f})"
        )


@dataclass(slots=True)
class _Tally:
    """What is known of all sessions since a canary began, up to a journal row."""

    seq: int
    sessions: dict[str, Session] = field(default_factory=dict)


#: By tenant and canary: a watcher that looks again reads only what is new.
_TALLIES: WeakKeyDictionary[Kernel, dict[tuple[str, str, int], _Tally]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def watch_canaries(kernel: Kernel) -> int:
    """Compare every canary of the home with its control; take back those that do worse.

    Returns how many were taken back. Safe beside other processes that do the same.

    Raises:
        FormatError: if a tenant's versions cannot be read, after all others were looked at.
    """
    versions, count = Versions(kernel), 0
    problems: list[FmosError] = []
    for tenant in kernel.home.tenants():
        try:
            count += sum(_taken_back(versions, each) for each in standings(kernel, tenant))
        except FmosError as error:  # one tenant's damage must not keep another's canary alive
            problems.append(error)
    if problems:
        raise problems[0]
    return count


def standings(kernel: Kernel, tenant: str) -> list[Standing]:
    """Return how every canary of a tenant does now, those of frozen artefacts left out."""
    settings = kernel.settings.versions
    register = read_register(kernel.volume(tenant))
    running = {
        key: served.canary
        for key, served in register.artefacts.items()
        if served.canary and not settings.frozen and not register.freeze_of(key)
    }
    with _LOCK:
        _forget(kernel, tenant, running.values())
        return [_standing(kernel, tenant, key, canary) for key, canary in running.items()]


def _taken_back(versions: Versions, found: Standing) -> bool:
    """Take a canary back if it is shown to do worse, by enough sessions."""
    if not found.is_worse or found.evidence.pairs < versions.kernel.settings.versions.min_sessions:
        return False
    return versions.take_back(
        found.tenant,
        found.key,
        found.canary.id,
        by=WATCH,
        why=found.sentence,
        metric=found.canary.metric,
        evidence=round(min(found.evidence.value, _MOST), 3),
        sessions=found.sessions,
        control=found.control,
    )


def _standing(kernel: Kernel, tenant: str, key: str, canary: Canary) -> Standing:
    settings, store = kernel.settings.versions, VersionStore(kernel.volume(tenant))
    given = store.sessions(kind_of(key), key.partition("/")[2], canary.since_seq)
    seen = _sessions(kernel, tenant, canary)
    quiet_ns = kernel.clock.now_ns() - int(settings.quiet_s * 1e9)
    tried: list[tuple[int, float]] = []
    control: list[tuple[int, float]] = []
    for principal in given.keys() & seen.keys():
        session = seen[principal]
        value = session.value(canary.metric)
        if value is None or (settings.quiet_s and session.last_ns > quiet_ns):
            continue
        (tried if given[principal] == canary.id else control).append((session.last_seq, value))
    sign = 1 if canary.better == "lower" else -1
    pairs = zip(_in_order(tried), _in_order(control), strict=False)
    signs = ((sign * mine > sign * other) - (sign * mine < sign * other) for mine, other in pairs)
    return Standing(
        tenant=tenant,
        key=key,
        canary=canary,
        sessions=len(tried),
        control=len(control),
        mean=_mean([value for _, value in tried]),
        control_mean=_mean([value for _, value in control]),
        evidence=evidence(signs),
        needed=1 / settings.error_rate,
    )


def _forget(kernel: Kernel, tenant: str, running: Iterable[Canary]) -> None:
    """Let go of what is known of canaries that ended."""
    kept = {(tenant, each.id, each.since_seq) for each in running}
    tallies = _TALLIES.setdefault(kernel, {})
    for key in [key for key in tallies if key[0] == tenant and key not in kept]:
        del tallies[key]


def _sessions(kernel: Kernel, tenant: str, canary: Canary) -> dict[str, Session]:
    """Return what each session did since a canary began."""
    tallies = _TALLIES.setdefault(kernel, {})
    tally = tallies.setdefault((tenant, canary.id, canary.since_seq), _Tally(canary.since_seq))
    for row in kernel.volume(tenant).journal(tally.seq):
        tally.seq = row.seq
        if row.operation in (INTENT, OUTCOME, REPORT):
            tally.sessions.setdefault(row.principal, Session()).add(row)
    return tally.sessions


def _in_order(values: list[tuple[int, float]]) -> list[float]:
    """Return the values by when their sessions ended: later ones never come between."""
    return [value for _, value in sorted(values)]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _large(value: float) -> str:
    return f"above {_MOST:,.0f}" if value > _MOST else f"{value:.1f}"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _p95(session: Session) -> float | None:
    ordered = sorted(session.durations)
    return ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)] if ordered else None


_OBSERVERS: dict[str, Callable[[Session], float | None]] = {
    "error_rate": lambda session: _rate(session.failed, session.ended),
    "denial_rate": lambda session: _rate(session.denied, session.asked),
    "approval_rate": lambda session: _rate(session.consents, session.asked),
    "latency_p95_ms": _p95,
    "tokens": lambda session: float(session.usage.get("tokens", 0)) if session.ended else None,
    "spend": lambda session: float(session.usage.get("currency", 0)) if session.ended else None,
}
assert _OBSERVERS.keys() == OBSERVED.keys()
