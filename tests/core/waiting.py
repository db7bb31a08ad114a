"""Waits for what another process or thread does, and fails where it never does it."""

from __future__ import annotations

import time
from collections.abc import Callable

_STEP_S = 0.001


def until(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait until a condition holds; fail if it does not within the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {limit_s:g} s"
        time.sleep(_STEP_S)
