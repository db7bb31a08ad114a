"""Runs the memory server on stdio or HTTP: the `fmos-memory` command."""

from __future__ import annotations

import os

from fmos.serving.app import run_stdio
from fmos_memory.tools import MemoryTools


def main() -> None:
    """Serve the memory tools for the home and principal that the environment names."""
    run_stdio(MemoryTools, os.environ)
