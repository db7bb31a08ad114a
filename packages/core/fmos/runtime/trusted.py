"""Which project folders a person trusts, pinned by the content of every document.

A folder that was never trusted counts for nothing. One that was, and is not as it was any more,
makes every look at it fail and so denies: what somebody changed or took away must loosen nothing.
"""

from __future__ import annotations

import json
import os
import shlex
import threading
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from fmos.clock import Clock
from fmos.contract.projectfolder import ProjectFolder, read_folder, real_path, unchanged
from fmos.errors import ContractError, NotFoundError
from fmos.storage.database import Database

if TYPE_CHECKING:
    from fmos.contract.layers import Merged, Policy
    from fmos.contract.project import ProjectDocuments
    from fmos.contract.trust_policy import TrustPolicy
    from fmos.types import Principal

_FIELDS = "path, identity, digest, files, trusted_by, trusted_ns"
_GET = f"SELECT {_FIELDS} FROM trusted_project WHERE path = ?"
_LIST = f"SELECT {_FIELDS} FROM trusted_project ORDER BY path"
_PUT = f"INSERT OR REPLACE INTO trusted_project({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?)"
_REMOVE = "DELETE FROM trusted_project WHERE path = ?"
_SHOWN = 5
_MAX_KEPT = 256


class TrustedProject(NamedTuple):
    """A folder as it was when a person trusted it; `files` holds the digest of each document."""

    path: str
    identity: str
    digest: str
    files: dict[str, str]
    trusted_by: str
    trusted_ns: int


class ProjectPolicies:
    """The trusted project folders of one home, and what their documents say. Thread-safe."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._read: dict[str, tuple[TrustedProject, ProjectFolder, ProjectDocuments]] = {}
        self._narrowed: dict[tuple[int | str, ...], tuple[Merged, ProjectDocuments, Merged]] = {}
        schema = resources.files("fmos.runtime").joinpath("trusted.sql")
        database.install("trusted", [schema.read_text(encoding="utf-8")])

    def trust(self, folder: ProjectFolder, by: str) -> TrustedProject:
        """Pin a folder as it was read and shown to a person; it replaces what was pinned before."""
        files = {each.path: each.digest for each in folder.files}
        row = (folder.path, folder.identity, folder.digest, json.dumps(files), by)
        with self._database.transaction():
            self._database.execute(_PUT, (*row, self._clock.now_ns()))
        return self._require(folder.path)

    def revoke(self, directory: str | os.PathLike[str]) -> None:
        """Let a folder's documents count for nothing again, also those of one that is gone.

        Raises:
            NotFoundError: if it is not trusted.
        """
        path = self._require(real_path(directory)).path
        with self._database.transaction():
            self._database.execute(_REMOVE, (path,))

    def listing(self) -> list[TrustedProject]:
        """Return all trusted folders, sorted by path."""
        return [_to_trusted(row) for row in self._database.query(_LIST)]

    def find(self, directory: str | os.PathLike[str]) -> TrustedProject | None:
        """Return what was pinned for a folder, or None if it is not trusted."""
        return self._pinned(real_path(directory))

    def _pinned(self, path: str) -> TrustedProject | None:
        rows = self._database.query(_GET, (path,))
        return _to_trusted(rows[0]) if rows else None

    def for_directory(self, directory: str | os.PathLike[str]) -> tuple[Policy, ...]:
        """Return the policies of a project's documents; none if nobody trusted its folder.

        Raises:
            ContractError: if the folder is trusted but changed since, or cannot be read.
        """
        documents = self._documents(directory)
        return () if documents is None else documents.policies

    def rules(self, directory: str | os.PathLike[str]) -> tuple[TrustPolicy, ...]:
        """Return the trust policies of a project, the same object while nothing changed.

        Raises:
            ContractError: as of `for_directory`.
        """
        documents = self._documents(directory)
        return () if documents is None else documents.rules

    def tightened(
        self, directory: str | os.PathLike[str], merged: Merged, principal: Principal,
        lineage: Sequence[str] = (),
    ) -> Merged:  # fmt: skip
        """Return an effective contract within what a trusted project says; else the contract as is.

        `lineage` are the ids of the agents that a fork comes from. The result is kept: the same
        object, as `layers.merge` returns it, is narrowed once.

        Raises:
            ContractError: as of `for_directory`.
        """
        said = self._documents(directory)
        if said is None:
            return merged
        key = (id(merged), id(said), principal.tenant, principal.role, *lineage)
        with self._lock:
            known = self._narrowed.get(key)
        if known is None:
            from fmos.contract.project import tightened  # noqa: PLC0415 - as in `_documents`

            # The key's objects are kept too, so that their ids stay theirs.
            known = (merged, said, tightened(merged, said, principal, lineage))
            with self._lock:
                if len(self._narrowed) >= _MAX_KEPT:
                    self._narrowed.clear()
                self._narrowed[key] = known
        return known[2]

    def _require(self, path: str) -> TrustedProject:
        found = self.find(path)
        if found is None:
            raise NotFoundError(
                f"the project {path!r} is not trusted",
                hint="`fmos trust --list` shows those that are",
            )
        return found

    def _documents(self, directory: str | os.PathLike[str]) -> ProjectDocuments | None:
        from fmos.contract.project import documents  # noqa: PLC0415 - only where one is trusted

        # By its own name first: a link in the place of a trusted folder must not lead past it.
        pinned = self._pinned(os.path.abspath(directory)) or self.find(directory)
        if pinned is None:
            _require_folder(directory)
            return None
        with self._lock:
            known = self._read.get(pinned.path)
        if known is not None and known[0] == pinned and unchanged(known[1]):
            return known[2]
        folder = read_folder(pinned.path)
        _compare(pinned, folder)
        parsed = documents(folder)
        with self._lock:
            self._read[pinned.path] = (pinned, folder, parsed)
        return parsed


def _require_folder(directory: str | os.PathLike[str]) -> None:
    """Refuse a project that is not there: a misspelt name must not mean that nothing binds."""
    if not os.path.isabs(directory) or not os.path.isdir(directory):
        raise ContractError(
            f"there is no project folder {os.fspath(directory)!r}",
            hint="set FMOS_PROJECT to the absolute path of the project, or leave it out",
        )


def check(pinned: TrustedProject) -> None:
    """Read a trusted folder again.

    Raises:
        ContractError: if it is not as it was trusted, or cannot be read.
    """
    _compare(pinned, read_folder(pinned.path))


def _compare(pinned: TrustedProject, folder: ProjectFolder) -> None:
    """Refuse a folder that is not the one, or not as it was, when a person trusted it."""
    if folder.identity == pinned.identity and folder.digest == pinned.digest:
        return
    hint = f"run `fmos trust {shlex.quote(pinned.path)}` to look at it again"
    if folder.identity != pinned.identity:
        what = "another directory is there"
    else:
        what = ", ".join(_differences(pinned.files, {e.path: e.digest for e in folder.files}))
    raise ContractError(f"the project {pinned.path!r} is not as it was trusted: {what}", hint=hint)


def _differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    found = [f"{path!r} was removed" for path in sorted(before.keys() - after.keys())]
    found += [f"{path!r} was added" for path in sorted(after.keys() - before.keys())]
    both = sorted(before.keys() & after.keys())
    found += [f"{path!r} was changed" for path in both if before[path] != after[path]]
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return found[:_SHOWN] + more


def _to_trusted(row: tuple[str, str, str, str, str, int]) -> TrustedProject:
    path, identity, digest, files, by, trusted_ns = row
    return TrustedProject(path, identity, digest, json.loads(files), by, trusted_ns)
