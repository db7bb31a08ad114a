"""`fs.triggers`: says what is to happen on a change, and what became of it.

Triggers run commands with the rights of whoever runs the runner, so only a handle opened with
`system` adds, removes or repeats anything.
"""

from __future__ import annotations

import builtins
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from agentfs import journal
from agentfs.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from agentfs.paths import PathLike, normalise
from agentfs.triggers.store import DDL, NAME, OnCrash, RunState, Store, Trigger, TriggerRun

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

TIMEOUT_S = 300.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_POLICIES = ("ask", "retry", "skip")
_AGAIN = ("failed", "interrupted", "skipped")


class Triggers:
    """The triggers of a volume."""

    def __init__(self, fs: AgentFS) -> None:
        """Take the handle whose branch, principal and rights count."""
        self._fs = fs

    def add(
        self, name: str, path: PathLike = "/", *, command: Sequence[str] | None = None,
        function: str | None = None, operations: Iterable[str] | None = None,
        since: int | None = None, timeout_s: float = TIMEOUT_S, recursive: bool = False,
        on_crash: OnCrash = "ask", cwd: PathLike | None = None,
    ) -> Trigger:  # fmt: skip
        """Let each later change of this branch at or below a path run a command or a function.

        A function is `"module:name"`, or a name that the runner was given. `operations` are names
        as the journal has them; without them every change of names or content counts. `since` is
        the journal row after which to begin, by default the newest. A command is killed after
        `timeout_s` seconds and runs in `cwd`, by default where the runner does. Rows that the
        trigger itself writes are passed over unless `recursive`. `on_crash` says what becomes of a
        command whose end nobody saw: it waits to be asked for, is run again, or is skipped.

        Raises:
            PermissionDenied: the handle was not opened with `system`.
            AlreadyExists: a trigger has this name.
            InvalidArgument: not exactly one of command and function, or a value makes no sense.
            NotFound: rows after `since` are gone already.
        """
        self._require_system("adding a trigger")
        made = Trigger(
            0, _checked_name(name), normalise(path), _operations(operations),
            str(self._fs.branch), "function" if command is None else "command",
            _action(name, command, function), None if cwd is None else str(cwd),
            _timeout(timeout_s), recursive, _policy(on_crash), time.time_ns(), self._fs.principal,
            0,
        )  # fmt: skip
        with self._fs.transaction():
            store = open_store(self._fs)
            if store.named(name) is not None:
                raise AlreadyExists(f"trigger {name}", "remove it first, or take another name")
            made = replace(made, cursor=self._since(since))
            store.add(made)
            detail = {"name": name, "kind": made.kind, "action": list(made.action)}
            self._fs.record("trigger.add", detail, made.path)
            found = store.named(name)
        assert found is not None
        return found

    def list(self) -> builtins.list[Trigger]:
        """Return all triggers, sorted by name."""
        return open_store(self._fs).triggers()

    def remove(self, name: str) -> None:
        """Let a trigger take no more rows; what it did stays in `log`.

        Raises:
            PermissionDenied: the handle was not opened with `system`.
            NotFound: no trigger has this name.
        """
        self._require_system("removing a trigger")
        with self._fs.transaction():
            store = open_store(self._fs)
            store.remove(_named(store, name))
            self._fs.record("trigger.remove", {"name": name})

    def log(
        self, name: str | None = None, state: RunState | None = None, limit: int | None = None
    ) -> builtins.list[TriggerRun]:
        """Return what became of the rows that were taken, newest first.

        Runs that are done are forgotten after `history_retention`.

        Raises:
            InvalidArgument: the state is none of `RunState`.
        """
        if state is not None and state not in get_args(RunState):
            raise InvalidArgument(state, f"a state is one of {', '.join(get_args(RunState))}")
        return open_store(self._fs).runs(name, state, limit)

    def retry(self, run: int) -> None:
        """Let a runner take the row of a failed, interrupted or skipped run once more.

        Raises:
            PermissionDenied: the handle was not opened with `system`.
            NotFound: no run has this number.
            InvalidArgument: it is done, lost, or not over yet.
        """
        self._require_system("repeating a run")
        with self._fs.transaction():
            store = open_store(self._fs)
            found = store.find_run(run)
            if found is None:
                raise NotFound(f"trigger run {run}", "see `agentfs trigger log`")
            if found.state not in _AGAIN or not found.attempt:
                raise InvalidArgument(f"trigger run {run}", f"it is {found.state}")
            _named(store, found.trigger)
            store.wait(found)
            self._fs.record("trigger.retry", {"name": found.trigger, "run": run})

    def _since(self, since: int | None) -> int:
        with self._fs.view_for_reading() as view:
            oldest, newest = journal.bounds(view.session)
        if since is None:
            return newest
        if since < oldest:
            raise NotFound(f"@{since + 1}", f"the journal is kept from row {oldest + 1}")
        if since > newest:
            raise InvalidArgument(f"@{since}", f"the newest journal row is {newest}")
        return since

    def _require_system(self, what: str) -> None:
        if not self._fs.system:
            raise PermissionDenied("triggers", f"{what} needs a handle opened with system=True")


def open_store(fs: AgentFS) -> Store:
    """Return the tables of a volume's triggers."""
    return Store(fs.extension(NAME, DDL))


def _named(store: Store, name: str) -> Trigger:
    found = store.named(name)
    if found is None:
        raise NotFound(f"trigger {name}", "see `agentfs trigger list`")
    return found


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise InvalidArgument(name, "a name is 1 to 64 letters, digits, dots, dashes, underscores")
    return name


def _action(name: str, command: Sequence[str] | None, function: str | None) -> tuple[str, ...]:
    if (command is None) == (function is None):
        raise InvalidArgument(name, "a trigger has either a command or a function")
    found = (function,) if function is not None else tuple(command or ())
    if isinstance(command, str) or not found or not found[0]:
        raise InvalidArgument(name, "a command is a list: the program and its arguments")
    return found


def _operations(operations: Iterable[str] | None) -> tuple[str, ...] | None:
    if operations is None:
        return None
    found = tuple(operations)
    if isinstance(operations, str) or not found:
        raise InvalidArgument("operations", "it is a list of names such as 'write' and 'remove'")
    return found


def _timeout(timeout_s: float) -> float:
    if not timeout_s > 0:
        raise InvalidArgument("timeout_s", "a command needs some time; give a number above 0")
    return float(timeout_s)


def _policy(on_crash: OnCrash) -> OnCrash:
    if on_crash not in _POLICIES:
        raise InvalidArgument(on_crash, "on_crash is 'ask', 'retry' or 'skip'")
    return on_crash
