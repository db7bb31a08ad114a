"""Runs the context-policy server on stdio or HTTP: the `fmos-context-policy` command."""

from __future__ import annotations

import os

from fmos.serving.app import run_stdio
from fmos_context.tools import ContextTools


def main() -> None:
    """Serve the context tools for the home and principal that the environment names."""
    run_stdio(ContextTools, os.environ)
