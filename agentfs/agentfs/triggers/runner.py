"""Takes journal rows for triggers, one by one, and each once.

A function's changes, the row of its run and the advance of the cursor are one transaction: they
happen together or not at all, however a process ends. A command's effects are outside; its claim
is committed before it starts, under a lock that the kernel takes back from a process that died.
What was claimed and has no end by then is `interrupted`, and never run again unasked.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentfs import journal
from agentfs.errors import NotFound, VolumeBusy, VolumeError
from agentfs.triggers import command
from agentfs.triggers.definitions import open_store
from agentfs.triggers.lock import held
from agentfs.triggers.matching import matches
from agentfs.triggers.store import Trigger, TriggerRun
from agentfs.types import JournalRow

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

Function = Callable[["AgentFS", JournalRow], object]
MAX_DEPTH = 16
_FIRST_PAGE, _PAGE = 4, 500
_ASK_S = 0.25
_LOOK_AGAIN_S = 1.0
_DIED = "its runner died; the command may have done all, some or nothing"


class Runner:
    """Runs the triggers of a volume; several may, in one process or in many.

    `functions` are those that triggers name without a module. `on_run` is told of each run that
    ended. `blocked` says of triggers that could not go on why not.
    """

    def __init__(
        self, fs: AgentFS, functions: Mapping[str, Function] | None = None, *,
        on_run: Callable[[TriggerRun], None] | None = None,
    ) -> None:  # fmt: skip
        """Take a handle on the volume; its branch does not matter."""
        self._fs = fs
        self._functions = dict(functions or {})
        self._on_run = on_run or (lambda _: None)
        self._store = open_store(fs)
        self._looked_at: dict[int, int] = {}
        self._over: list[TriggerRun] = []
        self._ended = 0
        self._stop = threading.Event()
        self.blocked: dict[str, str] = {}

    def run(self, once: bool = False, stop: threading.Event | None = None) -> int:
        """Take rows until `stop`, or with `once` those that are waiting; return how many.

        A command that is running at `stop` is ended and its run interrupted. What a function
        raises is kept in its run, and its changes are undone.

        Raises:
            VolumeError: the volume is full or damaged; nothing was taken by halves.
        """
        self._stop = stop or threading.Event()
        self._ended = 0
        self._insist(self._forget_done)
        try:
            while not self._stop.is_set():
                seen = self._newest()
                if not self._pass():
                    if once:
                        break
                    self._wait(seen)
        finally:
            self._insist(self._keep_positions)
        return self._ended

    def _pass(self) -> bool:
        """Let each trigger take one row at most, and say whether there may be more to do."""
        more = False
        self.blocked.clear()
        for trigger in self._store.triggers():
            if self._stop.is_set():
                return False
            try:
                step = self._call if trigger.kind == "function" else self._start
                more = step(trigger) or more
            except VolumeBusy:
                self.blocked[trigger.name] = "somebody else is writing for long"
            finally:
                self._tell()
        return more

    def _tell(self) -> None:
        """Tell of the runs whose transaction is committed."""
        over, self._over = self._over, []
        self._ended += len(over)
        for run in over:
            self._on_run(run)

    def _insist(self, write: Callable[[], None]) -> None:
        """Write as soon as others let it."""
        while True:
            try:
                with self._fs.transaction():
                    return write()
            except VolumeBusy:
                continue

    def _wait(self, seen: int) -> None:
        """Wait until there are rows after one, or something else may have changed."""
        end = time.monotonic() + _LOOK_AGAIN_S
        with suppress(NotFound):  # gc let go of rows: look at once what that means
            watch = self._fs.watch(seen, timeout=_ASK_S)
            while not self._stop.is_set() and time.monotonic() < end:
                if next(watch, None) is not None:
                    return

    def _newest(self) -> int:
        with self._fs.view_for_reading() as view:
            return journal.bounds(view.session)[1]

    # -- which row is next ----------------------------------------------------------------

    def _next(self, trigger: Trigger) -> JournalRow | None:
        """Return the first row after the cursor that the trigger takes.

        Rows and triggers never change, so that what was passed over once stays so.
        """
        count = _FIRST_PAGE
        while True:
            after = max(trigger.cursor, self._looked_at.get(trigger.id, 0))
            found, last = self._first_match(trigger, after, count)
            count = min(count * 4, _PAGE)
            if last < 0:
                self._note_lost(trigger, -last)
                last = -last
            elif last == after and found is None:
                return None
            self._looked_at[trigger.id] = last
            if found is not None:
                return found

    def _first_match(
        self, trigger: Trigger, after: int, count: int
    ) -> tuple[JournalRow | None, int]:
        """Return the first row of a page that the trigger takes, and the last one passed over.

        That is negative when gc let go of rows up to there.
        """
        with self._fs.view_for_reading() as view:
            oldest, newest = journal.bounds(view.session)
            if after < oldest:
                return None, -oldest
            wanted = journal.Filter(branch=trigger.branch)
            page = journal.page(view.session, after, count, wanted)
            for row in page:
                if matches(view.session, trigger, row):
                    return row, row.seq - 1
            return None, page[-1].seq if len(page) == count else newest

    def _note_lost(self, trigger: Trigger, oldest: int) -> None:
        """Say that gc let go of rows before anybody looked at them, where the cursor is behind."""
        with self._fs.transaction():
            now = self._store.current(trigger)
            if now is None or now.cursor >= oldest:
                return
            said = f"gc let go of the journal rows {now.cursor + 1} to {oldest} unseen"
            run = self._store.note(now, oldest, "lost", said)
        self._over.append(run)

    def _claim(self, trigger: Trigger) -> tuple[TriggerRun, JournalRow] | None:
        """Take the row of a run that waits, or else the next one, in the current transaction."""
        now = self._store.current(trigger)
        if now is None:
            return None
        for run in self._store.open_runs(now, "waiting"):
            row = self._row(run.seq)
            if row is not None:
                return self._store.begin_again(run), row
            lost = self._store.begin_again(run)
            self._over.append(self._store.end(lost, "lost", None, "gc let go of its row"))
        row = self._next(now)
        if row is None:
            return None
        depth = 0
        if row.principal.startswith("trigger:"):
            depth = self._store.depth(row.principal, row.time_ns) + 1
        if depth > MAX_DEPTH:
            said = f"not run: {MAX_DEPTH} triggers set each other off before this row"
            self._over.append(self._store.note(now, row.seq, "failed", said, depth))
            return None
        return self._store.begin(now, row.seq, depth), row

    def _row(self, seq: int) -> JournalRow | None:
        with self._fs.view_for_reading() as view:
            found = journal.page(view.session, seq - 1, 1, journal.Filter(until=seq))
        return found[0] if found else None

    def _has_work(self, trigger: Trigger) -> bool:
        """Say whether it is worth to take the writer's place; `_claim` decides."""
        return bool(self._store.open_runs(trigger, "waiting")) or self._next(trigger) is not None

    # -- functions ------------------------------------------------------------------------

    def _call(self, trigger: Trigger) -> bool:
        """Let a function take one row: all of that, or nothing, is committed."""
        if not self._has_work(trigger):
            return False
        function = self._function(trigger)
        if function is None:
            return False
        with self._fs.transaction():
            claimed = self._claim(trigger)
            if claimed is None:
                return True
            run = self._run_function(trigger, function, *claimed)
        self._over.append(run)
        return True

    def _function(self, trigger: Trigger) -> Function | None:
        name = trigger.action[0]
        module, separator, attribute = name.partition(":")
        if not separator:
            if name not in self._functions:
                self.blocked[trigger.name] = f"this runner was given no function {name!r}"
            return self._functions.get(name)
        try:
            found: Any = importlib.import_module(module)
            for each in attribute.split("."):
                found = getattr(found, each)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self.blocked[trigger.name] = f"cannot import the function {name!r} ({reason})"
            return None
        return found

    def _run_function(
        self, trigger: Trigger, function: Function, run: TriggerRun, row: JournalRow
    ) -> TriggerRun:
        try:
            handle = self._fs.on(trigger.branch, principal=trigger.own_principal)
            with handle.transaction():
                said = function(handle, row)
        except VolumeError:
            raise  # of the volume, not of the function; the row is taken another time
        except Exception:
            text = traceback.format_exc()[-command.TAIL_BYTES :]
            return self._store.end(run, "failed", None, text.strip())
        output = said[-command.TAIL_BYTES :] if isinstance(said, str) else ""
        return self._store.end(run, "done", None, output)

    # -- commands -------------------------------------------------------------------------

    def _start(self, trigger: Trigger) -> bool:
        """Let a command take one row, unless another runner is at it with this trigger."""
        if not self._store.open_runs(trigger, "running") and not self._has_work(trigger):
            return False
        with held(str(self._fs.path), trigger.id) as is_ours:
            if not is_ours:  # another runner is at work on it
                return False
            if not self._recover(trigger) or not self._has_work(trigger):
                return False
            with self._fs.transaction():
                claimed = self._claim(trigger)
                if claimed is None:
                    return True
                run, row = claimed
                detail = {"name": trigger.name, "run": run.id, "row": row.seq,
                          "attempt": run.attempt, "command": list(trigger.action)}  # fmt: skip
                on = self._fs.on(str(self._fs.branch), principal=trigger.own_principal)
                on.record("trigger.start", detail)
            self._run_command(trigger, run, row)
        return True

    def _recover(self, trigger: Trigger) -> bool:
        """Settle what a runner that died left; say whether the trigger may go on.

        The lock is held, so whoever claimed it is gone. Its command may still be running: that is
        waited for, up to its time limit.
        """
        for run in self._store.open_runs(trigger, "running"):
            if run.process is not None and command.is_alive(run.process):
                if time.time_ns() < run.claimed_ns + int(trigger.timeout_s * 1e9):
                    number = run.process.partition(" ")[0]
                    self.blocked[trigger.name] = (
                        f"its runner died and the command of run {run.id} goes on as process"
                        f" {number}"
                    )
                    return False
                command.end(run.process)
            self._insist(lambda run=run: self._interrupt(trigger, run, _DIED))
        return True

    def _interrupt(self, trigger: Trigger, run: TriggerRun, said: str) -> None:
        """Note that a command's end is not known, and let the trigger's policy count."""
        state = "skipped" if trigger.on_crash == "skip" else "interrupted"
        ended = self._store.end(run, state, None, said)
        if trigger.on_crash == "retry":
            self._store.wait(ended)
        self._over.append(ended)

    def _run_command(self, trigger: Trigger, run: TriggerRun, row: JournalRow) -> None:
        outcome = command.run(
            trigger.action, cwd=trigger.cwd, environment=self._environment(trigger, run, row),
            given=json.dumps(_facts(row)).encode(), timeout_s=trigger.timeout_s, stop=self._stop,
            started=lambda process: self._insist(lambda: self._store.started(run, process)),
        )  # fmt: skip

        def end() -> None:
            if outcome.state == "interrupted":
                return self._interrupt(trigger, run, outcome.output)
            ended = self._store.end(run, outcome.state, outcome.exit_code, outcome.output)
            self._over.append(ended)

        self._insist(end)

    def _environment(self, trigger: Trigger, run: TriggerRun, row: JournalRow) -> dict[str, str]:
        return {
            **os.environ,
            "AGENTFS_FILE": str(self._fs.path),
            "AGENTFS_PRINCIPAL": trigger.own_principal,
            "AGENTFS_TRIGGER": trigger.name,
            "AGENTFS_TRIGGER_ID": str(trigger.id),
            "AGENTFS_TRIGGER_ROW": str(row.seq),
            "AGENTFS_TRIGGER_ATTEMPT": str(run.attempt),
            "AGENTFS_TRIGGER_BRANCH": row.branch,
            "AGENTFS_TRIGGER_OPERATION": row.operation,
            "AGENTFS_TRIGGER_PATH": row.path,
            "AGENTFS_TRIGGER_PATH2": row.path2,
        }

    # -- care -----------------------------------------------------------------------------

    def _keep_positions(self) -> None:
        """Note how far each trigger looked, so that the next runner does not look again."""
        behind = [
            each for each in self._store.triggers() if self._looked_at.get(each.id, 0) > each.cursor
        ]
        if behind:
            with self._fs.transaction():
                for each in behind:
                    self._store.advance(each, self._looked_at[each.id])

    def _forget_done(self) -> None:
        self._store.forget_done(time.time_ns() - int(self._fs.retention() * 1e9))


def _facts(row: JournalRow) -> dict[str, Any]:
    names = ("seq", "time_ns", "principal", "branch", "operation", "path", "path2", "before",
             "after", "detail")  # fmt: skip
    return {name: getattr(row, name) for name in names}
