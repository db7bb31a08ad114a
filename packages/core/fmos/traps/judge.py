"""Judges a session's operations on the fast path: table, then signals, then learned traps.

Each step can only add a trap to what the table says.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fmos.traps.signals import raised
from fmos.traps.table import TrapTable
from fmos.traps.trajectory import Trajectory
from fmos.types import Operation, OperationClass

#: The signal that learned traps raise.
LEARNED = "learned"


class Learned(Protocol):
    """Learned traps: `fmos.traps.learned.TrapModel`."""

    @property
    def digest(self) -> str:
        """Names exactly this artefact."""
        ...

    def traps(self, operation: Operation, past: Trajectory) -> bool:
        """Return whether an operation should trap."""
        ...


class Judgement(NamedTuple):
    """The class of an operation, and the signals that it raised."""

    operation_class: OperationClass
    signals: tuple[str, ...] = ()

    @property
    def innocuous(self) -> bool:
        """Whether the operation may run at once."""
        return self.operation_class is OperationClass.INNOCUOUS


class Judge:
    """One session's judge. Not thread-safe: its owner locks."""

    def __init__(self, learned: Learned | None = None) -> None:
        self.past = Trajectory(reads_texts=learned is not None)
        self._learned = learned
        self.model = learned.digest if learned else ""

    def judge(
        self, table: TrapTable | None, operation: Operation, now_ns: int, steady_ns: int
    ) -> Judgement:
        """Return the class of the session's next operation and note it in the trajectory.

        Args:
            table: The table that was checked; without one everything traps.
            operation: What is asked.
            now_ns: Nanoseconds since the Unix epoch.
            steady_ns: Nanoseconds of a clock that never goes back.
        """
        past = self.past
        fields = operation.__dict__  # four times as fast as attributes of a pydantic record
        name, arguments = fields["name"], fields["arguments"]
        past.observe(name, arguments, steady_ns)
        if table is None:
            past.traps.append(True)
            return _NO_TABLE
        matcher = table.matcher
        signals: tuple[str, ...] = ()
        may_fire = matcher.may_fire
        if (
            fields["hints"]
            or fields["labels"]
            or past.repeats >= may_fire.repeats
            or (past.new_shape and past.calls_of_tool >= may_fire.calls_of_tool)
            or not past.budget_used < may_fire.budget_used
            or (past.count_now >= may_fire.count_now and not past.burst() < may_fire.burst)
        ):  # else none of the signals fires: `MayFire` says of each from where on it can
            signals = raised(operation, past, table.signals)
        if self._learned is not None and self._learned.traps(operation, past):
            signals = (*signals, LEARNED)
        trapped = (
            bool(signals)
            or (matcher.model != "" and matcher.model != self.model)
            or not matcher.issued_ns <= now_ns < matcher.expires_ns
            or not matcher.passes(name, fields["kind"], arguments)
        )
        past.traps.append(trapped)
        return Judgement(OperationClass.PRIVILEGED, signals) if trapped else _PASSES


_PASSES = Judgement(OperationClass.INNOCUOUS)
_NO_TABLE = Judgement(OperationClass.PRIVILEGED)
