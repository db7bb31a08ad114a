"""Lengths of the runs: short in the unit run, long under `make soak` (AGENTFS_SOAK=1)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

Length = Callable[[int, int], int]
_SOAK = bool(os.environ.get("AGENTFS_SOAK"))


@pytest.fixture
def length() -> Length:
    """Choose between the length of the unit run and that of the soak run."""
    return lambda unit, full: full if _SOAK else unit


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """End a soak run with a line per check: outcome, time, name and what it counted."""
    if not _SOAK:
        return
    checks: dict[str, list[Any]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            checks.setdefault(report.nodeid.split("[")[0], []).append(report)
    terminalreporter.section("checks")
    for name, reports in checks.items():
        outcomes = {each.outcome for each in reports}
        worst = next(each for each in ("failed", "skipped", "passed") if each in outcomes)
        seconds = sum(each.duration for each in reports)
        figures = [str(value) for each in reports for _, value in each.user_properties]
        text = name.split("::")[-1].removeprefix("test_").replace("_", " ")
        terminalreporter.write_line("; ".join([f"{worst:7} {seconds:7.1f} s  {text}", *figures]))
