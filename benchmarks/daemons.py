"""Runs the daemon of a home for as long as something is measured."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def daemon(
    home: Path, *options: str, program: tuple[str, ...] = ("-m", "fmos_cli")
) -> Iterator[str]:
    """Run `fmos serve` with options until the end; yield its address over HTTP, if it has one."""
    command = [sys.executable, *program, "--home", str(home), "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = ""
        try:
            for line in process.stdout:
                url = line.strip() if "http://" in line else url
                if line.strip().startswith("unix:"):
                    break
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
