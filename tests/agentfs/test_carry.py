"""A branch is carried into another volume; tests/core/test_transfer.py tries arbitrary trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentfs import AgentFS
from agentfs.carry import carry_tree
from agentfs.errors import InvalidArgument, QuotaExceeded


def test_the_target_becomes_the_source(tmp_path: Path) -> None:
    """What was there goes, what comes is whole, and both volumes are sound."""
    with (
        AgentFS.open(tmp_path / "a.afs", system=True) as one,
        AgentFS.open(tmp_path / "b.afs", system=True) as two,
    ):
        one.mkdir("/d", mode=0o700)
        one.write("/d/big", os.urandom(9_000_000))
        one.link("/d/big", "/other")
        one.kv.set("k", 1)
        two.write("/d", b"a file")
        totals = carry_tree(one, two)
        assert (totals.files, totals.bytes) == (2, one.stat("/other").size + 1)
        assert two.read("/d/big") == one.read("/d/big")
        assert two.stat("/other").links == 2
        assert two.kv.get("k") == 1
        assert two.fsck(read_data=True) == []
        assert two.verify_journal().ok
        seq = max(row.seq for row in two.journal() if row.operation == "put")
        assert two.at(seq).read("/d/big", 0, 10) == one.read("/d/big", 0, 10)


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    """A quota that is too small leaves the target as it was."""
    with (
        AgentFS.open(tmp_path / "a.afs", system=True) as one,
        AgentFS.open(tmp_path / "b.afs", system=True) as two,
    ):
        one.write("/a", b"x" * 1000)
        two.write("/old", b"y")
        two.set_quota(bytes=100)
        with pytest.raises(QuotaExceeded):
            carry_tree(one, two)
        assert two.listdir("/") == ["old"]
        one.overlay(tmp_path, "/host")
        with pytest.raises(InvalidArgument, match="host directory"):
            carry_tree(one, two)
