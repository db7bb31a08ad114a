"""Runs the memory server: `python -m fmos_memory`."""

from fmos_memory.server import main

if __name__ == "__main__":
    main()
