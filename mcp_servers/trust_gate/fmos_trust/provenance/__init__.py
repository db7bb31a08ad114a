"""What the gate knows of where values came from, kept over restarts, processes and forks.

Wires `fmos_trust.evidence`, which is in memory and without a kernel, to `fmos.entered`.
"""
