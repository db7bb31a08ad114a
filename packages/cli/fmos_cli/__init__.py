"""The `fmos` command: one file per command in commands/, errors as sentences in failures.py."""
