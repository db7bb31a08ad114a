"""Reads the documents of a project folder: whole, without following links, and as one state.

What they mean is in `fmos.contract.project`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fmos.canonical import content_digest
from fmos.errors import ContractError

FOLDER = ".fmos"
CONTRACTS, POLICIES, TRUST = "contracts", "policies", "policies/trust"
_SUFFIXES = (".yaml", ".yml")
_MAX_BYTES = 1 << 20
_MAX_FILES = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Stamp = tuple[int, int, int, int, int]
"""What changes when a file or folder does: device, inode, size, times of its content and itself."""


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """One document as it was read; `path` is relative to the project, with slashes."""

    path: str
    data: bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes in hex."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class ProjectFolder:
    """The documents of one project, read at one time.

    `path` is the project's real path; `identity` names the directory itself, so that another one in
    its place is not taken for it; `stamps` tell cheaply whether to read again.
    """

    path: str
    identity: str
    files: tuple[ProjectFile, ...]
    stamps: dict[str, Stamp]

    @property
    def digest(self) -> str:
        """The SHA-256 of the names and contents of all documents, the same on every machine."""
        return content_digest({each.path: each.digest for each in self.files})


def real_path(directory: str | os.PathLike[str]) -> str:
    """Return the absolute path of a project without symbolic links.

    Raises:
        ContractError: if it has no text form that can be stored.
    """
    try:
        path = os.path.realpath(directory)
        path.encode("utf-8")
    except ValueError:
        raise ContractError(
            f"the path of the project {os.fspath(directory)!a} is not text",
            hint="rename the folder",
        ) from None
    return path


def read_folder(directory: str | os.PathLike[str]) -> ProjectFolder:
    """Read all documents of a project; one that has none gives an empty folder.

    Raises:
        ContractError: if the directory is missing, a document is no plain file of at most 1 MiB, or
            a symbolic link stands anywhere in `.fmos`.
    """
    path = real_path(directory)
    stamps: dict[str, Stamp] = {}
    files: list[ProjectFile] = []
    with _folder(path, path, None) as root:
        assert root is not None
        identity = f"{os.fstat(root).st_dev}:{os.fstat(root).st_ino}"
        with _folder(FOLDER, path, root, stamps) as own:
            for kind in (CONTRACTS, POLICIES) if own is not None else ():
                with _folder(f"{FOLDER}/{kind}", path, own, stamps) as inside:
                    files += _documents(f"{FOLDER}/{kind}", path, inside, stamps)
                    if kind == POLICIES and inside is not None:
                        with _folder(f"{FOLDER}/{TRUST}", path, inside, stamps) as rules:
                            files += _documents(f"{FOLDER}/{TRUST}", path, rules, stamps)
    return ProjectFolder(path, identity, tuple(files), stamps)


def unchanged(folder: ProjectFolder) -> bool:
    """Return whether nothing in `.fmos` changed since it was read, by names, sizes and times."""
    try:
        root = os.stat(folder.path, follow_symlinks=False)
    except OSError:
        return False
    if folder.identity != f"{root.st_dev}:{root.st_ino}":
        return False
    return all(_stamp_at(folder.path, each) == known for each, known in folder.stamps.items())


def _stamp_at(root: str, relative: str) -> Stamp | None:
    try:
        return _stamp(os.stat(os.path.join(root, relative), follow_symlinks=False))
    except FileNotFoundError:
        return _MISSING
    except OSError:
        return None


def _stamp(found: os.stat_result) -> Stamp:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


_MISSING: Stamp = (0, 0, 0, 0, 0)


@contextmanager
def _folder(
    name: str, project: str, parent: int | None, stamps: dict[str, Stamp] | None = None
) -> Iterator[int | None]:
    """Open a folder without following links; None, and noted as missing, where there is none."""
    try:
        descriptor = os.open(Path(name).name if parent is not None else name, _DIRECTORY,
                             dir_fd=parent)  # fmt: skip
    except FileNotFoundError:
        if stamps is None:
            raise ContractError(
                f"there is no project folder {project!r}", hint="name a directory that is there"
            ) from None
        stamps[name] = _MISSING
        yield None
        return
    except OSError as error:
        raise _refused(name, project, error) from error
    try:
        if stamps is not None:
            stamps[name] = _stamp(os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _documents(
    folder: str, project: str, descriptor: int | None, stamps: dict[str, Stamp]
) -> list[ProjectFile]:
    if descriptor is None:
        return []
    names = sorted(
        each
        for each in os.listdir(descriptor)
        if each.endswith(_SUFFIXES) and not each.startswith(".")
    )
    if len(names) > _MAX_FILES:
        raise ContractError(
            f"{project!r} has {len(names)} files in {folder}, more than {_MAX_FILES}",
            hint="put several rules into one file",
        )
    return [_document(f"{folder}/{each}", project, descriptor, stamps) for each in names]


def _document(path: str, project: str, folder: int, stamps: dict[str, Stamp]) -> ProjectFile:
    try:
        descriptor = os.open(Path(path).name, _FILE, dir_fd=folder)
    except OSError as error:
        raise _refused(path, project, error) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
            raise ContractError(
                f"{path!r} in {project!r} is no plain file of at most 1 MiB",
                hint="a document is a small text file; remove what else ends in .yaml",
            )
        stamps[path] = _stamp(found)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return ProjectFile(path, file.read(_MAX_BYTES + 1))
    finally:
        os.close(descriptor)


def _refused(path: str, project: str, error: OSError) -> ContractError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        shown = path if path != project else "the project"
        return ContractError(
            f"{shown!r} in {project!r} is a symbolic link or no folder",
            hint="put the documents themselves there: what a link leads to could change unseen",
        )
    return ContractError(
        f"{path!r} in {project!r} cannot be read: {error.strerror}", hint="check its permissions"
    )
