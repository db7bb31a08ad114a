"""Runs real programs on a branch: `run` shows it to them as a directory and keeps what they did."""

from __future__ import annotations

from .execution import RunResult, run
from .records import Changes
from .recovery import Recovered, recover
from .sandbox import why_not as why_unconfined

__all__ = ["Changes", "Recovered", "RunResult", "recover", "run", "why_unconfined"]
