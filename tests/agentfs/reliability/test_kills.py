"""SIGKILL at random moments of mixed work: nothing torn, nothing acknowledged lost."""

from __future__ import annotations

import os
import random
import select
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agentfs.reliability.model import Model
from tests.agentfs.reliability.steps import Steps, next_step, on_volume, states

from agentfs import AgentFS, journal

Length = Callable[[int, int], int]
Record = Callable[[str, object], None]
KILLS_PER_VOLUME = 25
ACKNOWLEDGEMENT = struct.Struct("<q")


def last_row(fs: AgentFS) -> int:
    """Return the number of the newest journal row."""
    with fs.view_for_reading() as view:
        return journal.bounds(view.session)[1]


def child(path: Path, durability: Any, seed: int, model: Model, pipe: int) -> None:
    """Do steps until killed, and acknowledge each with the number of the last journal row."""
    status = 1
    try:
        fs, steps = AgentFS.open(path, durability=durability), Steps(seed)
        os.write(pipe, ACKNOWLEDGEMENT.pack(last_row(fs)))
        while True:
            step, _, model = next_step(steps, model)
            on_volume(fs, step)
            os.write(pipe, ACKNOWLEDGEMENT.pack(last_row(fs)))
    finally:
        os._exit(status)


def killed(
    path: Path, durability: Any, seed: int, model: Model, chance: random.Random
) -> tuple[int, int | None]:
    """Run a child and kill it; return its acknowledged steps, and the last row of these."""
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        os.close(ours)
        child(path, durability, seed, model, theirs)
    os.close(theirs)
    wanted, seen = chance.randint(0, 40), b""
    # Some kills fall while the volume is being opened, the rest a random while after a step.
    size = ACKNOWLEDGEMENT.size
    while chance.random() < 0.98 and len(seen) < wanted * size and (more := os.read(ours, size)):
        seen += more
    select.select([], [], [], chance.random() * 0.004)
    os.kill(process, signal.SIGKILL)
    while more := os.read(ours, 4096):
        seen += more
    os.close(ours)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status), (seed, "the child failed by itself")
    last = ACKNOWLEDGEMENT.unpack(seen[-size:])[0] if seen else None
    return max(len(seen) // size - 1, 0), last


def replay(seed: int, model: Model, count: int) -> Model:
    """Return the model after some steps of a seed."""
    steps = Steps(seed)
    for _ in range(count):
        _, _, model = next_step(steps, model)
    return model


def after_kill(path: Path, seed: int, model: Model, done: int, last: int | None) -> Model:
    """Check the volume that a killed process left; return the model of what it holds."""
    with AgentFS.open(path) as fs:
        assert (seed, fs.fsck(read_data=True)) == (seed, [])
        found, begun = states(fs), last is not None and last_row(fs) > last
    model = replay(seed, model, done + begun)
    assert found == model.states(), (seed, done, "neither all of a step nor nothing of it")
    return model


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_kills_tear_nothing_and_lose_nothing(
    tmp_path: Path, length: Length, record_property: Record, durability: str
) -> None:
    """After each kill fsck is clean; the state is that of the acknowledged steps, or one more."""
    chance = random.Random(7)
    model = Model()
    kills = length(10, 600)
    acknowledged = 0
    for number in range(kills):
        if number % KILLS_PER_VOLUME == 0:
            model = Model()
        path = tmp_path / f"{number // KILLS_PER_VOLUME}.afs"
        seed = chance.randrange(1 << 30)
        done, last = killed(path, durability, seed, model, chance)
        model = after_kill(path, seed, model, done, last)
        acknowledged += done
    record_property("figures", f"{durability}: {kills} kills, {acknowledged} steps before them")
