"""Import and export: transfers that move only what differs, so that they may be repeated.

A file is taken for the same when kind, size and time of change are; `put_tree` and `get_tree`,
which move the bytes, keep the times.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import HostError
from .paths import join
from .transfer import put_below
from .types import MirrorChange, MirrorKind, Stat, Totals

if TYPE_CHECKING:
    from .filesystem import AgentFS

_BATCH = 500
Report = Callable[[Totals], None]


class Difference(NamedTuple):
    """A name that is not the same on both sides; `inside` is the volume, `outside` the host."""

    relative: str
    inside: Stat | None
    outside: os.stat_result | None

    @property
    def same_kind(self) -> bool:
        """Say whether both sides have it, and as the same kind."""
        if self.inside is None or self.outside is None:
            return False
        return self.inside.kind == host_kind(self.outside)


def host_kind(info: os.stat_result) -> str:
    """Return the kind of a host file; what a volume cannot hold is "other"."""
    for test, kind in (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "directory"),
        (stat.S_ISLNK, "symlink"),
    ):
        if test(info.st_mode):
            return kind
    return "other"


def differences(
    fs: AgentFS, path: str, host: Path, exclude: tuple[str, ...], below: str = "",
    modes: bool = False, failed: list[str] | None = None,
) -> Iterator[Difference]:  # fmt: skip
    """Yield what differs below a directory of the volume and one of the host.

    A directory that only one side has is yielded without what is in it. `below` limits the
    comparison to one directory that both have, without changing what the names are relative to;
    `modes` lets the permission bits count too. Directories of the host that cannot be read are
    left alone and noted in `failed`; without it they are an error.
    """
    waiting = [below]
    while waiting:
        here = waiting.pop()
        inside = _inside(fs, join(path, here) if here else path)
        try:
            outside = _outside(host / here)
        except PermissionError as error:
            if failed is None:
                raise
            failed.append(f"{host / here}: {error.strerror}")
            continue
        for name in sorted(inside.keys() | outside.keys()):
            relative = f"{here}/{name}" if here else name
            if any(fnmatch(name, each) or fnmatch(relative, each) for each in exclude):
                continue
            found = Difference(relative, inside.get(name), outside.get(name))
            if _both_directories(found):
                waiting.append(relative)
                if modes and not _same_mode(found):
                    yield found
            elif not _same(fs, join(path, relative), host / relative, found, modes):
                yield found


def _inside(fs: AgentFS, path: str) -> dict[str, Stat]:
    try:
        return {each.name: each.stat for each in fs.scandir(path)}
    except FileNotFoundError:
        return {}


def _outside(host: Path) -> dict[str, os.stat_result]:
    found: dict[str, os.stat_result] = {}
    try:
        with os.scandir(host) as listing:
            for each in listing:
                with suppress(FileNotFoundError):  # removed meanwhile
                    found[each.name] = each.stat(follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return found


def _both_directories(found: Difference) -> bool:
    return found.same_kind and found.inside is not None and found.inside.is_dir


def _same_mode(found: Difference) -> bool:
    """Say whether both have the same permission bits; those of a link count for nothing."""
    if found.inside is None or found.outside is None or found.inside.is_symlink:
        return True
    return found.inside.mode == stat.S_IMODE(found.outside.st_mode)


def _same(fs: AgentFS, path: str, host: Path, found: Difference, modes: bool) -> bool:
    if not found.same_kind or found.inside is None or found.outside is None:
        return False
    if found.inside.is_symlink:
        with suppress(OSError):  # it is something else by now
            return fs.readlink(path) == os.readlink(host)
        return False
    if modes and not _same_mode(found):
        return False
    return (found.inside.size, found.inside.mtime_ns) == (
        found.outside.st_size,
        found.outside.st_mtime_ns,
    )


def import_tree(
    fs: AgentFS, host: Path, path: str, *, exclude: tuple[str, ...], delete: bool, dry_run: bool,
    progress: Report | None = None,
) -> tuple[list[MirrorChange], Totals]:  # fmt: skip
    """Make a directory of the volume like one of the host, in batches of 500 changes.

    Raises:
        HostError: the host path is no directory.
    """
    if not host.is_dir():
        raise HostError(str(host), "it is no directory")
    wanted = (
        each for each in differences(fs, path, host, exclude) if each.outside is not None or delete
    )
    changes: list[MirrorChange] = []
    totals = Totals()
    if not dry_run:
        fs.mkdir(path, parents=True, exist_ok=True)
    while batch := list(islice(wanted, _BATCH)):
        changes += [_import_change(path, each) for each in batch]
        if not dry_run:
            with fs.transaction():
                for each in batch:
                    _import_one(fs, host, path, each, exclude, totals, progress)
    return sorted(changes, key=lambda each: each.path), totals


def _import_change(path: str, found: Difference) -> MirrorChange:
    kind = _change_kind(found.inside is None, found.outside is None)
    return MirrorChange(join(path, found.relative), kind)


def _change_kind(missing_there: bool, missing_here: bool) -> MirrorKind:
    if missing_there:
        return "added"
    return "removed" if missing_here else "modified"


def _import_one(
    fs: AgentFS, host: Path, path: str, found: Difference, exclude: tuple[str, ...],
    totals: Totals, progress: Report | None,
) -> None:  # fmt: skip
    target = join(path, found.relative)
    if found.inside is not None and not found.same_kind:
        fs.remove(target, recursive=True)
    if found.outside is not None:
        report = None if progress is None else lambda part: progress(_sum(totals, part))
        part = put_below(fs, host, found.relative, target, exclude, progress=report)
        add(totals, part)


def export_tree(
    fs: AgentFS, path: str, host: Path, *, exclude: tuple[str, ...], delete: bool, force: bool,
    dry_run: bool, progress: Report | None = None,
) -> tuple[list[MirrorChange], Totals]:  # fmt: skip
    """Make a directory of the host like one of the volume.

    Host files that differ are only replaced or removed with `force`; without it nothing is done.

    Raises:
        NotADirectory: the path of the volume is no directory.
        HostError: the host path is no directory, or files there would be lost.
    """
    fs.listdir(path)
    if os.path.lexists(host) and not host.is_dir():
        raise HostError(str(host), "it is no directory")
    found = [
        each for each in differences(fs, path, host, exclude) if each.inside is not None or delete
    ]
    lost = [each for each in found if each.outside is not None]
    if lost and not force and not dry_run:
        first = str(host / lost[0].relative)
        raise HostError(first, f"{len(lost)} host files differ; use force to replace them")
    totals = Totals()
    if not dry_run:
        host.mkdir(parents=True, exist_ok=True)
        for each in found:
            _export_one(fs, path, host, each, totals)
            if progress is not None:
                progress(totals)
    changes = [
        MirrorChange(
            str(host / each.relative), _change_kind(each.outside is None, each.inside is None)
        )
        for each in found
    ]
    return sorted(changes, key=lambda each: each.path), totals


def _export_one(fs: AgentFS, path: str, host: Path, found: Difference, totals: Totals) -> None:
    target = host / found.relative
    if found.outside is not None and not found.same_kind:
        _remove_host(target, found.outside)
    if found.inside is not None:
        add(totals, fs.get_tree(join(path, found.relative), target))


def _remove_host(target: Path, info: os.stat_result) -> None:
    if stat.S_ISDIR(info.st_mode):
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _sum(totals: Totals, more: Totals) -> Totals:
    both = Totals()
    add(both, totals)
    add(both, more)
    return both


def add(totals: Totals, more: Totals) -> None:
    """Add the figures of one transfer to those of others."""
    totals.files += more.files
    totals.directories += more.directories
    totals.symlinks += more.symlinks
    totals.bytes += more.bytes
    totals.skipped += more.skipped
    totals.failed += more.failed
