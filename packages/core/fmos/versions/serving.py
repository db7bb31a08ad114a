"""Answers every consumer's question: which version of an artefact does this session get now?

The answer depends on the register and the session's name only, so that every process gives the
same one. Which version a session got is noted once, in one transaction with its journal row.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

from agentfs import AgentFS
from agentfs.errors import BranchNotFound, NotFound
from fmos.contract.shares import in_share
from fmos.errors import FormatError
from fmos.settings import VersionSettings
from fmos.types import Principal
from fmos.versions.content import version_id
from fmos.versions.model import Artefact, Register, artefact_path
from fmos.versions.store import VersionStore

SERVE = "version.serve"
_REMEMBERED = 8192


class Serving:
    """The versions that the sessions of a home get. Thread-safe."""

    def __init__(
        self,
        volume: Callable[[str], AgentFS],
        branch_of: Callable[[Principal], AgentFS | None],
        settings: VersionSettings,
        is_there: Callable[[str], bool] = lambda tenant: True,
    ) -> None:
        """Read from `volume`, a tenant's template branch; `is_there` says if a tenant has one.

        What a session got is noted on its agent's branch, as `branch_of` gives it; where that gives
        None, nothing is noted.
        """
        self._volume = volume
        self._branch_of = branch_of
        self._settings = settings
        self._is_there = is_there
        self._lock = threading.Lock()
        self._stores: dict[str, VersionStore] = {}
        self._noted: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def known_volume(self, tenant: str) -> AgentFS | None:
        """Return a tenant's template branch, or None: looking for a volume makes none."""
        if tenant not in self._stores and not self._is_there(tenant):
            return None
        return self._volume(tenant)

    def store(self, tenant: str) -> VersionStore:
        """Return where a tenant's versions are kept."""
        with self._lock:
            found = self._stores.get(tenant)
            if found is None:
                found = self._stores[tenant] = VersionStore(self._volume(tenant))
            return found

    def current(self, principal: Principal, kind: str, name: str) -> Artefact | None:
        """Return what a session gets of an artefact now; None while nothing is accepted.

        Raises:
            FormatError: if what is accepted was changed by other means: it is not served.
        """
        store = self.store(principal.tenant)
        with store.volume.reading():
            register = store.register()
            found, canary = self._chosen(register, principal, kind, name)
        if found or canary:
            self._note(store, principal, f"{kind}/{name}", found, canary=canary == found)
        return self._read(store, kind, name, found, canary=bool(canary) and canary == found)

    def versions(
        self, principal: Principal, kind: str, register: Register
    ) -> Iterator[tuple[str, str, bool]]:
        """Yield name and id of what a session gets of each artefact of a kind, and if as a canary.

        The versions are noted as given; `fetch` has their content.
        """
        store = self.store(principal.tenant)
        for key in register.artefacts:
            of_kind, _, name = key.partition("/")
            if of_kind != kind:
                continue
            found, canary = self._chosen(register, principal, kind, name)
            if found or canary:
                self._note(store, principal, key, found, canary=canary == found)
            if found:
                yield name, found, canary == found

    def fetch(self, tenant: str, kind: str, name: str, version: str, *, canary: bool) -> bytes:
        """Return the content of a version that is served.

        Raises:
            FormatError: if it was changed by other means.
        """
        found = self._read(self.store(tenant), kind, name, version, canary=canary)
        return found.content if found else b""

    def is_frozen(self, register: Register, key: str) -> bool:
        """Return whether an artefact is held as it is, by a person or by the settings."""
        return self._settings.frozen or register.freeze_of(key) is not None

    def check(self, store: VersionStore, key: str, identifier: str) -> None:
        """Look whether the template branch has the bytes of an accepted version.

        Raises:
            FormatError: if it has others.
        """
        kind, _, name = key.partition("/")
        self._read(store, kind, name, identifier, canary=False)

    def _chosen(
        self, register: Register, principal: Principal, kind: str, name: str
    ) -> tuple[str, str]:
        """Return the id that a session gets, and that of the canary which runs, each or ""."""
        key = f"{kind}/{name}"
        served = register.of(key)
        canary = served.canary
        if canary is None or self.is_frozen(register, key):
            return served.accepted, ""
        tried = in_share(
            f"{key}@{canary.id}",
            canary.share,
            agent=principal.agent_key,
            session=principal.session,
        )
        return (canary.id if tried else served.accepted), canary.id

    def _read(
        self, store: VersionStore, kind: str, name: str, identifier: str, *, canary: bool
    ) -> Artefact | None:
        """Return a version's content: never other bytes than those that its id names."""
        if not identifier:
            return None
        content = _content(store.volume, kind, name, identifier, canary)
        if version_id(content) != identifier:
            raise FormatError(
                f"{artefact_path(kind, name)!r} in the template branch is not the accepted version"
                f" {identifier[:12]!r}, so it is not served",
                hint=f"put that back with `fmos versions rollback {kind} {name} --to"
                f" {identifier[:12]}`",
            )
        return Artefact(kind, name, identifier, content, canary)

    def _note(
        self, store: VersionStore, principal: Principal, key: str, version: str, *, canary: bool
    ) -> None:
        """Note once what a session got; a session without a name is not one."""
        asked = (str(principal), key, version)
        with self._lock:
            if not principal.session or asked in self._noted:
                return
        kind, _, name = key.partition("/")
        if not store.was_served(kind, name, str(principal), version):
            branch = self._branch_of(principal)
            if branch is None:
                return
            self._note_now(store, branch, asked, canary=canary)
        with self._lock:
            self._noted[asked] = None
            if len(self._noted) > _REMEMBERED:
                self._noted.popitem(last=False)

    def _note_now(
        self, store: VersionStore, branch: AgentFS, asked: tuple[str, str, str], *, canary: bool
    ) -> None:
        principal, key, version = asked
        kind, _, name = key.partition("/")
        with branch.transaction():
            if store.was_served(kind, name, principal, version):  # by another process meanwhile
                return
            detail = {"kind": kind, "name": name, "version": version, "canary": canary}
            seq = branch.record(SERVE, detail)
            store.note_served(kind, name, principal, version, seq)


def _content(volume: AgentFS, kind: str, name: str, identifier: str, canary: bool) -> bytes:
    path = artefact_path(kind, name)
    try:
        source = volume.on(f"versions/{kind}/{name}/{identifier}") if canary else volume
        return source.read(path)
    except (NotFound, BranchNotFound):
        return b""
