"""Exactly-once steps: one effect for each key, through errors, kills and two who ask at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fmos.errors import ArgumentError, InDoubtError, StepFailedError, StorageError
from fmos.runtime.kernel import Kernel
from fmos.steps.model import NotDone, StepContext, step_id
from fmos.steps.steps import Steps
from fmos.steps.store import Outcomes
from fmos.types import Principal

WHO = Principal(agent="worker", session="s1")


class Worker:
    """A forked process that runs the step; killed around its effect, or held inside it.

    The effect is a line in a host file, or in one of the branch.
    """

    def __init__(self, home: Path, log: Path, effect: str, kill: str = "") -> None:
        self.kill, self.effect, self.log = kill, effect, log
        read, self._say = os.pipe()
        self._hear, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._work(home)
        os.close(self._say)
        os.close(self._hear)
        self.said, self.go = open(read), open(write, "w")  # noqa: SIM115 - closed by `ended`

    def ended(self) -> tuple[int, str]:
        """Let it go on, wait for its end, and return its exit code and what it printed."""
        with suppress(BrokenPipeError):
            self.go.write("\n")
            self.go.close()
        status = os.waitpid(self.pid, 0)[1]
        said = self.said.read()
        self.said.close()
        return os.waitstatus_to_exitcode(status), said

    def _work(self, home: Path) -> None:
        try:
            with Kernel.open(home) as kernel:
                steps = Steps(kernel)
                end = steps._end

                def last(*given: object, **named: object) -> object:
                    self._die("stored")
                    return end(*given, **named)  # type: ignore[arg-type]

                steps._end = last  # type: ignore[method-assign, assignment]
                self._tell(str(steps.run(WHO, "r", "k", self._act, effect=self.effect)))  # type: ignore[arg-type]
        except BaseException as error:
            self._tell(type(error).__name__)
        os._exit(0)

    def _act(self, call: StepContext) -> dict[str, str]:
        self._die("before")
        if self.effect == "volume":
            old = call.files.read("/log") if call.files.exists("/log") else b""
            call.files.write("/log", old + b"done\n")
        else:
            with open(self.log, "a") as file:
                file.write(call.idempotency_key + "\n")
        self._die("after")
        if self.kill == "hang":
            self._tell("running")
            os.read(self._hear, 1)
        return {"by": "worker"}

    def _die(self, where: str) -> None:
        if where == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)

    def _tell(self, text: str) -> None:
        os.write(self._say, f"{text}\n".encode())


def once(log: list[str]) -> Callable[[StepContext], object]:
    """Return an action that notes its idempotency key."""

    def action(call: StepContext) -> object:
        log.append(call.idempotency_key)
        return {"n": len(log)}

    return action


def test_the_second_asking_returns_the_stored_outcome(kernel: Kernel) -> None:
    """The action runs once, for the same key in the same run and tenant."""
    steps, log = Steps(kernel), list[str]()
    first = steps.run(WHO, "r", "k", once(log))
    assert Steps(kernel).run(WHO, "r", "k", once(log)) == first == {"n": 1}
    assert steps.run(WHO, "r2", "k", once(log)) == {"n": 2}
    other = Principal(tenant="acme", agent="worker")
    assert steps.run(other, "r", "k", once(log)) == {"n": 3}
    assert len(set(log)) == 3


def test_a_key_means_one_piece_of_work(kernel: Kernel) -> None:
    """Other inputs or another effect under a used key are an error, and nothing runs."""
    steps, log = Steps(kernel), list[str]()
    steps.run(WHO, "r", "k", once(log), inputs={"a": 1, "b": 2})
    steps.run(WHO, "r", "k", once(log), inputs={"b": 2, "a": 1})
    with pytest.raises(ArgumentError, match="other inputs"):
        steps.run(WHO, "r", "k", once(log), inputs={"a": 2})
    with pytest.raises(ArgumentError, match="effect 'outside'"):
        steps.run(WHO, "r", "k", once(log), inputs={"a": 1, "b": 2}, effect="volume")
    assert len(log) == 1


def test_a_failed_step_in_the_volume_leaves_nothing_and_may_run_again(kernel: Kernel) -> None:
    """What was written is undone with the failure, and another attempt has the same key."""
    steps, keys = Steps(kernel), list[str]()

    def action(call: StepContext) -> str:
        keys.append(call.idempotency_key)
        call.files.write(f"/a{call.attempt}", b"x")
        if call.attempt == 1:
            raise ValueError("not today")
        return "ok"

    with pytest.raises(StepFailedError, match="ValueError: not today"):
        steps.run(WHO, "r", "k", action, effect="volume")
    assert kernel.agent_files(WHO).listdir("/") == []
    assert steps.run(WHO, "r", "k", action, effect="volume") == "ok"
    assert kernel.agent_files(WHO).listdir("/") == ["a2"]
    assert keys[0] == keys[1]


def test_an_outside_step_that_raised_is_in_doubt_until_somebody_knows(kernel: Kernel) -> None:
    """It is not run again; a person or `verify` says what happened."""
    steps, log = Steps(kernel), list[str]()

    def send(call: StepContext) -> None:
        log.append(call.idempotency_key)
        raise TimeoutError("no answer")

    with pytest.raises(InDoubtError, match="fmos workflow answer r k"):
        steps.run(WHO, "r", "k", send)
    with pytest.raises(InDoubtError):
        steps.run(WHO, "r", "k", send, verify=lambda call: None)
    assert len(log) == 1
    with pytest.raises(StepFailedError, match="no answer"):
        steps.run(WHO, "r", "k", send, verify=lambda call: False)
    assert len(log) == 2
    assert steps.run(WHO, "r", "k", send, verify=lambda call: {"sent": log[-1]}) == {"sent": log[0]}
    assert len(log) == 3  # it had failed for certain, so it was tried again
    assert steps.run(WHO, "r", "k", send) == {"sent": log[0]}


def test_an_outside_step_that_says_that_nothing_happened_has_failed(kernel: Kernel) -> None:
    """`NotDone` is the action's word that there was no effect."""
    steps, tried = Steps(kernel), list[int]()

    def send(call: StepContext) -> str:
        tried.append(call.attempt)
        if len(tried) == 1:
            raise NotDone("refused")
        return "sent"

    with pytest.raises(StepFailedError, match="refused"):
        steps.run(WHO, "r", "k", send)
    assert steps.run(WHO, "r", "k", send) == "sent"
    assert tried == [1, 2]


