"""Runs the context-policy server: `python -m fmos_context`."""

from fmos_context.server import main

if __name__ == "__main__":
    main()
