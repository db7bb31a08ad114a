"""The fsspec door: `agentfs://path` for pandas, dask, pyarrow and all else that speaks fsspec.

Translates fsspec's calls to those of `AgentFS`; importing it needs the extra `fmos[fsspec]`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

try:
    from fsspec import AbstractFileSystem
    from fsspec.core import has_magic
    from fsspec.spec import AbstractBufferedFile, make_instance
    from fsspec.transaction import Transaction
    from fsspec.utils import stringify_path
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "agentfs.fsspec needs the package fsspec; install it with `pip install 'fmos[fsspec]'`",
        name=missing.name,
    ) from missing

from .errors import AlreadyExists, InvalidArgument, IsADirectory, NotFound
from .filesystem import AgentFS
from .paths import is_inside, join, split
from .types import Durability, Stat
from .versions import FileVersion

_KINDS = {"file": "file", "directory": "directory", "symlink": "link"}
_NEEDS_VOLUME = 'an agentfs:// path needs the option volume, as in volume="a.afs"'


class _WorkingDirectory:
    """Part of the key of fsspec's instance cache, since `volume` may be relative to it."""

    def __get__(self, instance: object, owner: type) -> str:
        return os.getcwd()


class VolumeTransaction(Transaction):
    """`with fs.transaction:` writes all its files in one transaction of the volume."""

    def complete(self, commit: bool = True) -> None:
        """Write what was deferred, all or nothing, or drop it."""
        if self.fs is None:
            return
        with self.fs.agentfs.transaction():
            super().complete(commit)


