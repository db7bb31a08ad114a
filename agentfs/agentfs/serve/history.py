"""The tools for states: fs_snapshot, fs_fork, fs_diff, fs_merge, fs_restore, fs_log."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Literal

from pydantic import Field

from agentfs import directories, journal
from agentfs.errors import MergeConflict, NotFound, RefExists
from agentfs.filesystem import AgentFS
from agentfs.patch import unified
from agentfs.paths import SYSTEM_NAME, is_inside, is_system
from agentfs.types import Change, JournalRow

from .area import Area
from .arguments import Branch, Cursor, Moment, Path, limit
from .declare import tool
from .reading import when
from .refusal import ToolRefusal
from .results import (
    DiffEntry,
    DiffResult,
    ForkResult,
    LogResult,
    LogRow,
    MergeEntry,
    MergeReport,
    Named,
    RestoreResult,
    SnapshotResult,
)
from .writing import present

_PATCH_BYTES = 64 * 1024
_SHOWN = 200
_WINDOW_ROWS = 1000
_MAX_WINDOW_ROWS = 16_000
_Name = Annotated[
    str, Field(description="A short name, such as 'try-1'.", min_length=1, max_length=200)
]


class LookingBack:
    """Tools that show states and change nothing."""

    def __init__(self, area: Area) -> None:
        """Show the states of an area."""
        self._area = area

    @tool("Compare two states", read_only=True)
    def fs_diff(
        self,
        before: Moment = "",
        after: Moment = "",
        path: Path = "/",
        patch: Annotated[bool, Field(description="Add the lines, as a unified diff.")] = False,
        limit: Annotated[int, limit(1000)] = 200,
        cursor: Cursor = "",
    ) -> DiffResult:
        """List the paths that differ between two states; empty is this server's branch as it is.

        Use this before fs_merge (before='', after='try-1'), or to see what you changed since a
        snapshot (before='start', after='').
        """
        if before == after:
            raise ToolRefusal("before and after are the same state; name two, see fs_log")
        views = [self._area.moment(each) for each in (before, after)]
        skip = _number(cursor)
        fs = self._area.handle()
        with self._area.looking(fs):
            full = self._area.place(path, *views)
            found = list(fs.diff(self._area.named(views[0]), self._area.named(views[1]), full))
            part = found[skip : skip + limit]
            text, cut = _patch(fs, part) if patch else (None, False)
        more = skip + limit < len(found)
        shown = diff_entries(self._area, part)
        return DiffResult(
            before=before, after=after, changes=shown, total_changes=len(found),
            patch=text, patch_truncated=cut, truncated=more,
            next_cursor=str(skip + limit) if more else None,
        )  # fmt: skip

    @tool("History", read_only=True)
    def fs_log(
        self,
        limit: Annotated[int, limit(500)] = 50,
        cursor: Cursor = "",
        path: Annotated[str, Field(description="Only what happened at or below this path.")] = "/",
        branch: Branch = "",
    ) -> LogResult:
        """List the operations on a branch, newest first, and all forks and snapshots there are.

        Use this to find the moment ('@12') to look at or to go back to.
        """
        fs = self._area.handle(branch)
        name = str(fs.branch)
        below = self._area.path(path)
        rows = _newest(fs, name, limit + 1, _number(cursor), None if below == "/" else below)
        shown = [self._row(each) for each in rows[:limit]]
        more = len(rows) > limit
        return LogResult(
            branch=self._area.short_name(name), rows=shown, forks=self._forks(),
            snapshots=self._snapshots(), truncated=more,
            next_cursor=str(rows[limit - 1].seq) if more else None,
        )  # fmt: skip

    def _row(self, row: JournalRow) -> LogRow:
        return LogRow(
            moment=f"@{row.seq}", time=when(row.time_ns), principal=row.principal,
            branch=self._area.short_name(row.branch), operation=row.operation,
            path=self._area.shown(row.path), path2=self._area.shown(row.path2) or None,
        )  # fmt: skip

    def _forks(self) -> list[Named]:
        short = self._area.short_name
        return [
            Named(name=short(each.name), of=short(each.parent or ""), time=when(each.created_ns))
            for each in self._area.forks()[-_SHOWN:]
        ]

    def _snapshots(self) -> list[Named]:
        short = self._area.short_name
        return [
            Named(name=short(each.name), of=short(each.branch), time=when(each.created_ns),
                  message=each.message)
            for each in self._area.snapshots()[-_SHOWN:]
        ]  # fmt: skip


class Branching:
    """Tools that make states and go to them."""

    def __init__(self, area: Area) -> None:
        """Branch within an area."""
        self._area = area

    @tool("Name a state")
    def fs_snapshot(self, name: _Name, message: str = "", branch: Branch = "") -> SnapshotResult:
        """Give the branch's state a name that never changes; it costs nothing.

        Use this before a risky change: fs_diff then shows what changed, fs_restore goes back.
        """
        fs = self._area.handle(branch)
        with fs.transaction():
            try:
                made = fs.snapshot(self._area.full_name(name), message)
            except RefExists:
                raise ToolRefusal(
                    f"there is a fork or snapshot {name!r}; take another name", RefExists.code
                ) from None
        return SnapshotResult(
            name=self._area.short_name(made.name), moment=f"@{made.seq}", message=message
        )

    @tool("Make a fork")
    def fs_fork(
        self,
        name: _Name,
        source: Moment = "",
    ) -> ForkResult:
        """Make a branch of its own from the present state, or any other; it costs nothing.

        Use this to try something: give the name as 'branch' to the other tools, compare with
        fs_diff, then fs_merge it, or leave it. It cannot touch the branch it came from.
        """
        full = self._area.full_name(name)
        fs = self._area.handle()
        try:
            fs.fork(full, self._area.named(self._area.moment(source)) if source else None)
        except RefExists:
            raise ToolRefusal(
                f"there is a fork or snapshot {name!r}; take another name", RefExists.code
            ) from None
        return ForkResult(branch=self._area.short_name(full), full_name=full)

    @tool("Merge a fork", destructive=True)
    def fs_merge(
        self,
        branch: Annotated[str, Field(description="A fork made with fs_fork.", min_length=1)],
        strategy: Annotated[
            Literal["fail", "ours", "theirs"],
            Field(description="Where both changed the same thing: fail, or take this side or the"
                  " fork's."),
        ] = "fail",
        dry_run: Annotated[bool, Field(description="Only say what it would do.")] = False,
    ) -> MergeReport:  # fmt: skip
        """Bring what a fork changed into this server's branch, all of it or nothing.

        Use fs_diff or dry_run first. On a conflict nothing is merged and the paths are listed.
        """
        child = str(self._area.handle(branch).branch)
        fs = self._area.handle()
        if child == self._area.own:
            raise ToolRefusal("a branch cannot be merged into itself; name a fork, see fs_log")
        with fs.transaction():
            seen = fs.merge(child, strategy, dry_run=True)
            self._within(seen.changes)
            conflicts = [
                MergeEntry(path=self._area.shown(each.path), kind=each.kind)
                for each in seen.conflicts[:_SHOWN]
            ]
            back = None if dry_run else present(fs)
            if not dry_run:
                try:
                    fs.merge(child, strategy)
                except MergeConflict as error:
                    raise ToolRefusal(self._conflict(branch, error), error.code) from None
        return MergeReport(
            branch=self._area.short_name(child), merged=not dry_run,
            changes=diff_entries(self._area, seen.changes[:_SHOWN]),
            total_changes=len(seen.changes), conflicts=conflicts, undo=back,
        )  # fmt: skip

    def _within(self, changes: Iterable[Change]) -> None:
        outside = [each.path for each in changes if not is_inside(each.path, self._area.root)]
        if outside:
            raise ToolRefusal(
                f"the fork changed {len(outside)} paths outside of this server's directory, so it"
                " cannot be merged here",
                "fs.permission_denied",
            )

    def _conflict(self, branch: str, error: MergeConflict) -> str:
        shown = ", ".join(
            f"{self._area.shown(each.path)} ({each.kind})" for each in error.conflicts[:20]
        )
        more = f" and {len(error.conflicts) - 20} more" if len(error.conflicts) > 20 else ""
        return (
            f"nothing was merged: both sides changed {shown}{more}; make these paths agree on the"
            f" fork {self._area.short_name(branch)!r}, or choose strategy 'ours' or 'theirs'"
        )

    @tool("Go back to a state", destructive=True, idempotent=True)
    def fs_restore(
        self,
        moment: Annotated[Moment, Field(min_length=1)],
        paths: Annotated[
            list[str] | None,
            Field(description="Only these paths; else everything.", min_length=1, max_length=1000),
        ] = None,
        branch: Branch = "",
    ) -> RestoreResult:
        """Set the branch, or some of its paths, back to an earlier state.

        Use this to undo: each tool that changes something returns the moment before as 'undo'.
        Going back is itself an operation that can be undone.
        """
        fs = self._area.handle(branch)
        past = self._area.moment(moment, branch)
        wanted = paths or ["/"]
        with fs.transaction():
            back = present(fs)
            places = self._places(fs, past) if paths is None else wanted
            if places is None:
                fs.restore(self._area.named(past))
            else:
                real = [self._area.place(each, fs, past) for each in places]
                fs.restore(self._area.named(past), real)
        return RestoreResult(moment=moment, paths=wanted, undo=back)

    def _places(self, fs: AgentFS, past: AgentFS) -> list[str] | None:
        """Return what is set back for the whole of an area; None is the branch as it is.

        The state of the memory, context and checkpoint servers is not this server's: where that
        differs, only the names beside it are set back.
        """
        if self._area.root != "/":
            return ["/"]
        if _system_node(fs) == _system_node(past):
            return None
        names = {*fs.listdir("/"), *past.listdir("/")}
        return [f"/{each}" for each in sorted(names) if _node(fs, each) != _node(past, each)]


def _system_node(state: AgentFS) -> int | None:
    with state.view_for_reading() as view:
        node = directories.lookup(view.session, directories.root(view), SYSTEM_NAME)
    return None if node is None else node.id


def _node(state: AgentFS, name: str) -> int | None:
    try:
        return state.lstat(f"/{name}").node
    except NotFound:
        return None


def diff_entries(area: Area, changes: Iterable[Change]) -> list[DiffEntry]:
    """Return changes as the tools show them."""
    return [
        DiffEntry(
            path=area.shown(each.path), kind=each.kind,
            size_before=None if each.before is None else each.before.size,
            size_after=None if each.after is None else each.after.size,
        )
        for each in changes
    ]  # fmt: skip


def _patch(fs: AgentFS, changes: Iterable[Change]) -> tuple[str, bool]:
    parts: list[bytes] = []
    size = 0
    for change in changes:
        for line in unified(fs, change):
            size += len(line)
            if size > _PATCH_BYTES:
                return b"".join(parts).decode("utf-8", "replace"), True
            parts.append(line)
    return b"".join(parts).decode("utf-8", "replace"), False


def _number(cursor: str) -> int:
    if not cursor:
        return 0
    if not cursor.isdecimal() or len(cursor) > 18:
        raise ToolRefusal(f"{cursor!r} is no cursor; give next_cursor as it was")
    return int(cursor)


def _newest(
    fs: AgentFS, branch: str, count: int, before: int, path: str | None
) -> list[JournalRow]:
    """Return the newest rows of a branch below a number, reading windows that grow."""
    found: list[JournalRow] = []
    with fs.view_for_reading() as view:
        oldest, top = journal.bounds(view.session)
        limits = view.limits

    def is_shown(row: JournalRow) -> bool:
        paths = [each for each in (row.path, row.path2) if each.startswith("/")]
        if any(is_system(each) for each in paths):
            return False
        return limits is None or all(limits.visible(each) for each in paths)

    top = min(top, before - 1) if before else top
    window = _WINDOW_ROWS
    while top > oldest and len(found) < count:
        low = max(top - window, oldest)
        rows = list(fs.journal(low, until=top, branch=branch, path=path))
        found += [each for each in reversed(rows) if is_shown(each)]
        top, window = low, min(window * 2, _MAX_WINDOW_ROWS)
    return list(islice(found, count))
