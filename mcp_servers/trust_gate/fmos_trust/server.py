"""Runs the trust-gate server on stdio or HTTP: the `fmos-trust-gate` command."""

from __future__ import annotations

import os

from fmos.serving.app import run_stdio
from fmos_trust.tools import TrustTools


def main() -> None:
    """Serve the trust gate's tools for the home and principal that the environment names."""
    run_stdio(TrustTools, os.environ)