def test_a_person_resolves_a_step_in_doubt(kernel: Kernel) -> None:
    """What they say is stored, with their name in the journal, and the step is done or free."""
    steps = Steps(kernel)

    def send(call: StepContext) -> None:
        raise ConnectionError

    for key, happened, state in (("a", True, "done"), ("b", False, "failed")):
        with pytest.raises(InDoubtError):
            steps.run(WHO, "r", key, send)
        told = steps.resolve("default", "r", key, happened=happened, by="user:ada", outcome=7)
        assert told.state == state
    assert steps.run(WHO, "r", "a", send) == 7
    with pytest.raises(ArgumentError, match="not in doubt"):
        steps.resolve("default", "r", "a", happened=True, by="user:ada")
    rows = list(kernel.volume("default").journal(operation="step.resolve"))
    assert [(row.detail["by"], row.detail["happened"]) for row in rows] == [
        ("user:ada", True),
        ("user:ada", False),
    ]


@pytest.mark.parametrize("effect", ["volume", "outside"])
def test_an_outcome_that_cannot_be_kept_is_an_error(kernel: Kernel, effect: str) -> None:
    """In the volume the effect is undone; outside it has happened, and is in doubt."""
    steps = Steps(kernel)

    def action(call: StepContext) -> object:
        call.files.write(f"/{call.key}", b"x")
        return object()

    error = StepFailedError if effect == "volume" else InDoubtError
    with pytest.raises(error, match="cannot be kept"):
        steps.run(WHO, "r", "k", action, effect=effect)  # type: ignore[arg-type]
    assert kernel.agent_files(WHO).exists("/k") == (effect == "outside")


def test_no_step_runs_inside_a_transaction(kernel: Kernel) -> None:
    """The transaction could undo the outcome that was stored already."""
    steps = Steps(kernel)
    with kernel.database.transaction(), pytest.raises(ArgumentError, match="transaction"):
        steps.run(WHO, "r", "k", lambda call: 1)
    with kernel.agent_fs(WHO).transaction(), pytest.raises(ArgumentError, match="transaction"):
        steps.run(WHO, "r", "k", lambda call: 1)
    with pytest.raises(StepFailedError, match="inside a transaction"):
        steps.run(WHO, "r", "o", lambda c: steps.run(WHO, "r", "i", lambda c: 1), effect="volume")
    assert steps.run(WHO, "r", "k", lambda call: 1) == 1


def test_the_journal_has_the_steps_and_no_content(kernel: Kernel) -> None:
    """Start and end are rows, with keyed digests in the place of inputs and outcome."""
    Steps(kernel).run(WHO, "r", "k", lambda call: "SECRET-OUT", inputs="SECRET-IN")
    rows = [row for row in kernel.volume("default").journal() if row.operation.startswith("step.")]
    assert [row.operation for row in rows] == ["step.start", "step.done"]
    assert {row.principal for row in rows} == {str(WHO)}
    assert not any("SECRET" in str(row) for row in rows)


def test_threads_that_ask_at_once_get_one_effect(kernel: Kernel) -> None:
    """One runs the action; the others wait for what it returns."""
    steps, log, answers = Steps(kernel), list[str](), list[object]()
    begun = threading.Event()

    def action(call: StepContext) -> str:
        begun.set()
        log.append(call.key)
        return "one"

    def ask() -> None:
        answers.append(steps.run(WHO, "r", "k", action))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (log, answers) == (["k"], ["one"] * 8)


