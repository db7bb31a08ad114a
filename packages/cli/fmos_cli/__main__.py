"""Runs the command: `python -m fmos_cli`."""

from fmos_cli.main import main

if __name__ == "__main__":
    main()
