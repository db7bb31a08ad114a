"""Runs a command on a fork of the agent's branch, so that its effect can be seen before it counts.

The fork's project folder is written to a temporary folder of the host, the real command runs there,
and what it changed comes back to the fork. Merging or dropping the fork is the caller's decision.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agentfs import AgentFS
from agentfs.types import Change
from fmos.types import new_id
from fmos_cli.demo.sandbox import Sandbox

_Facts = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one command did, on a fork that is still to be merged or dropped."""

    command: str
    branch: str
    exit_code: int
    output: str
    changes: tuple[Change, ...]


class Effects:
    """The commands of one agent, each on a fork of its own."""

    def __init__(
        self,
        files: AgentFS,
        sandbox: Sandbox,
        folder: str,
        report: Callable[[str, str], None] = lambda operation, detail: None,
    ) -> None:
        self._files = files
        self._sandbox = sandbox
        self._folder = folder
        self._report = report
        self._waiting: dict[str, Effect] = {}
        self._lock = threading.Lock()

    def start(self, command: str) -> Effect:
        """Run a command on a new fork and return its effect.

        Raises:
            DeniedError: if the sandbox refuses the command; there is no fork then.
        """
        branch = f"{self._files.branch}-try-{new_id()[-8:]}"
        fork = self._files.fork(branch)
        try:
            with tempfile.TemporaryDirectory(prefix="fmos-try-") as temporary:
                exit_code, output = self._run(fork, command, Path(temporary, "tree"))
            changes = tuple(self._files.diff(self._files.branch, branch))
        except BaseException:
            self._files.delete_branch(branch)
            raise
        self._report("fork.run", f"{command!r} on {branch} in {self._sandbox.kind}")
        return Effect(command, branch, exit_code, output, changes)

    def hold(self, effect: Effect) -> None:
        """Keep an effect that a person approved, for the tool call that follows."""
        with self._lock:
            self._waiting[effect.command] = effect

    def take(self, command: str) -> Effect | None:
        """Return the approved effect of this very command, once."""
        with self._lock:
            return self._waiting.pop(command, None)

    def merge(self, effect: Effect) -> None:
        """Bring the effect into the agent's branch and drop the fork."""
        merged = self._files.merge(effect.branch)
        self.drop(effect)
        self._report("fork.merge", f"{len(merged.changes)} paths merged, {effect.branch} dropped")

    def drop(self, effect: Effect) -> None:
        """Drop the fork; nothing of it reaches the agent's branch unless it was merged."""
        self._files.delete_branch(effect.branch)

    def _run(self, fork: AgentFS, command: str, tree: Path) -> tuple[int, str]:
        fork.get_tree(self._folder, tree)
        before = _survey(tree)
        done = self._sandbox.run(command, tree, self._folder)
        with fork.transaction():
            _bring_back(fork, self._folder, tree, before)
        return done.exit_code, done.output


def _survey(tree: Path) -> dict[str, _Facts]:
    """Return what tells one state of each path from another, parents before children."""
    found: dict[str, _Facts] = {}
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in (*folders, *sorted(names)):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            mtime = 0 if stat.S_ISDIR(info.st_mode) else info.st_mtime_ns
            size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
            found[os.path.relpath(path, tree)] = (info.st_mode, size, mtime, info.st_ino)
    return found


def _bring_back(fork: AgentFS, folder: str, tree: Path, before: dict[str, _Facts]) -> None:
    after = _survey(tree) if tree.is_dir() else {}
    gone = [path for path in before if _kind(before, path) != _kind(after, path)]
    removed: set[str] = set()
    for path in gone:
        if posixpath.dirname(path) not in removed:
            fork.remove(posixpath.join(folder, path), recursive=True)
        removed.add(path)
    for path, facts in after.items():
        if before.get(path) != facts:
            _bring_one(fork, posixpath.join(folder, path), tree / path, facts[0])


def _kind(facts: dict[str, _Facts], path: str) -> int:
    return stat.S_IFMT(facts[path][0]) if path in facts else 0


def _bring_one(fork: AgentFS, target: str, source: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        fork.mkdir(target, parents=True, exist_ok=True)
        fork.chmod(target, stat.S_IMODE(mode))
    elif stat.S_ISLNK(mode):
        if fork.exists(target):
            fork.remove(target)
        fork.symlink(os.readlink(source), target)
    elif stat.S_ISREG(mode):
        fork.write(target, source.read_bytes(), mode=stat.S_IMODE(mode))
