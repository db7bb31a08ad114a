"""What there is of versions: what a session gets, what was proposed, and what was decided."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from agentfs.errors import BranchNotFound
from agentfs.types import JournalRow
from fmos.errors import ArgumentError, FormatError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.traps.learned import TrapModel
from fmos.types import Principal
from fmos.versions.content import check_names, trap_model_of
from fmos.versions.metrics import better_of
from fmos.versions.model import TRAP_MODEL, Artefact, Candidate, Register
from fmos.versions.serving import SERVE, Serving
from fmos.versions.store import VersionStore

#: How a session did, as its application reports it.
REPORT = "version.report"

_FULL = re.compile(r"[0-9a-f]{64}")


class VersionReader:
    """What is known of one home's versions; decides nothing. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._settings = kernel.settings.versions
        self._serving = Serving(kernel.volume, kernel.agent_fs, self._settings)

    @property
    def kernel(self) -> Kernel:
        """The home that these versions are of."""
        return self._kernel

    # -- what a session gets ------------------------------------------------------------------

    def current(self, principal: Principal, kind: str, name: str) -> Artefact | None:
        """Return what a session gets of an artefact now; None while nothing is accepted.

        Which version that is stands in the journal once for the session (`version.serve`).

        Raises:
            FormatError: if what is accepted was changed by other means: it is not served.
        """
        return self._serving.current(principal, kind, name)

    def trap_model(self, principal: Principal, name: str = "traps") -> TrapModel | None:
        """Return the learned traps that a session gets, for `Governor(client, learned=...)`.

        Raises:
            FormatError: if what is accepted was changed by other means.
        """
        found = self.current(principal, TRAP_MODEL, name)
        return trap_model_of(found.content) if found else None

    def report(self, principal: Principal, metric: str, value: float) -> None:
        """Note how a session did by a metric that FMOS does not see, for its canaries.

        Raises:
            ArgumentError: if the metric's name cannot be one, or the value is no number.
        """
        better_of(metric)
        if not math.isfinite(value):
            raise ArgumentError(f"{value!r} is no number to compare", hint="report a finite one")
        self._kernel.record(principal, REPORT, {"metric": metric, "value": float(value)})

    # -- what is there ------------------------------------------------------------------------

    def register(self, tenant: str) -> Register:
        """Return what a tenant serves, tries and holds frozen."""
        return self._store(tenant).register()

    def artefacts(self, tenant: str, kind: str = "") -> list[tuple[str, str]]:
        """Return kind and name of everything that was ever proposed."""
        return self._store(tenant).artefacts(kind)

    def candidates(self, tenant: str, kind: str, name: str) -> list[Candidate]:
        """Return every version of an artefact, the last proposed one first."""
        store = self._store(tenant)
        found = (store.candidate(kind, name, each) for each in store.identifiers(kind, name))
        known = [each for each in found if each is not None]
        return sorted(known, key=lambda each: each.proposed_ns, reverse=True)

    def candidate(self, tenant: str, kind: str, name: str, version: str) -> Candidate:
        """Return one version by its id or the beginning of that.

        Raises:
            NotFoundError: if there is none.
            ArgumentError: if several begin like that.
        """
        return self._found(self._store(tenant), kind, name, version)

    def content(self, candidate: Candidate) -> bytes:
        """Return the content of a version, whatever became of it.

        Raises:
            NotFoundError: if its branch was deleted.
        """
        try:
            volume = self._store(candidate.tenant).volume
            return volume.on(candidate.branch).read(candidate.path)
        except (BranchNotFound, FileNotFoundError) as error:
            raise NotFoundError(
                f"the branch {candidate.branch!r} that held {candidate.label} is gone",
                hint="propose the content again, or restore a backup",
            ) from error

    def log(
        self,
        tenant: str,
        kind: str = "",
        name: str = "",
        *,
        since: int = 0,
        sessions: bool = False,
    ) -> Iterator[JournalRow]:
        """Yield every decision on versions, oldest first: the journal's rows `version.*`.

        With `sessions` also what each session got, and what was reported of it.
        """
        passed_over = () if sessions else (SERVE, REPORT)
        for row in self._store(tenant).volume.journal(since):
            detail = row.detail
            mine = row.operation.startswith("version.") and row.operation not in passed_over
            fits = kind in ("", detail.get("kind")) and name in ("", detail.get("name"))
            if mine and fits:
                yield row

    def problems(self, tenant: str) -> list[str]:
        """Return what is wrong with what a tenant serves, a sentence each."""
        store, found = self._store(tenant), list[str]()
        for key, served in store.register().artefacts.items():
            try:
                self._serving.check(store, key, served.accepted)
            except FormatError as error:
                found.append(str(error))
        return found

    # -- inside ------------------------------------------------------------------------------

    def _store(self, tenant: str) -> VersionStore:
        return self._serving.store(tenant)

    def _found(self, store: VersionStore, kind: str, name: str, version: str) -> Candidate:
        check_names(kind, name)
        found = store.candidate(kind, name, version) if _FULL.fullmatch(version) else None
        if found is not None:
            return found
        fits = [each for each in store.identifiers(kind, name) if each.startswith(version)]
        if len(fits) > 1:
            raise ArgumentError(
                f"{version!r} begins {len(fits)} versions of {kind}/{name}",
                hint="give more of the id",
            )
        found = store.candidate(kind, name, fits[0]) if fits else None
        if found is None:
            raise NotFoundError(
                f"there is no version {version!r} of {kind}/{name}",
                hint=f"see `fmos versions list {kind} {name}`",
            )
        return found
