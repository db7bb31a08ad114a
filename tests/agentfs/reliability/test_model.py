"""Random operations, forks, restores and merges against plain dictionaries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agentfs.reliability.model import Model
from tests.agentfs.reliability.steps import (
    Step,
    Steps,
    differences,
    flat,
    next_step,
    on_volume,
    states,
)

from agentfs import AgentFS

Length = Callable[[int, int], int]
Record = Callable[[str, object], None]
STEPS = 300


Past = tuple[str, int, dict[str, Any]]


def remember(fs: AgentFS, step: Step, model: Model, past: list[Past]) -> None:
    """Keep what a branch held after a journal row; gc without retention forgets it."""
    if step.name == "gc" and step.arguments == (0,):
        past.clear()
    rows = fs.on(step.branch).log(1)
    if rows:
        past.append((step.branch, rows[0].seq, model.states()[step.branch]))


def check_past(fs: AgentFS, model: Model, chosen: list[Past]) -> None:
    """Time travel to a row shows what was there then."""
    for branch, seq, expected in chosen:
        if branch in model.lines:
            found = flat(fs.on(branch).at(seq))
            assert (branch, seq, differences({"": found}, {"": expected})) == (branch, seq, [])


def run(path: Path, seed: int, count: int) -> None:
    """Run some steps on a fresh volume and its model; the seed is in every failure."""
    model, steps = Model(), Steps(seed)
    fs = AgentFS.open(path)
    past: list[Past] = []
    try:
        for number in range(count):
            step, expected, model = next_step(steps, model)
            assert (seed, number, step, on_volume(fs, step)) == (seed, number, step, expected)
            remember(fs, step, model, past)
            if number % 25 == 24:
                assert (seed, number, differences(states(fs), model.states())) == (seed, number, [])
                check_past(fs, model, steps.chance.sample(past, min(3, len(past))))
            if number % 100 == 99:
                fs.close()
                fs = AgentFS.open(path)
                assert (seed, number, fs.fsck(read_data=True)) == (seed, number, [])
    finally:
        fs.close()


@pytest.mark.parametrize("seed", range(5))
def test_random_steps_do_what_the_model_says(
    tmp_path: Path, length: Length, record_property: Record, seed: int
) -> None:
    """Each step gives the model's result or the model's error; states and fsck agree."""
    turns = length(1, 40)
    for turn in range(turns):
        run(tmp_path / f"{turn}.afs", seed * 1000 + turn, STEPS)
    record_property("figures", f"{turns * STEPS} steps")
