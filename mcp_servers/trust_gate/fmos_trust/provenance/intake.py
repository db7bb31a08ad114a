"""Takes what enters a session into the log, with its labels, and labels what a call has written."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from fmos.contract.globs import in_system_area, normalise
from fmos.entered.labels import UNKNOWN, Labels
from fmos.entered.log import LONGEST_TEXT, Entry
from fmos.redaction import texts_in
from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import Effect, ToolDescriptor
from fmos.types import Observation, Operation, Outcome, OutcomeStatus, Principal
from fmos_trust.keyed import KeyedHash
from fmos_trust.provenance.files import label_file, labels_of_file
from fmos_trust.provenance.values import digests_of

#: What an observation's source is where a person spoke.
USER = "user"

_KEPT = 1024
_LONGEST_PLACE = 2_048
_PATHS = ("path", "file", "file_path", "filename")


class _Running(NamedTuple):
    """What is remembered of a call until it ends."""

    place: str
    paths: tuple[str, ...]
    effect: Effect
    labels: Labels | None


class Intake:
    """What enters the sessions of one gate. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._trusted = kernel.settings.trust.trusted_tools
        self._running: OrderedDict[tuple[str, str, str], _Running] = OrderedDict()
        self._lock = threading.Lock()

    def began(
        self, operation: Operation, descriptor: ToolDescriptor | None, effect: Effect
    ) -> None:
        """Remember what a call was asked for, until it ends."""
        who, paths = operation.principal, tuple(_paths(operation, descriptor))
        writes = bool(paths) and effect != "read"
        # As of now: what the call itself returns had no part in what it writes.
        labels = self._kernel.entered.labels(who) if writes else None
        found = _Running(asked_for(operation), paths, effect, labels)
        with self._lock:
            self._running[who.tenant, who.agent_key, operation.id] = found
            while len(self._running) > _KEPT:
                self._running.popitem(last=False)

    def observed(self, who: Principal, observation: Observation, *, secret: bool) -> None:
        """Keep what entered a session. What is beyond the first 64 Ki characters is not kept.

        `secret` says that a secret was found in it.
        """
        if not observation.text.strip():
            return
        running = self._known(who, observation.operation)
        labels = self._labels(who, observation, running)
        if secret:
            labels = labels.joined(Labels(confidentiality="secret"))
        of_user = observation.source == USER
        text = observation.text[:LONGEST_TEXT]
        entry = Entry(
            kind="user" if of_user else "tool",
            text=text,
            source=observation.source,
            place=running.place if running else "",
            operation=observation.operation,
            labels=labels,
        )
        self._kernel.entered.add(who, [entry])

    def unreadable(self, who: Principal) -> None:
        """Note that something entered a session that could not be taken."""
        self._kernel.entered.join(who, UNKNOWN)

    def ended(self, who: Principal, outcome: Outcome) -> None:
        """Label the files that a call wrote with what its session had seen by then."""
        with self._lock:
            running = self._running.pop((who.tenant, who.agent_key, outcome.operation), None)
        if running is None or running.labels is None or outcome.status is OutcomeStatus.DENIED:
            return
        fs = self._kernel.known_agent_fs(who)
        if fs is None:
            return
        keys, labels = self._kernel.keys_of(who.tenant), running.labels
        source = keys.digest(outcome.operation.encode("utf-8", "replace"))[:16]
        for path in running.paths:
            label_file(fs, keys, path, labels, source)

    def _labels(self, who: Principal, observation: Observation, running: _Running | None) -> Labels:
        if observation.source == USER:
            return Labels()
        if any(fnmatchcase(observation.source, each) for each in self._trusted):
            return Labels(integrity="trusted")
        return self._of_file(who, observation.text, running) or UNKNOWN

    def _of_file(self, who: Principal, text: str, running: _Running | None) -> Labels | None:
        """Return the labels of the one file that a call read, if the text is really the file's."""
        if running is None or running.effect != "read" or len(running.paths) != 1:
            return None
        fs = self._kernel.known_agent_fs(who)
        labels = (
            labels_of_file(fs, self._kernel.keys_of(who.tenant), running.paths[0]) if fs else None
        )
        if fs is None or labels is None or not labels.is_trusted:
            return labels
        # A tool may have read a file of that name elsewhere.
        kept = fs.read(running.paths[0]).decode("utf-8", "replace").strip()
        return labels if text.strip() in kept or kept in text else labels.joined(UNKNOWN)

    def _known(self, who: Principal, operation: str) -> _Running | None:
        with self._lock:
            return self._running.get((who.tenant, who.agent_key, operation))

    def digests(self, tenant: str, entry: Entry) -> bytes:
        """Return what is left of an entry once its text is let go."""
        keyed = KeyedHash(self._kernel.keys_of(tenant))
        return digests_of(entry.text or "", keyed, of_user=entry.kind == "user")


def asked_for(operation: Operation) -> str:
    """Return what a call asks for in words: its arguments, so that a request can point at it."""
    return " ".join(_values(operation.arguments))[:_LONGEST_PLACE]


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _values(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _values(each)
    elif value is not None:
        yield str(value)


def _paths(operation: Operation, descriptor: ToolDescriptor | None) -> Iterator[str]:
    """Yield the paths among the arguments of a call, normalised; none of the kernel's own area."""
    roles = descriptor.roles if descriptor else dict.fromkeys(_PATHS, "path")
    for name, role in roles.items():
        if role == "path":
            for text in texts_in(operation.arguments.get(name)):
                path = normalise(text) if "\0" not in text else "/.fmos"
                if not in_system_area(path.casefold()):
                    yield path
