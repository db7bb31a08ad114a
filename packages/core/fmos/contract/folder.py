"""A folder of YAML documents that is watched by looking: what did not change is not read again."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

from fmos.contract.parse import Document, load_documents, read_text
from fmos.errors import ContractError

_SUFFIXES = (".yaml", ".yml")

#: What changed this short a time ago may change again without a new time: clocks of file systems
#: are as coarse as two seconds.
SETTLED_S = 2.1


#: What changes when a file or folder does: inode, time of content, time of status, size.
Stamp = tuple[int, int, int, int]


class File(NamedTuple):
    """The name of a file and what is in it, or what is wrong with it."""

    name: str
    found: tuple[Document, ...] | ContractError


class _Kept(NamedTuple):
    stamp: Stamp
    settled: bool
    text: str
    found: tuple[Document, ...] | ContractError


class DocumentFolder:
    """The documents in one folder. Thread-safe; a file that changed is read at the next look."""

    def __init__(self, folder: Path, settled_s: float = SETTLED_S) -> None:
        self.path = folder
        self._prefix = f"{folder}{os.sep}"
        self._settled_ns = int(settled_s * 1e9)
        self._lock = threading.RLock()
        self._kept: dict[str, _Kept] = {}
        self._listed: tuple[Stamp, list[str]] | None = None
        self._all: tuple[File, ...] = ()
        self._read: list[tuple[str, _Kept]] = []

    def all(self) -> tuple[File, ...]:
        """Return every file with its documents, by name; the same object while nothing changed.

        Raises:
            ContractError: if the folder cannot be read.
        """
        with self._lock:
            if self._is_as_read():
                return self._all
            read = [(name, self.read(name)) for name in self.names()]
            found = [(name, documents) for name, documents in read if documents is not None]
            if len(found) != len(self._all) or any(
                name != old.name or documents is not old.found
                for (name, documents), old in zip(found, self._all, strict=True)
            ):
                self._all = tuple(File(*each) for each in found)
            kept = [(self._prefix + name, self._kept.get(name)) for name, _ in found]
            self._read = [(path, each) for path, each in kept if each is not None]
            if len(self._read) != len(found):  # one could not even be looked at
                self._listed = None
            return self._all

    def _is_as_read(self) -> bool:
        """Return whether folder and files are as they were read; nothing here may cost time."""
        listed = self._listed
        try:
            return (
                listed is not None
                and listed[0] == _stamp(self._prefix)
                and all(kept.settled and kept.stamp == _stamp(path) for path, kept in self._read)
            )
        except OSError:  # something is gone: the slow way says what
            return False

    def names(self) -> list[str]:
        """Return the names of the YAML files, sorted; none if there is no such folder.

        Raises:
            ContractError: if the folder cannot be read.
        """
        try:
            stamp = _stamp(self._prefix)
            listed = self._listed
            if listed is not None and listed[0] == stamp:
                return listed[1]
            found = os.listdir(self._prefix)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ContractError(
                f"cannot read the folder {str(self.path)!r}: {error.strerror}",
                hint="check its permissions",
            ) from error
        names = sorted(name for name in found if name.endswith(_SUFFIXES) and name[0] != ".")
        self._listed = (stamp, names) if self._is_settled(stamp) else None
        return names

    def read(self, name: str) -> tuple[Document, ...] | ContractError | None:
        """Return the documents of a file, what is wrong with it, or None if there is no file."""
        path = self._prefix + name
        with self._lock:
            try:
                stamp = _stamp(path)
            except FileNotFoundError:
                self._kept.pop(name, None)
                return None
            except OSError as error:
                return ContractError(
                    f"cannot read the contract {path!r}: {error.strerror}",
                    hint="check its permissions",
                )
            kept = self._kept.get(name)
            if kept is None or not kept.settled or kept.stamp != stamp:
                kept = _read(Path(path), stamp, self._is_settled(stamp), kept)
                self._kept[name] = kept
            return kept.found

    def _is_settled(self, stamp: Stamp) -> bool:
        return time.time_ns() - max(stamp[1], stamp[2]) > self._settled_ns


def _stamp(path: str) -> Stamp:
    it = os.stat(path)
    return (it.st_ino, it.st_mtime_ns, it.st_ctime_ns, it.st_size)


def _read(path: Path, stamp: Stamp, settled: bool, before: _Kept | None) -> _Kept:
    """Read a file; the same text as before gives the same objects."""
    try:
        text = read_text(path)
        if before is not None and before.text == text and isinstance(before.found, tuple):
            return before._replace(stamp=stamp, settled=settled)
        return _Kept(stamp, settled, text, load_documents(text, str(path)))
    except ContractError as error:
        return _Kept(stamp, settled, "", error)
