"""Runs the reasoning-budget server on stdio: `python -m fmos_budget`."""

from __future__ import annotations

from fmos_budget.server import main

if __name__ == "__main__":
    main()
