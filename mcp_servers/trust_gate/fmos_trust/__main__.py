"""Runs the trust-gate server on stdio: `python -m fmos_trust`."""

from __future__ import annotations

from fmos_trust.server import main

if __name__ == "__main__":
    main()
