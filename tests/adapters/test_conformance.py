"""LangGraph's public conformance suite over both halves of `FmosSaver`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph")
pytest.importorskip(
    "langgraph.checkpoint.conformance",
    reason="langgraph-checkpoint-conformance is not installed (extra `dev`)",
)

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint import conformance
from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory

from fmos_langgraph import FmosSaver

TESTS = 81


class SyncHalf(FmosSaver):
    """A saver whose asynchronous methods call the synchronous ones in the event loop's thread."""

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do what `get_tuple` does."""
        return self.get_tuple(config)

    async def alist(
        self, config: RunnableConfig | None, **asked: Any
    ) -> AsyncIterator[CheckpointTuple]:
        """Do what `list` does."""
        for found in self.list(config, **asked):
            yield found

    async def aput(
        self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any
    ) -> RunnableConfig:
        """Do what `put` does."""
        return self.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: Any, writes: Any, task_id: str, task_path: str = ""
    ) -> None:
        """Do what `put_writes` does."""
        self.put_writes(config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """Do what `delete_thread` does."""
        self.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do what `delete_for_runs` does."""
        self.delete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do what `copy_thread` does."""
        self.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do what `prune` does."""
        self.prune(thread_ids, strategy=strategy)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Do what `get_delta_channel_history` does."""
        return self.get_delta_channel_history(config=config, channels=channels)


@pytest.mark.parametrize("saver_type", [FmosSaver, SyncHalf])
def test_all_tests_of_the_public_suite_pass(
    tmp_path: Path, saver_type: type[FmosSaver], record_property: Any
) -> None:
    """Every test of the suite runs and passes, the three capabilities few savers have included."""
    volumes = count()

    @conformance.checkpointer_test(name=saver_type.__name__)
    async def make() -> AsyncIterator[FmosSaver]:
        with saver_type.from_path(tmp_path / f"{next(volumes)}.afs") as saver:
            yield saver

    report = asyncio.run(conformance.validate(make)).to_dict()
    results = report["results"].values()
    assert not [failure for each in results for failure in each["failures"]]
    assert all(each["detected"] and each["passed"] for each in results)
    assert sum(each["tests_skipped"] for each in results) == 0
    passed = sum(each["tests_passed"] for each in results)
    record_property("conformance", f"{passed} of {TESTS}")
    assert passed == TESTS


def test_the_sync_half_is_really_what_the_suite_calls() -> None:
    """`SyncHalf` replaces every asynchronous method, so that none reaches a worker thread."""
    asynchronous = {name for name in dir(FmosSaver) if _is_twin(name)}
    assert asynchronous - {"aget"} == {name for name in vars(SyncHalf) if name.startswith("a")}


def _is_twin(name: str) -> bool:
    return name.startswith("a") and hasattr(FmosSaver, name[1:])
