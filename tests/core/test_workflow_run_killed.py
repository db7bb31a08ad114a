"""A workflow killed at any point goes on in another process, with no effect twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.core.test_saga import CRASHING

#: Every so many points are tried here; the benchmark tries all.
STRIDE = 41


@pytest.mark.parametrize("fails", [False, True], ids=["done", "undone"])
def test_a_killed_workflow_goes_on(tmp_path: Path, fails: bool) -> None:
    """Resumed, it ends as it would have; each effect happened once, and was undone once."""
    point, kills = 2, 0
    while True:
        home = tmp_path / str(point)
        home.mkdir()
        if not CRASHING.killed_at(home, point, fails=fails):
            break
        CRASHING.resumed(home, fails=fails)
        assert CRASHING.duplicates(home, fails=fails) == 0, f"killed at point {point}"
        point, kills = point + STRIDE, kills + 1
    assert kills >= 3
