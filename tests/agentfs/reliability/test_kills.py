"""SIGKILL at random moments of mixed work: nothing torn, nothing acknowledged lost."""

from __future__ import annotations

import os
import random
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agentfs.reliability.model import Model
from tests.agentfs.reliability.steps import Steps, next_step, on_volume, states

from agentfs import AgentFS

Length = Callable[[int, int], int]
Record = Callable[[str, object], None]
KILLS_PER_VOLUME = 25


def child(path: Path, durability: Any, seed: int, model: Model, pipe: int) -> None:
    """Do steps until killed, and acknowledge each with a byte."""
    status = 1
    try:
        fs, steps = AgentFS.open(path, durability=durability), Steps(seed)
        os.write(pipe, b"r")
        while True:
            step, _, model = next_step(steps, model)
            on_volume(fs, step)
            os.write(pipe, b".")
    finally:
        os._exit(status)


def killed(
    path: Path, durability: Any, seed: int, model: Model, chance: random.Random
) -> tuple[int, bool]:
    """Run a child and kill it; return its acknowledged steps, and whether it had opened."""
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        os.close(ours)
        child(path, durability, seed, model, theirs)
    os.close(theirs)
    wanted, seen = chance.randint(0, 40), b""
    # Some kills fall while the volume is being opened, the rest a random while after a step.
    while chance.random() < 0.98 and len(seen) < wanted and (more := os.read(ours, 1)):
        seen += more
    select.select([], [], [], chance.random() * 0.004)
    os.kill(process, signal.SIGKILL)
    while more := os.read(ours, 4096):
        seen += more
    os.close(ours)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status), (seed, "the child failed by itself")
    return max(len(seen) - 1, 0), bool(seen)


def replay(seed: int, model: Model, count: int) -> Model:
    """Return the model after some steps of a seed."""
    steps = Steps(seed)
    for _ in range(count):
        _, _, model = next_step(steps, model)
    return model


def after_kill(path: Path, seed: int, model: Model, done: int) -> Model:
    """Check the volume that a killed process left; return the model of what it holds."""
    with AgentFS.open(path) as fs:
        assert (seed, fs.fsck(read_data=True)) == (seed, [])
        found = states(fs)
    certain = replay(seed, model, done)
    if found == certain.states():
        return certain
    begun = replay(seed, model, done + 1)
    assert found == begun.states(), (seed, done, "neither all of a step nor nothing of it")
    return begun


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
        done, _ = killed(path, durability, seed, model, chance)
        model = after_kill(path, seed, model, done)
        acknowledged += done
    record_property("figures", f"{durability}: {kills} kills, {acknowledged} steps before them")
