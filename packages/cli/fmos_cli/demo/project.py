"""Chooses the directory that the demo works on and brings a copy of it into the volume.

The host's files are read, never written. What is left out is counted and said.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from agentfs import AgentFS
from agentfs.errors import HostError
from fmos.errors import ArgumentError

EXCLUDED_FOLDERS = frozenset(
    {
        ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".pytest_cache",
        ".ruff_cache", ".mypy_cache", ".tox", ".nox", ".cache", ".hypothesis", ".fmos",
        ".import_linter_cache",
    }
)  # fmt: skip
_FILE_BYTES = 4_000_000
_TOTAL_BYTES = 96_000_000
_TOTAL_FILES = 6_000
_BEYOND = f"beyond the demo's {_TOTAL_FILES} files or {_TOTAL_BYTES // 1_000_000} MB"
_BATCH = 250
_OWN_PACKAGES = (
    "agentfs", "fmos", "fmos_cli", "fmos_memory", "fmos_context", "fmos_trust", "fmos_budget",
    "fmos_langgraph",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """Folders of the host, each with its name in the project: "" is the project itself."""

    label: str
    folders: tuple[tuple[str, Path], ...]


@dataclass(slots=True)
class Brought:
    """What was copied and what was left out."""

    files: int = 0
    size_bytes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def describe_left_out(self) -> str:
        """Return one phrase, or an empty string when everything came in."""
        return ", ".join(f"{number} {what}" for what, number in sorted(self.left_out.items()))


def choose(repo: Path | None) -> Source:
    """Return the directory that was asked for, else this checkout, else the installed packages.

    Raises:
        ArgumentError: if the directory is missing, not a directory or not readable.
    """
    if repo is None:
        return _own_source()
    hint = "give --repo a directory that you may read"
    if not repo.exists():
        raise ArgumentError(f"there is no directory {str(repo)!r}", hint=hint)
    if not repo.is_dir():
        raise ArgumentError(f"{str(repo)!r} is not a directory", hint=hint)
    try:
        with os.scandir(repo) as listing:
            next(listing, None)
    except OSError as error:
        raise ArgumentError(
            f"cannot read the directory {str(repo)!r}: {error.strerror}", hint=hint
        ) from error
    return Source(str(repo), (("", repo.resolve()),))


def _own_source() -> Source:
    for parent in Path(__file__).resolve().parents:
        if (parent / "pyproject.toml").is_file() and (parent / "agentfs" / "agentfs").is_dir():
            return Source(f"{parent} (this repository)", (("", parent),))
    found = [(name, _package(name)) for name in _OWN_PACKAGES]
    folders = tuple((name, path) for name, path in found if path is not None)
    return Source("the installed packages of fmos", folders)


def _package(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def bring_in(fs: AgentFS, source: Source, target: str, progress: Callable[[str], None]) -> Brought:
    """Copy the source into the folder `target` of the volume, in batches of one transaction."""
    brought = Brought()
    fs.mkdir(target, parents=True, exist_ok=True)
    entries = (
        (path, posixpath.join(target, name, inner))
        for name, folder in source.folders
        for path, inner in _entries(folder, "", brought)
    )
    more = True
    while more:
        with fs.transaction():
            more = _batch(fs, entries, brought)
        progress(f"putting {brought.files} files, {brought.size_bytes / 1e6:.1f} MB")
    return brought


def _batch(fs: AgentFS, entries: Iterator[tuple[os.DirEntry[str], str]], brought: Brought) -> bool:
    for _ in range(_BATCH):
        entry, path = next(entries, (None, ""))
        if entry is None:
            return False
        try:
            _put(fs, entry, path, brought)
        except (HostError, OSError):
            brought.left_out["unreadable"] += 1
    return True


def _put(fs: AgentFS, entry: os.DirEntry[str], path: str, brought: Brought) -> None:
    if entry.is_symlink():
        fs.mkdir(posixpath.dirname(path), parents=True, exist_ok=True)
        fs.symlink(os.readlink(entry.path), path)
        return
    fs.mkdir(posixpath.dirname(path), parents=True, exist_ok=True)
    totals = fs.put_tree(entry.path, path)
    brought.files += totals.files
    brought.size_bytes += totals.bytes
    if totals.skipped:
        brought.left_out["unreadable"] += len(totals.skipped)


def _entries(
    folder: Path | str, inner: str, brought: Brought
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield the files and links to copy, in sorted order, and count what is left out."""
    try:
        with os.scandir(folder) as listing:
            found = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        brought.left_out["unreadable"] += 1
        return
    for entry in found:
        path = posixpath.join(inner, entry.name)
        if entry.is_dir(follow_symlinks=False):
            if entry.name in EXCLUDED_FOLDERS or entry.name.endswith(".egg-info"):
                brought.left_out[f"{entry.name}/"] += 1
            elif _is_full(brought):  # not entered: a home directory may hold millions of files
                brought.left_out[f"folders {_BEYOND}"] += 1
            else:
                yield from _entries(entry.path, path, brought)
        elif _is_wanted(entry, brought):
            yield entry, path


def _is_full(brought: Brought) -> bool:
    return brought.files >= _TOTAL_FILES or brought.size_bytes >= _TOTAL_BYTES


def _is_wanted(entry: os.DirEntry[str], brought: Brought) -> bool:
    try:
        info = entry.stat(follow_symlinks=False)
    except OSError:
        brought.left_out["unreadable"] += 1
        return False
    why = ""
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)):
        why = "sockets, pipes and devices"
    elif info.st_size > _FILE_BYTES:
        why = f"files over {_FILE_BYTES // 1_000_000} MB"
    elif _is_full(brought):
        why = f"files {_BEYOND}"
    if why:
        brought.left_out[why] += 1
    return not why
