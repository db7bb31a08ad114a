"""Compensation: what was done is undone in reverse, whoever undoes it and however often it dies."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmos.errors import ArgumentError, CompensationError, InDoubtError, StepFailedError
from fmos.runtime.kernel import Kernel
from fmos.steps.model import Compensation, Effect, NotDone, StepContext
from fmos.steps.saga import BackOff, Saga
from fmos.steps.steps import Steps
from fmos.types import Principal

WHO = Principal(agent="worker", session="s1")
QUICK = BackOff(attempts=3, first_s=0.001)
_CRASHING = Path(__file__).parents[2] / "benchmarks" / "crashing.py"


def crashing() -> ModuleType:
    """What the benchmark kills processes with."""
    spec = importlib.util.spec_from_file_location("crashing", _CRASHING)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["crashing"] = module
    spec.loader.exec_module(module)
    return module


CRASHING = crashing()


class Log:
    """A file outside, with a line for each effect; doing and undoing look before they act."""

    def __init__(self, path: Path, fails: int = -1) -> None:
        self.path = path
        self.fails = fails

    def lines(self) -> list[str]:
        """The effects, oldest first."""
        return self.path.read_text().split() if self.path.exists() else []

    def do(self, call: StepContext) -> str:
        """Act once."""
        if call.inputs == self.fails:
            raise NotDone("no")
        if f"do:{call.inputs}" not in self.lines():
            self._add(f"do:{call.inputs}")
        return f"did {call.inputs}"

    def undo(self, call: StepContext) -> None:
        """Undo once."""
        if f"undo:{call.inputs}" not in self.lines():
            self._add(f"undo:{call.inputs}")

    def _add(self, line: str) -> None:
        with open(self.path, "a") as file:
            file.write(line + "\n")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """An empty log."""
    return Log(tmp_path / "log")  # type: ignore[return-value]


def saga_of(kernel: Kernel, run: str = "r") -> Saga:
    """A saga that does not pause for long."""
    return Saga(Steps(kernel), WHO, run, QUICK, wait_s=5)


def test_a_failure_undoes_in_reverse(kernel: Kernel, log: Log) -> None:
    """Steps without a compensation stay; the outcome of each is handed to what undoes it."""
    seen: list[object] = []

    def undo(call: StepContext) -> None:
        seen.append((call.inputs, call.outcome))

    log.fails = 3
    with pytest.raises(StepFailedError), saga_of(kernel) as saga:
        for number in range(5):
            compensation = None if number == 1 else Compensation("undo", undo)
            saga.step(f"s{number}", log.do, inputs=number, compensate=compensation)
    assert seen == [(2, "did 2"), (0, "did 0")]
    assert saga.state == "undone"
    assert saga.undo("again").steps == ("s2", "s0")
    assert len(seen) == 2
    with pytest.raises(ArgumentError, match="is undone and begins no step"):
        saga.step("s9", log.do, inputs=9)


def test_a_complete_run_is_not_undone(kernel: Kernel, log: Log) -> None:
    """Its steps return what they returned, and it begins no others."""
    with saga_of(kernel) as saga:
        saga.step("s", log.do, inputs=1)
    with pytest.raises(ArgumentError, match="complete and is not undone"):
        saga.undo("late")
    assert saga.step("s", log.do, inputs=1) == "did 1"
    with pytest.raises(ArgumentError, match="begins no step"):
        saga.step("t", log.do, inputs=2)


def test_a_failing_compensation_is_retried_then_left_with_all_that_is_to_do(
    kernel: Kernel, log: Log
) -> None:
    """The order is kept: nothing before it is undone, until it is done by hand or succeeds."""
    tries: list[int] = []

    def stubborn(call: StepContext) -> None:
        tries.append(call.attempt)
        raise OSError("locked")

    saga = saga_of(kernel)
    good = Compensation("good", log.undo)
    for number, each in enumerate((good, Compensation("stubborn", stubborn), good)):
        saga.step(f"s{number}", log.do, inputs=number, compensate=each)
    with pytest.raises(CompensationError, match=r"undone so far: s2; left: s1, s0.*resume r"):
        saga.undo("stop")
    assert (tries, saga.state, saga.left()) == ([1, 2, 3], "stuck", ("s1", "s0"))
    saga.steps.resolve("default", "r", "undo:s1", happened=True, by="user:ada")
    saga.undo("stop")
    assert log.lines()[3:] == ["undo:2", "undo:0"]
    assert saga.state == "undone"


def test_another_process_needs_the_compensations_by_name(kernel: Kernel, log: Log) -> None:
    """Without them the run is stuck; with them it goes on, and it can be done by hand as well."""
    saga = saga_of(kernel)
    for number in range(2):
        saga.step(f"s{number}", log.do, inputs=number, compensate=Compensation("undo", log.undo))
    other = saga_of(kernel)
    with pytest.raises(CompensationError, match="nothing here is called 'undo'"):
        other.undo("stop")
    other.steps.resolve("default", "r", "undo:s1", happened=True, by="user:ada")
    knowing = Saga(Steps(kernel, [Compensation("undo", log.undo)]), WHO, "r", QUICK)
    knowing.undo("stop")
    assert log.lines() == ["do:0", "do:1", "undo:0"]


def test_a_doubt_about_what_must_be_undone_is_a_persons(kernel: Kernel, log: Log) -> None:
    """An outside step in doubt blocks the compensation; an idempotent one is undone anyway."""

    def torn(call: StepContext) -> None:
        log.do(call)
        raise TimeoutError

    saga = saga_of(kernel)
    undo = Compensation("undo", log.undo)
    with pytest.raises(StepFailedError):
        saga.step("i", torn, inputs=1, effect="idempotent", compensate=undo)
    with pytest.raises(InDoubtError):
        saga.step("o", torn, inputs=2, compensate=undo)
    with pytest.raises(CompensationError, match="whether it has happened is not known"):
        saga.undo("stop")
    saga.steps.resolve("default", "r", "o", happened=False, by="user:ada")
    assert saga.undo("stop").steps == ("i",)
    assert log.lines() == ["do:1", "do:2", "undo:1"]


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    effects=st.lists(st.sampled_from(["volume", "idempotent"]), min_size=1, max_size=4),
    fails=st.integers(0, 4),
    kills=st.lists(st.integers(1, 60), max_size=3),
)
def test_compensations_are_the_reverse_of_what_was_done_through_any_kills(
    effects: list[Effect], fails: int, kills: list[int]
) -> None:
    """Killed at any writes, again and again: in the end all is done once, or all undone once."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)

        def run(kill_at: int = 0) -> None:
            points = CRASHING.Points(kill_at)
            points.install()
            log = Log(home / "log", fails)
            undo = Compensation("undo", log.undo)
            with Kernel.open(home) as kernel:
                saga = Saga(Steps(kernel, [undo]), WHO, "r", QUICK, wait_s=5)
                try:
                    if saga.state not in ("undoing", "undone"):
                        for number, effect in enumerate(effects):
                            saga.step(
                                f"s{number}", log.do, inputs=number, effect=effect, compensate=undo
                            )
                        saga.complete()
                    else:
                        saga.undo("go on")
                except StepFailedError:
                    saga.undo("failed")

        for kill in kills:
            CRASHING.in_process(lambda kill=kill: run(kill))
        assert os.waitstatus_to_exitcode(CRASHING.in_process(run)) == 0
        done = [f"do:{n}" for n in range(min(fails, len(effects)))]
        undone = [f"un{each}" for each in reversed(done)] if fails < len(effects) else []
        assert Log(home / "log").lines() == done + undone
