"""The schedulability tests, against published examples and against a simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmos.contract.schedule import (
    Task,
    earliest_deadline_first,
    liu_layland_bound,
    rate_monotonic,
    utilisation,
)
from fmos.errors import ArgumentError


def test_the_bound_is_liu_and_laylands() -> None:
    """0.828 for two tasks, and towards ln 2 for many."""
    assert liu_layland_bound(2) == pytest.approx(0.8284, abs=1e-4)
    assert liu_layland_bound(10_000) == pytest.approx(math.log(2), abs=1e-4)


def test_response_times_decide_above_the_bound() -> None:
    """Three tasks at 90 % are above the bound of 78 %, and still meet every deadline."""
    found = rate_monotonic([Task("a", 4, 1), Task("b", 5, 2), Task("c", 20, 5)])
    assert found.feasible
    assert found.response_ms == {"a": 1, "b": 3, "c": 15}
    assert "above the bound of 78.0 %" in found.why


def test_fixed_priorities_refuse_what_deadlines_allow() -> None:
    """Two tasks at 97 % fit under EDF and not under rate-monotonic priorities."""
    tasks = [Task("fast", 5, 2), Task("slow", 7, 4)]
    assert earliest_deadline_first(tasks).feasible
    assert not rate_monotonic(tasks).feasible
    assert "'slow' can miss its deadline of 7 ms" in rate_monotonic(tasks).why


def test_decimal_times_are_exact() -> None:
    """Ten times 0.1 of a processor is one processor; a little more is too much."""
    tenths = [Task(str(number), 1, 0.1) for number in range(10)]
    assert utilisation(tenths) == 1
    assert earliest_deadline_first(tenths).feasible
    assert not earliest_deadline_first([*tenths, Task("more", 1000, 0.001)]).feasible


def test_early_deadlines_are_counted() -> None:
    """At half a processor, two tasks due at the same early moment do not fit."""
    tasks = [Task("a", 10, 3, deadline_ms=4), Task("b", 10, 2, deadline_ms=4)]
    found = earliest_deadline_first(tasks)
    assert not found.feasible
    assert "5 ms of work are due within 4 ms" in found.why


def test_what_cannot_be_decided_is_refused() -> None:
    """A nearly full processor with periods far apart ends in a refusal, not in a long wait."""
    tasks = [Task("a", 0.001, 0.00099, deadline_ms=0.000995), Task("b", 99_991, 999)]
    assert "not decided" in earliest_deadline_first(tasks).why


@pytest.mark.parametrize(
    ("period", "cost"), [(0, 1), (1, 0), (1, -1), (math.nan, 1), (1, math.inf)]
)
def test_a_time_that_is_none_is_refused(period: float, cost: float) -> None:
    """The sentence names the task and the time."""
    with pytest.raises(ArgumentError, match=r"_ms of the task 'a' is"):
        Task("a", period, cost)


_TASKS = st.lists(
    st.tuples(st.sampled_from([2, 3, 4, 6, 12]), st.integers(1, 4), st.integers(1, 12)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(_TASKS)
def test_the_tests_agree_with_a_simulation(drawn: list[tuple[int, int, int]]) -> None:
    """A hyperperiod run tick by tick misses a deadline exactly when the test says so."""
    tasks = [
        Task(f"t{number}", period, cost, deadline_ms=min(deadline, period))
        for number, (period, cost, deadline) in enumerate(drawn)
    ]
    assert earliest_deadline_first(tasks).feasible == _meets(tasks, by_deadline=True)
    assert rate_monotonic(tasks).feasible == _meets(tasks, by_deadline=False)


def _meets(tasks: list[Task], *, by_deadline: bool) -> bool:
    if utilisation(tasks) > 1:
        return False
    jobs: list[tuple[Fraction, str, Fraction, list[int]]] = []
    for now in range(2 * 12):
        for task in tasks:
            if now % int(task.period) == 0:
                due = now + task.deadline
                order = due if by_deadline else task.deadline
                jobs.append((order, task.name, due, [int(task.cost)]))
        jobs = [job for job in jobs if job[3][0]]
        if any(job[2] <= now for job in jobs):
            return False
        if jobs:
            min(jobs, key=lambda job: job[:3])[3][0] -= 1
    return all(job[2] >= 2 * 12 for job in jobs if job[3][0])