def test_one_home_by_two_names_is_one_home(tmp_path: Path) -> None:
    """A step that a thread runs is not taken for abandoned by one that spells it otherwise."""
    (tmp_path / "link").symlink_to(tmp_path / "home")
    running, go, log = threading.Event(), threading.Event(), list[str]()

    def slow(call: StepContext) -> str:
        log.append("slow")
        running.set()
        go.wait(10)
        return "first"

    with Kernel.open(tmp_path / "home") as one, Kernel.open(tmp_path / "link") as other:
        thread = threading.Thread(target=lambda: Steps(one).run(WHO, "r", "k", slow))
        thread.start()
        assert running.wait(10)
        with pytest.raises(StorageError, match="still being run"):
            Steps(other).run(WHO, "r", "k", slow, wait_s=0.05)
        go.set()
        thread.join()
        assert Steps(other).run(WHO, "r", "k", slow) == "first"
    assert log == ["slow"]


@pytest.mark.parametrize("effect", ["volume", "outside", "idempotent"])
@pytest.mark.parametrize("kill", ["before", "after", "stored"])
def test_a_killed_step_has_one_effect(tmp_path: Path, effect: str, kill: str) -> None:
    """Killed anywhere, asked again: one effect in the volume; outside, one or a doubt."""
    home, log = tmp_path / "home", tmp_path / "log"
    assert Worker(home, log, effect, kill).ended()[0] == -signal.SIGKILL
    said = Worker(home, log, effect).ended()[1]
    lines = log.read_text().split() if log.exists() else []
    if effect == "outside" and kill != "stored":
        assert said == "InDoubtError\n"
        assert len(lines) == (kill == "after")
        return
    assert "worker" in said
    if effect == "volume":
        with Kernel.open(home) as kernel:
            assert kernel.agent_files(WHO).read("/log") == b"done\n"
    elif effect == "idempotent":
        assert len(set(lines)) == 1  # twice at most, and with the same key
    else:
        assert len(lines) == 1


def test_another_process_waits_and_takes_over_from_a_dead_one(tmp_path: Path) -> None:
    """While the first lives nobody else runs the step; when it is killed, the next one does."""
    first = Worker(tmp_path / "home", tmp_path / "log", "idempotent", "hang")
    assert first.said.readline() == "running\n"
    with Kernel.open(tmp_path / "home") as kernel:
        steps, answers = Steps(kernel), list[object]()

        def ask(wait_s: float = 10) -> None:
            action = lambda call: "second"  # noqa: E731
            answers.append(steps.run(WHO, "r", "k", action, effect="idempotent", wait_s=wait_s))

        with pytest.raises(StorageError, match="still being run"):
            ask(0.05)
        waiting = threading.Thread(target=ask)
        waiting.start()
        os.kill(first.pid, signal.SIGKILL)
        assert first.ended()[0] == -signal.SIGKILL
        waiting.join(timeout=10)
        assert answers == ["second"]


def test_a_waiting_process_gets_the_outcome_of_the_first(tmp_path: Path) -> None:
    """It returns what the other one stored, and does not run the action."""
    home, log = tmp_path / "home", tmp_path / "log"
    first = Worker(home, log, "outside", "hang")
    assert first.said.readline() == "running\n"
    second = Worker(home, log, "outside")
    first.ended()
    assert "worker" in second.ended()[1]
    assert len(log.read_text().split()) == 1


@pytest.mark.parametrize("effect", ["volume", "outside", "idempotent"])
@pytest.mark.parametrize("error", [StorageError("kernel.db is locked"), KeyboardInterrupt()])
def test_what_the_volume_has_as_done_stays_done(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, effect: str, error: BaseException
) -> None:
    """What fails after the volume's commit makes the step neither failed nor in doubt."""
    steps, log = Steps(kernel), list[str]()
    end, failing = steps._end, [error]

    def fails_once(*given: object, **named: object) -> object:
        if failing:
            raise failing.pop()
        return end(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "_end", fails_once)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            steps.run(WHO, "r", "k", once(log), effect=effect)  # type: ignore[arg-type]
    for asked in (steps, Steps(kernel)):
        assert asked.run(WHO, "r", "k", once(log), effect=effect) == {"n": 1}  # type: ignore[arg-type]
    known = steps.find("default", "r", "k")
    assert known is not None
    assert (known.state, len(log)) == ("done", 1)


def test_a_late_failure_is_not_written_over_an_outcome(kernel: Kernel) -> None:
    """The volume keeps that an attempt was done when another says that it failed."""
    Steps(kernel).run(WHO, "r", "k", lambda call: 7)
    outcomes = Outcomes(kernel.volume("default"))
    id = step_id("default", "r", "k")
    with kernel.agent_fs(WHO).transaction():
        outcomes.put(id, 2, done=False, text='"failed"')
    assert outcomes.get(id) == (1, True, "7")
