"""An agent under a contract, with real tools on its branch, for the adapter tests."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain", reason="needs the extra `langgraph`")

from tests.adapters.desk import CONTRACT, Desk

from fmos.runtime.kernel import Kernel


@pytest.fixture
def desk(kernel: Kernel) -> Desk:
    """A session of the agent `worker` in a fresh home."""
    kernel.contracts.save(CONTRACT)
    return Desk(kernel)
