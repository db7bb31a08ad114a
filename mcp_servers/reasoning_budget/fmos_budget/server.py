"""Runs the reasoning-budget server on stdio or HTTP: the `fmos-reasoning-budget` command."""

from __future__ import annotations

import os

from fmos.serving.app import run_stdio
from fmos_budget.tools import BudgetTools


def main() -> None:
    """Serve the budget tools for the home and principal that the environment names."""
    run_stdio(BudgetTools, os.environ)
