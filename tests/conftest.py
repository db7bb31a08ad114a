"""Fixtures that every area uses, and the check that the packages are really installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import agentfs

if agentfs.__file__ is None:  # pragma: no cover - only without an installation
    raise pytest.UsageError(
        "agentfs is not installed (an empty namespace package was found); run `make test`"
    )

from fmos.runtime.kernel import Kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel over a fresh home."""
    with Kernel.open(tmp_path / "home") as opened:
        yield opened
