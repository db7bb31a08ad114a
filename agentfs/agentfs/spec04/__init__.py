"""Turso AgentFS 0.4 volumes, both ways: `read_volume` brings one in, `write_volume` makes one.

`schema` knows the tables, `source` reads a volume that nobody vouches for, `calls` its tool calls.
"""

from __future__ import annotations

from .reader import read_volume
from .writer import write_volume

__all__ = ["read_volume", "write_volume"]
