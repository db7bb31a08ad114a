"""What `FmosSaver` lets go of, by itself and when asked, and what copies share."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from fmos_langgraph import FmosSaver, Retention
from fmos_langgraph.places import Place

LONG = "thread " * 100
STILL = random.Random(-1).randbytes(2000)


def config(thread: str) -> Any:
    """Return the config that names a thread."""
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


def put(saver: FmosSaver, thread: str, count: int, first: int = 0) -> None:
    """Store checkpoints with a large value that changes and one that does not."""
    found = saver.get_tuple(config(thread))
    where = found.config if found else config(thread)
    for number in range(first, first + count):
        checkpoint: Any = empty_checkpoint() | {
            "id": str(uuid6(clock_seq=number)),
            "channel_values": {"still": STILL, "moving": random.Random(number).randbytes(2000)},
            "channel_versions": {"still": 1, "moving": number + 1},
        }
        new: Any = {"moving": number + 1} | ({"still": 1} if not number else {})
        where = saver.put(where, checkpoint, {"step": number, "run_id": f"r{number // 5}"}, new)
        saver.put_writes(where, [("moving", number)], f"task{number}")


def steps(saver: FmosSaver, thread: str) -> list[int]:
    """Return the steps of a thread's checkpoints, newest first, with their values checked."""
    found = list(saver.list(config(thread)))
    for each in found:
        values = each.checkpoint["channel_values"]
        step = each.metadata["step"]
        assert values == {"still": STILL, "moving": random.Random(step).randbytes(2000)}
        assert [write[2] for write in each.pending_writes or []] == [step]
    return [each.metadata["step"] for each in found]


def values_of(saver: FmosSaver, thread: str) -> int:
    """Return how many large values a thread has files for."""
    return len(saver.fs.listdir(Place.of(thread, "").values))


def test_keep_last_drops_older_checkpoints_and_what_only_they_had(tmp_path: Path) -> None:
    """The newest stay whole, a value that an old checkpoint brought and they share included."""
    with FmosSaver.from_path(tmp_path / "a.afs") as saver:
        put(saver, "t", 20)
        assert values_of(saver, "t") == 21
        assert saver.keep_last("t", 3) == 17
        assert steps(saver, "t") == [19, 18, 17]
        assert values_of(saver, "t") == 4
        assert saver.keep_last("t", 3) == 0
        put(saver, "t", 1, first=20)
        assert steps(saver, "t") == [20, 19, 18, 17]


def test_retention_prunes_while_a_thread_grows(tmp_path: Path) -> None:
    """A saver that keeps five never has more than five and fifty checkpoints of a thread."""
    keeping = Retention(keep_last=5)
    with FmosSaver.from_path(tmp_path / "a.afs", retention=keeping) as saver:
        put(saver, "t", 100)
        assert steps(saver, "t") == [99, 98, 97, 96, 95]
        put(saver, "t", 20, first=100)
        assert len(steps(saver, "t")) == 25


@pytest.mark.parametrize("wrong", [{"keep_last": 0}, {"ttl": timedelta(0)}])
def test_retention_refuses_limits_that_keep_nothing(wrong: dict[str, Any]) -> None:
    """A limit below one checkpoint or above no time is a mistake."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retention(**wrong)


def test_expire_removes_threads_whose_last_checkpoint_is_old(tmp_path: Path) -> None:
    """Only the newest checkpoint counts, and ids too long for a file name are told in full."""
    with FmosSaver.from_path(tmp_path / "a.afs") as saver:
        for thread in ("new", "old", LONG):
            put(saver, thread, 2)
        for thread in ("old", LONG):
            folder = Place.of(thread, "").checkpoints
            for name in saver.fs.listdir(folder):
                saver.fs.utime(f"{folder}/{name}", 10**18)
        folder = Place.of("new", "").checkpoints
        saver.fs.utime(f"{folder}/{saver.fs.listdir(folder)[0]}", 10**18)
        assert sorted(saver.expire(timedelta(days=1))) == sorted(["old", LONG])
        assert saver.threads() == ["new"]
        assert steps(saver, "new") == [1, 0]


def test_a_copy_is_a_thread_of_its_own_and_costs_nothing(tmp_path: Path) -> None:
    """Copy and original go on apart; ids of any length are those of the copy."""
    with FmosSaver.from_path(tmp_path / "a.afs") as saver:
        put(saver, "t", 10)
        before = saver.fs.stats().chunk_bytes
        for name in ("u", LONG):
            saver.copy_thread("t", name)
            assert steps(saver, name) == steps(saver, "t")
        saver.copy_thread(LONG, "v")
        assert saver.fs.stats().chunk_bytes == before
        put(saver, "u", 1, first=10)
        saver.delete_thread("t")
        assert steps(saver, "u")[:2] == [10, 9]
        assert saver.threads() == sorted(["u", "v", LONG])
        assert {each.config["configurable"]["thread_id"] for each in saver.list(None)} == {
            "u", "v", LONG,
        }  # fmt: skip


def test_copying_into_a_thread_adds_what_it_does_not_have(tmp_path: Path) -> None:
    """Checkpoints that both have stay, those of the source come."""
    with FmosSaver.from_path(tmp_path / "a.afs") as saver:
        put(saver, "t", 3)
        saver.copy_thread("t", "u")
        put(saver, "t", 2, first=3)
        saver.copy_thread("t", "u")
        assert steps(saver, "u") == [4, 3, 2, 1, 0]


def test_deleting_runs_leaves_the_others_whole(tmp_path: Path) -> None:
    """Only the checkpoints of the named runs go, in all threads."""
    with FmosSaver.from_path(tmp_path / "a.afs") as saver:
        for thread in ("t", "u"):
            put(saver, thread, 15)
        saver.delete_for_runs(["r1"])
        for thread in ("t", "u"):
            assert steps(saver, thread) == [14, 13, 12, 11, 10, 4, 3, 2, 1, 0]


def test_a_forked_branch_has_its_own_threads_from_then_on(tmp_path: Path) -> None:
    """Savers on two branches share the past of a thread and not its future."""
    with FmosSaver.from_path(tmp_path / "a.afs") as saver:
        put(saver, "t", 3)
        other = FmosSaver.from_fs(saver.fs.fork("other"))
        put(saver, "t", 1, first=3)
        put(other, "t", 2, first=7)
        assert steps(saver, "t") == [3, 2, 1, 0]
        assert steps(other, "t") == [8, 7, 2, 1, 0]
