"""What the power leaves: full durability keeps each acknowledged commit, normal keeps an order."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agentfs.reliability.model import Model
from tests.agentfs.reliability.powercut import Event, Recorder, recording, remains
from tests.agentfs.reliability.steps import Steps, next_step, on_volume, states

from agentfs import AgentFS

Length = Callable[[int, int], int]
Record = Callable[[str, object], None]


def record(path: Path, durability: Any, seed: int, count: int) -> tuple[list[Event], list[Any]]:
    """Do steps on a recorded disk; return the events and the states after each number of steps.

    A checkpoint comes now and then, so that cuts also fall into one.
    """
    model, steps = Model(), Steps(seed)
    expected = [model.states()]
    with recording() as recorder:
        fs = AgentFS.open(path, durability=durability)
        recorder.done()
        for number in range(count):
            step, _, model = next_step(steps, model)
            on_volume(fs, step)
            recorder.done()
            expected.append(model.states())
            if number % 20 == 19:
                fs.close()
                fs = AgentFS.open(path, durability=durability)
        fs.close()
        return recorder.events, expected


def cuts(events: list[Event], chance: random.Random, count: int) -> list[int]:
    """Return moments, half of them just before or after a sync."""
    near = [number for number, event in enumerate(events) if event.kind == "sync"]
    found = [chance.choice(near) + chance.randint(0, 1) for _ in range(count // 2)]
    return found + [chance.randrange(len(events) + 1) for _ in range(count - len(found))]


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_power_cut_leaves_whole_operations_in_order(
    tmp_path: Path, length: Length, record_property: Record, durability: str
) -> None:
    """The volume opens, is sound, and holds a prefix of the steps: with "full" all acknowledged."""
    chance = random.Random(11)
    for turn in range(length(1, 20)):
        place = tmp_path / f"{durability}-{turn}"
        place.mkdir()
        events, expected = record(place / "a.afs", durability, turn, 60)
        for number, moment in enumerate(cuts(events, chance, length(40, 150))):
            left = place / str(number)
            left.mkdir()
            remains(events[:moment], left, chance)
            acknowledged = sum(event.kind == "done" for event in events[:moment]) - 1
            with AgentFS.open(left / "a.afs") as fs:
                assert (turn, moment, fs.fsck(read_data=True)) == (turn, moment, [])
                assert fs.verify_journal().ok
                found = states(fs)
            lowest = max(acknowledged, 0) if durability == "full" else 0
            # The step that was being done may be there or not; nothing after it can be.
            assert found in expected[lowest : max(acknowledged, 0) + 2], (turn, moment)
    record_property("figures", f"{durability}: {length(1, 20) * length(40, 150)} cuts")


def syncs(recorder: Recorder, fs: AgentFS, actions: list[Callable[[], Any]]) -> list[int]:
    """Return how often each action syncs."""
    found: list[int] = []
    for action in actions:
        before = len(recorder.events)
        action()
        found.append(sum(event.kind == "sync" for event in recorder.events[before:]))
    return found


def test_each_full_commit_is_one_sync_and_a_normal_one_none(tmp_path: Path) -> None:
    """Writes, forks, snapshots, renames, merges and transactions alike."""
    with recording() as recorder:
        for durability, expected in (("full", 1), ("normal", 0)):
            with AgentFS.open(tmp_path / durability, durability=durability) as fs:
                side = fs.fork("side")
                actions: list[Callable[[], Any]] = [
                    lambda fs=fs: fs.write("/small", b"x"),
                    lambda fs=fs: fs.write("/large", bytes(range(256)) * 400),
                    lambda fs=fs: fs.append("/large", b"x"),
                    lambda side=side: side.write("/other", b"x"),
                    lambda fs=fs: fs.merge("side"),
                    lambda fs=fs: fs.snapshot("s"),
                    lambda fs=fs: fs.rename("/small", "/renamed"),
                    lambda fs=fs: fs.fork("third"),
                    lambda fs=fs: many(fs),
                ]
                assert syncs(recorder, fs, actions) == [expected] * len(actions)


def many(fs: AgentFS) -> None:
    """Do a hundred operations in one transaction."""
    with fs.transaction():
        for number in range(100):
            fs.write(f"/{number}", b"x")
