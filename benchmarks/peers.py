"""The things compared with: installs them into a cached environment and drives them.

A peer from the package index runs in its own process, `peer_NAME.py`, and takes one JSON object
a line; it measures itself, so that the pipe is in no figure.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from harness import CACHE

AGENTFS_SDK = ("agentfs-sdk==0.6.4", "pyturso==0.4.4")  # the newest of 2026-06; its own driver
SDK = "agentfs-sdk"
GIT_DURABILITY = "git's default: loose objects are not synced"
SDK_DURABILITY = "full: synchronous=FULL, its default; several commits an operation"


def environment(requirements: Sequence[str]) -> Path:
    """Return the Python of an environment with these packages, making it the first time.

    `BENCH_PEER_PYTHON` names one that has them already.
    """
    if given := os.environ.get("BENCH_PEER_PYTHON"):
        return Path(given)
    text = " ".join(requirements) + sys.version
    home = CACHE / f"venv-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    python, done = home / "bin" / "python", home / ".installed"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        print(f"installing {', '.join(requirements)} into {home}", file=sys.stderr)
        venv.create(home, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        done.touch()
    return python


class Peer:
    """A worker process; a context manager."""

    def __init__(self, worker: str, requirements: Sequence[str]) -> None:
        """Start the worker and wait until it has imported what it needs."""
        self._process = subprocess.Popen(
            [environment(requirements), Path(__file__).with_name(worker)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        self.call("ready")

    def call(self, do: str, **arguments: Any) -> Any:
        """Let the worker do one thing and return its answer.

        Raises:
            RuntimeError: it failed; the message is the worker's.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer's process ended during {do!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the peer failed in {do!r}: {answer['error']}")
        return answer["result"]

    def __enter__(self) -> Peer:
        """Return the running worker."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def agentfs_sdk(database: Path, synchronous: str = "FULL") -> Peer:
    """Start the SDK on a new database; it opens each at synchronous=FULL."""
    peer = Peer("peer_agentfs_sdk.py", AGENTFS_SDK)
    peer.call("open", path=str(database), synchronous=synchronous)
    return peer


def sdk_versions() -> dict[str, str]:
    """Return what the report says about the SDK."""
    pairs = (each.partition("==") for each in AGENTFS_SDK)
    return {name: version for name, _, version in pairs}


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a peer that is a command, and return what it prints."""
    found = subprocess.run(
        command, cwd=cwd, env=_GIT_ENVIRONMENT, check=True, capture_output=True, text=True
    )
    return found.stdout


def git(repository: Path, *arguments: str | Path) -> str:
    """Run git in a repository with its default settings, none of the user's."""
    return run("git", "-c", "gc.auto=0", *arguments, cwd=repository)


def git_repository(root: Path, store: Path) -> None:
    """Make a directory a repository with its files committed to main; git's own are in `store`."""
    git(root, "init", "-q", "-b", "main", "--separate-git-dir", store)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")


def command_versions(*names: str) -> dict[str, str]:
    """Return the first line of each command's `--version`."""
    return {name: run(name, "--version").splitlines()[0] for name in names}


_GIT_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@localhost",
    "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@localhost",
}