class ReadFile(AbstractBufferedFile):
    """A file opened for reading: ranges of the version it had then."""

    def __init__(self, fs: AgentFileSystem, path: str, mode: str = "rb", **options: Any) -> None:
        """Hold on to the version that is there now."""
        self._version = FileVersion(fs.agentfs, path)
        super().__init__(fs, path, mode, size=self._version.size, **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._version.read(start, end)


class WriteFile(io.BytesIO):
    """A new file: its bytes appear in the volume at once, when it is closed or committed."""

    def __init__(self, write: Callable[[bytes], None], path: str, autocommit: bool) -> None:
        """Begin empty."""
        super().__init__()
        self.path = path
        self._write = write
        self._autocommit = autocommit
        self._data: bytes | None = None

    def close(self) -> None:
        """Write the bytes, or keep them for `commit`; a second close does nothing."""
        if self.closed:
            return
        self._data = self.getvalue()
        super().close()
        if self._autocommit:
            self.commit()

    def commit(self) -> None:
        """Write the bytes."""
        self.close()
        if self._data is not None:
            self._write(self._data)
            self._data = None

    def discard(self) -> None:
        """Drop the bytes."""
        self._autocommit = False
        self._data = None


class AgentFileSystem(AbstractFileSystem):
    """A branch of a volume as an fsspec file system."""

    protocol: ClassVar[Any] = "agentfs"
    root_marker = "/"
    transaction_type = VolumeTransaction
    _working_directory = _WorkingDirectory()
    _extra_tokenize_attributes = ("_working_directory",)

    def __init__(
        self, *, volume: str | os.PathLike[str] = "", branch: str | None = None,
        at: str | None = None, create: bool = False, durability: Durability = "normal",
        principal: str = "", auto_mkdir: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        """Open a volume.

        Args:
            volume: its file; made only with `create`.
            branch: else the volume's default branch.
            at: a snapshot or branch to read only.
            create: make the volume when it is missing.
            durability: "normal" or "full".
            principal: the name in the journal.
            auto_mkdir: make missing parents of what is written, as object stores do.
            options: those of every fsspec file system.
        """
        super().__init__(**options)
        if not os.fspath(volume):
            raise InvalidArgument("volume", _NEEDS_VOLUME)
        self.auto_mkdir = auto_mkdir
        handle = AgentFS.open(
            os.path.abspath(volume), branch, durability, create, principal=principal
        )
        self._owner = handle  # a view of it must not outlive it
        self.agentfs = handle if at is None else handle.at(at)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the way to the volume, also for a process with another working directory."""
        options = {**self.storage_options, "volume": str(self.agentfs.path)}
        return make_instance, (type(self), (), options)

    @property
    def fsid(self) -> str:
        """Name the volume and the branch."""
        return f"agentfs:{self.agentfs.path}:{self.agentfs.branch}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        text = stringify_path(path).removeprefix("agentfs://")
        return "/" + text.strip("/")

    # -- look -------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Describe a path; a symbolic link is described by what it leads to."""
        path = self._strip_protocol(path)
        return self._facts(path, self.agentfs.lstat(path))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a directory, or a file alone."""
        path = self._strip_protocol(path)
        if not self.agentfs.is_dir(path):
            found = [self.info(path)]
        else:
            entries = self.agentfs.scandir(path)
            found = [self._facts(each.path, each.stat) for each in entries]
        return found if detail else [each["name"] for each in found]

    def _facts(self, path: str, found: Stat) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        if found.is_symlink:
            extra = {"islink": True, "destination": self.agentfs.readlink(path)}
            with suppress(OSError):  # a link that leads nowhere is described as itself
                found = self.agentfs.stat(path)
        return {
            "name": path,
            "size": 0 if found.is_dir else found.size,
            "type": _KINDS.get(found.kind, "other"),
            "mode": found.mode,
            "ino": found.node,
            "mtime": found.mtime_ns / 1e9,
            "created": found.ctime_ns / 1e9,
            **extra,
        }

    def created(self, path: str) -> datetime:
        """Return when the entry last changed in any way."""
        return self._time(self.info(path)["created"])

    def modified(self, path: str) -> datetime:
        """Return when the bytes last changed."""
        return self._time(self.info(path)["mtime"])

    @staticmethod
    def _time(seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, UTC)

    def ukey(self, path: str) -> str:
        """Return the id of the file's immutable version."""
        return str(self.info(path)["ino"])

    # -- bytes ------------------------------------------------------------------------------

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Return a file's bytes or a range of them; negative numbers count from its end."""
        version = FileVersion(self.agentfs, self._strip_protocol(path))
        first, last, _step = slice(start, end).indices(version.size)
        return version.read(first, last)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Write a whole file in one operation; with the mode "create" it must be new."""
        self._put(self._strip_protocol(path), bytes(value), exclusive=mode == "create")

    def _put(self, path: str, data: bytes, exclusive: bool = False) -> None:
        with self.agentfs.transaction() as fs:
            self._make_parent(path)
            if exclusive and fs.exists(path):
                raise AlreadyExists(path)
            fs.write(path, data)

    def _make_parent(self, path: str) -> None:
        parent = split(path)[0]
        if self.auto_mkdir and not self.agentfs.exists(parent):
            self.agentfs.mkdir(parent, parents=True, exist_ok=True)

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None,
        autocommit: bool = True, cache_options: dict[str, Any] | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        if mode == "rb":
            options.pop("size", None)
            return ReadFile(
                self, path, mode, block_size=block_size or "default", autocommit=autocommit,
                cache_options=cache_options, **options,
            )  # fmt: skip
        if mode in ("wb", "xb"):
            return self._new(path, mode == "xb", autocommit)
        if not autocommit:
            raise InvalidArgument(path, f"mode {mode!r} cannot wait for a transaction's end")
        self._make_parent(path)
        return self.agentfs.open(path, mode)

    def _new(self, path: str, exclusive: bool, autocommit: bool) -> WriteFile:
        """Refuse at once what cannot be written, and let the bytes come later."""
        if self.agentfs.is_dir(path):
            raise IsADirectory(path)
        if exclusive and self.agentfs.exists(path):
            raise AlreadyExists(path)
        parent = split(path)[0]
        if not self.auto_mkdir and not self.agentfs.is_dir(parent):
            raise NotFound(parent)
        return WriteFile(lambda data: self._put(path, data, exclusive), path, autocommit)

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        """Make an empty file, or without `truncate` set the time of one that is there."""
        path = self._strip_protocol(path)
        if truncate or not self.agentfs.exists(path):
            self._put(path, b"")
        else:
            self.agentfs.utime(path)

    # -- names ------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Make a directory that is not there."""
        path = self._strip_protocol(path)
        with self.agentfs.transaction() as fs:
            if fs.exists(path):
                raise AlreadyExists(path)
            fs.mkdir(path, parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and its parents."""
        self.agentfs.mkdir(self._strip_protocol(path), parents=True, exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self.agentfs.rmdir(self._strip_protocol(path))

    def rm_file(self, path: str) -> None:
        """Remove a file or link."""
        self.agentfs.remove(self._strip_protocol(path))

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, or with `recursive` whole directories, all or nothing."""
        found = self.expand_path(path, recursive=recursive and maxdepth is not None,
                                 maxdepth=maxdepth)  # fmt: skip
        with self.agentfs.transaction() as fs:
            for each in reversed(found):
                fs.remove(each, recursive=recursive and maxdepth is None)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy one file by sharing its bytes, or make a directory like another."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        with self.agentfs.transaction() as fs:
            if fs.is_dir(source):
                fs.mkdir(target, parents=True, exist_ok=True)
            else:
                self._make_parent(target)
                fs.copy(source, target)

    def copy(
        self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None,
        on_error: str | None = None, **options: Any,
    ) -> None:  # fmt: skip
        """Copy files; a whole directory to a new place is shared in one operation."""
        target = self._whole_copy(path1, path2) if recursive and maxdepth is None else None
        if target is None:
            super().copy(path1, path2, recursive, maxdepth, on_error, **options)
            return
        with self.agentfs.transaction() as fs:
            self._make_parent(target)
            fs.copy(self._strip_protocol(path1), target)

    def _whole_copy(self, path1: Any, path2: Any) -> str | None:
        """Return where a directory goes if nothing is there, by fsspec's rules for slashes."""
        if not isinstance(path1, str) or not isinstance(path2, str) or has_magic(path1):
            return None
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        fs = self.agentfs
        if not fs.is_dir(source):
            return None
        if fs.is_dir(target) and not path1.endswith("/"):
            target = join(target, split(source)[1])
        is_new = not fs.exists(target) and not is_inside(target, source)
        return target if is_new else None

    def mv(
        self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any
    ) -> None:
        """Move a file or directory at once; into a directory that is there."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if not isinstance(source, str) or not isinstance(target, str) or maxdepth is not None:
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth)
            return
        with self.agentfs.transaction() as fs:
            if fs.is_dir(target) and source != target:
                target = join(target, split(source)[1])
            fs.lstat(source)  # a missing source makes no parents
            self._make_parent(target)
            fs.rename(source, target)
