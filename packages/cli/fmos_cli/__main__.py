"""Runs the command: `python -m fmos_cli`."""

from fmos_cli.begin import fmos

if __name__ == "__main__":
    fmos()
