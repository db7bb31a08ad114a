"""Can these periodic tasks meet their deadlines on one processor? Tests from the literature.

Times are milliseconds. They are reckoned as exact fractions of the decimal numbers as written, so
that ten tasks of 0.1 are a full processor and not a little more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fmos.errors import ArgumentError

#: How many steps a test takes before it refuses because it cannot decide.
MAX_STEPS = 20_000


@dataclass(frozen=True, slots=True)
class Task:
    """Work that comes back every `period_ms` and needs at most `wcet_ms` before its deadline."""

    name: str
    period_ms: float
    wcet_ms: float
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        """Refuse times that are not positive.

        Raises:
            ArgumentError: naming the task and the time.
        """
        for what in ("period_ms", "wcet_ms", "deadline_ms"):
            value: float | None = getattr(self, what)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ArgumentError(
                    f"{what} of the task {self.name!r} is {value}", hint="give a time above 0"
                )

    @property
    def period(self) -> Fraction:
        """The time between two releases."""
        return _exact(self.period_ms)

    @property
    def cost(self) -> Fraction:
        """The worst-case execution time."""
        return _exact(self.wcet_ms)

    @property
    def deadline(self) -> Fraction:
        """The time after its release at which it must be done; by default the period."""
        return self.period if self.deadline_ms is None else _exact(self.deadline_ms)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Whether the tasks fit under one rule, how full the processor is, and why not if not."""

    rule: str
    feasible: bool
    utilisation: float
    why: str
    response_ms: dict[str, float]


def utilisation(tasks: Iterable[Task]) -> Fraction:
    """Return the part of one processor that the tasks need."""
    return sum((task.cost / task.period for task in tasks), Fraction(0))


def earliest_deadline_first(tasks: Sequence[Task]) -> Schedule:
    """Test the tasks under earliest deadline first.

    With deadlines at the end of the period, a utilisation of at most 1 is necessary and sufficient
    (Liu and Layland, "Scheduling algorithms for multiprogramming in a hard-real-time environment",
    JACM 20(1), 1973, theorem 7). With earlier deadlines, the demand of every interval up to the end
    of the first busy period must fit into it (Baruah, Rosier and Howell, "Algorithms and complexity
    concerning the preemptive scheduling of periodic, real-time tasks", Real-Time Systems 2, 1990).
    """
    used = utilisation(tasks)
    late = _late_under_edf(tasks, used)
    why = late or f"utilisation {_percent(used)} <= 100 %"
    return Schedule("EDF", not late, float(used), why, {})


def rate_monotonic(tasks: Sequence[Task]) -> Schedule:
    """Test the tasks under fixed priorities, the shortest deadline first.

    Within the bound n(2^(1/n) - 1) of Liu and Layland (JACM 20(1), 1973, theorem 5) they fit. Above
    it the exact answer is the response time of each task, `R = C + sum(ceil(R / T_j) * C_j)` over
    the tasks before it (Joseph and Pandey, "Finding response times in a real-time system", The
    Computer Journal 29(5), 1986), which is reckoned in any case because people want to see it.
    """
    used = utilisation(tasks)
    ordered = sorted(tasks, key=lambda task: (task.deadline, task.name))
    response: dict[str, float] = {}
    for place, task in enumerate(ordered):
        found = _response(task, ordered[:place])
        if found is None:
            why = f"{task.name!r} can miss its deadline of {float(task.deadline):g} ms"
            return Schedule("RM", False, float(used), why, response)
        response[task.name] = float(found)
    bound = liu_layland_bound(len(ordered))
    relation = "within" if float(used) <= bound else "above"
    why = (
        f"every response time meets its deadline; utilisation {_percent(used)} is {relation}"
        f" the bound of {bound * 100:.1f} %"
    )
    return Schedule("RM", True, float(used), why, response)


def liu_layland_bound(tasks: int) -> float:
    """Return the utilisation below which any so many tasks fit under rate-monotonic priorities."""
    return tasks * (2 ** (1 / tasks) - 1) if tasks else 1.0


def _response(task: Task, before: Sequence[Task]) -> Fraction | None:
    """The longest time from release to end, or None when it exceeds the deadline."""
    if task.deadline > task.period:  # the recurrence looks at one release at a time
        task = Task(task.name, task.period_ms, task.wcet_ms)
    reckoned = task.cost + sum((other.cost for other in before), Fraction(0))
    for _ in range(MAX_STEPS):
        if reckoned > task.deadline:
            return None
        again = task.cost + sum(
            (math.ceil(reckoned / other.period) * other.cost for other in before), Fraction(0)
        )
        if again == reckoned:
            return reckoned
        reckoned = again
    return None


def _late_under_edf(tasks: Sequence[Task], used: Fraction) -> str:
    if used > 1:
        return f"utilisation {_percent(used)} is above 100 % of one processor"
    if all(task.deadline >= task.period for task in tasks):
        return ""
    end = _busy_period(tasks)
    moments = 0 if end is None else sum(_deadlines_until(task, end) for task in tasks)
    if end is None or moments > MAX_STEPS:
        return f"not decided within {MAX_STEPS} steps: nearly full, with periods far apart"
    return next(filter(None, (_overload(tasks, task, end) for task in tasks)), "")


def _overload(tasks: Sequence[Task], task: Task, end: Fraction) -> str:
    """Say at which deadline of one task, up to `end`, more work is due than time has passed."""
    for number in range(_deadlines_until(task, end)):
        moment = task.deadline + number * task.period
        needed = _demand(tasks, moment)
        if needed > moment:
            return (
                f"{float(needed):g} ms of work are due within {float(moment):g} ms,"
                f" at a deadline of {task.name!r}"
            )
    return ""


def _deadlines_until(task: Task, moment: Fraction) -> int:
    return max(0, (moment - task.deadline) // task.period + 1)


def _busy_period(tasks: Sequence[Task]) -> Fraction | None:
    """How long the processor is busy when everything is released at once; None: not found."""
    length = sum((task.cost for task in tasks), Fraction(0))
    for _ in range(MAX_STEPS):
        again = sum((math.ceil(length / task.period) * task.cost for task in tasks), Fraction(0))
        if again == length:
            return length
        length = again
    return None


def _demand(tasks: Sequence[Task], moment: Fraction) -> Fraction:
    """The work that is released and due within [0, moment]."""
    return sum((_deadlines_until(task, moment) * task.cost for task in tasks), Fraction(0))


def _exact(milliseconds: float) -> Fraction:
    return Fraction(repr(float(milliseconds)))


def _percent(part: Fraction) -> str:
    return f"{float(part) * 100:.1f} %"
