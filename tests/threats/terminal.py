"""Runs a command at a terminal of its own, as a person does, and answers what it asks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

QUESTION = b"[y/N] "
_SECONDS = 30.0


def fmos(home: Path, *arguments: str) -> list[str]:
    """The command line of `fmos` on a home."""
    return [sys.executable, "-m", "fmos_cli", "--home", str(home), *arguments]


def alone(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command as an agent's program runs: with pipes and no controlling terminal."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        start_new_session=True,
    )  # fmt: skip


def at_terminal(
    command: list[str], answer: str, *, typed_before: str = "",
    meanwhile: Callable[[], object] = lambda: None,
) -> tuple[int, str]:  # fmt: skip
    """Run a command at a terminal; when it asks, run `meanwhile` and type the answer."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(slave)
        os.write(master, typed_before.encode())
        said = _until(master, QUESTION)
        if said.endswith(QUESTION):
            meanwhile()
            os.write(master, f"{answer}\n".encode())
            said += _until(master, None)
        code = process.wait(timeout=_SECONDS)
    os.close(master)
    return code, said.decode("utf-8", "replace").replace("\r\n", "\n")


def _until(master: int, wanted: bytes | None) -> bytes:
    """Read what the terminal shows until it ends with the wanted text, or the command is gone."""
    said = b""
    deadline = time.monotonic() + _SECONDS
    while wanted is None or not said.endswith(wanted):
        assert time.monotonic() < deadline, said
        if not select.select([master], [], [], 1.0)[0]:
            continue
        with contextlib.suppress(OSError):  # EIO: nobody holds the other end any more
            piece = os.read(master, 65536)
            said += piece
            if piece:
                continue
        return said
    return said
