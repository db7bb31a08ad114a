"""A clerk's desk in a fresh home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.trust.provenance.desk import Desk, desk, opened


@pytest.fixture
def clerk(tmp_path: Path) -> Iterator[Desk]:
    """The clerk at work in a fresh home."""
    with opened(tmp_path / "home") as kernel:
        yield desk(kernel)
