"""Runs one command of the agent in a folder of the host that is only a copy.

With bubblewrap: no network, nothing of the host to be seen but /usr and the copy. Without it, only
commands that the demo itself made up may run, and without a shell.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fmos.errors import DeniedError

_TIMEOUT_S = 20
_OUTPUT_BYTES = 20_000
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/alternatives")
_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended, and what it printed."""

    exit_code: int
    output: str


class Sandbox:
    """Where commands run. `vouched` are the exact commands that the demo itself made up."""

    def __init__(self, vouched: frozenset[str] = frozenset(), *, bwrap: str | None = None) -> None:
        self._vouched = vouched
        self._bwrap = bwrap if bwrap is not None else find_bwrap()

    @property
    def kind(self) -> str:
        """Say in a word or two what holds the command."""
        return "bubblewrap" if self._bwrap else "a temporary folder"

    def vouch(self, command: str) -> None:
        """Let this very command run without bubblewrap."""
        self._vouched |= {command}

    def run(self, command: str, folder: Path, inside: str) -> Completed:
        """Run `command` in `folder`, which it sees at `inside` when bubblewrap is there.

        Raises:
            DeniedError: if bubblewrap is missing and the demo did not make up this command.
        """
        if self._bwrap:
            argv = [*_bubble(self._bwrap, folder, inside), "/bin/sh", "-c", command]
        elif command in self._vouched:
            argv = shlex.split(command)
        else:
            raise DeniedError(
                f"the command {command!r} may not run: bubblewrap (bwrap) is not usable here and"
                " without it only the scripted model's own commands run",
                hint="install bubblewrap, or leave FMOS_DEMO_MODEL unset",
            )
        return _run(argv, folder)


@functools.cache
def find_bwrap() -> str:
    """Return the path of a bubblewrap that works here, or an empty string."""
    found = shutil.which("bwrap")
    if not found:
        return ""
    probe = [found, "--unshare-all", "--ro-bind", "/", "/", "true"]
    try:
        done = subprocess.run(probe, capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found if done.returncode == 0 else ""


def _bubble(bwrap: str, folder: Path, inside: str) -> list[str]:
    argv = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    argv += ["--setenv", "PATH", _PATH, "--setenv", "HOME", inside]
    for path in _SYSTEM:
        argv += ["--ro-bind-try", path, path]
    argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    return [*argv, "--bind", str(folder), inside, "--chdir", inside]


def _run(argv: list[str], folder: Path) -> Completed:
    environment = {"PATH": os.environ.get("PATH", _PATH), "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Completed(124, f"stopped after {_TIMEOUT_S} seconds")
    except OSError as error:
        return Completed(127, f"cannot run {argv[0]!r}: {error.strerror}")
    return Completed(done.returncode, done.stdout[:_OUTPUT_BYTES].decode("utf-8", "replace"))
