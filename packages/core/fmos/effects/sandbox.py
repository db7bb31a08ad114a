"""Runs commands on a fork with `agentfs.run`, where they see nothing of the host but its programs.

With bubblewrap any command: it has no network. Without it only commands that somebody vouches for
word by word, and without a shell.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from dataclasses import dataclass

from agentfs import AgentFS
from agentfs.run import run, why_unconfined
from fmos.errors import DeniedError

_TIMED_OUT = 124
_OUTPUT_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended, and what it printed."""

    exit_code: int
    output: str


class Sandbox:
    """Where commands run. `vouched` are the exact commands that may run without bubblewrap."""

    def __init__(
        self,
        vouched: frozenset[str] = frozenset(),
        *,
        confined: bool | None = None,
        timeout_s: float = 20,
    ) -> None:
        self._vouched = vouched
        self._confined = not why_unconfined() if confined is None else confined
        self._timeout_s = timeout_s

    @property
    def kind(self) -> str:
        """Say in a word or two what holds the command."""
        return "bubblewrap" if self._confined else "a folder of its own"

    def vouch(self, command: str) -> None:
        """Let this very command run without bubblewrap."""
        self._vouched |= {command}

    def run(self, files: AgentFS, command: str, folder: str) -> Completed:
        """Run `command` in a folder of a branch, and keep there what it changed.

        Raises:
            DeniedError: if bubblewrap is missing and nobody vouches for this command.
        """
        if self._confined:
            argv = ["/bin/sh", "-c", command]
        elif command in self._vouched:
            argv = shlex.split(command)
        else:
            raise DeniedError(
                f"the command {command!r} may not run: bubblewrap (bwrap) is not usable here, and"
                " without it only commands run that somebody vouches for",
                hint="install bubblewrap",
            )
        with tempfile.TemporaryFile() as output:
            done = run(
                files, argv, overlay=folder, inside=folder, bare=True, backend="copy",
                unconfined=not self._confined, timeout_s=self._timeout_s,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={"HOME": folder, "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
            output.seek(0)
            said = output.read(_OUTPUT_BYTES).decode("utf-8", "replace")
        if done.exit_code == _TIMED_OUT:
            said += f"stopped after {self._timeout_s:g} seconds"
        return Completed(done.exit_code, said)
