"""The doctor: looks at a home and at the host around it, and says of each fault what to do.

A check yields findings. It changes nothing, has a time limit, and whatever happens in it is a
finding: a broken home never ends in a traceback. What is safe to put right (modes, a socket that a
killed daemon left) is put right only when asked for.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from fmos.errors import FmosError
from fmos.types import Record

Severity = Literal["ok", "note", "warning", "error"]

#: How long one check may take before the doctor goes on without it.
LIMIT_S = 20.0
#: The same for the checks that read whole volumes.
LONG_S = 120.0
_DEEP_S = 24 * 3600.0
_TELL_AFTER_S = 1.0


class Finding(Record):
    """What a check found about one thing; anything but `ok` says what to do about it."""

    severity: Severity
    thing: str
    problem: str
    remedy: str = ""
    check: str = ""
    done: str = Field(default="", description="what --fix did about it")
    fix: Callable[[], str] | None = Field(default=None, exclude=True, repr=False)


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at: a home, whose user, and the environment that the command was given."""

    home: Path
    user_home: Path = Path("/nonexistent")
    project: Path = Path("/nonexistent")
    environ: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    deep: bool = False
    progress: Callable[[str, int], None] = lambda _what, _done: None

    @property
    def is_there(self) -> bool:
        """Whether the home is a folder."""
        return self.home.is_dir()


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked at; `long` ones read whole files."""

    name: str
    run: Callable[[Patient], Iterable[Finding]]
    long: bool = False
    needs_home: bool = True

    def limit_s(self, deep: bool) -> float:
        """Return how long it may take."""
        if self.long:
            return _DEEP_S if deep else LONG_S
        return LIMIT_S


class Report(Record):
    """All findings, in the order of the checks; `unchecked` names the checks that did not end."""

    home: str
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...] = ()
    seconds: float = 0.0

    def count(self, severity: Severity) -> int:
        """Return how many findings are of a severity."""
        return sum(each.severity == severity for each in self.findings)

    @property
    def exit_code(self) -> int:
        """0: fine; 1: warnings or errors; 2: something could not be checked."""
        if self.unchecked:
            return 2
        return 1 if self.count("warning") or self.count("error") else 0


def examine(
    patient: Patient,
    checks: Sequence[Check],
    *,
    fix: bool = False,
    on_check: Callable[[str, float], None] | None = None,
) -> Report:
    """Run the checks one after the other; `on_check` hears of one that takes over a second."""
    began = time.monotonic()
    findings: list[Finding] = []
    unchecked: list[str] = []
    for check in checks:
        if check.needs_home and not patient.is_there:
            continue
        found, ended = _run(check, patient, on_check)
        if not ended:
            unchecked.append(check.name)
        findings += [_mended(each) if fix else each for each in found]
    return Report(
        home=str(patient.home), findings=tuple(findings), unchecked=tuple(unchecked),
        seconds=round(time.monotonic() - began, 3),
    )  # fmt: skip


def _run(
    check: Check, patient: Patient, on_check: Callable[[str, float], None] | None
) -> tuple[list[Finding], bool]:
    """Run one check on a thread of its own, which is left behind if it hangs."""
    found: list[Finding] = []
    failed: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            for each in check.run(patient):
                found.append(each.model_copy(update={"check": check.name}))  # noqa: PERF401 - kept as far as it came
        except BaseException as error:
            failed.put(error)
        else:
            failed.put(None)

    threading.Thread(target=work, daemon=True, name=f"doctor-{check.name}").start()
    limit_s, began = check.limit_s(patient.deep), time.monotonic()
    while True:
        spent = time.monotonic() - began
        with contextlib.suppress(queue.Empty):
            error = failed.get(timeout=min(_TELL_AFTER_S, max(0.01, limit_s - spent)))
            if error is None:
                return found, True
            return [*found, _unforeseen(check, error)], False
        if time.monotonic() - began >= limit_s:
            return [*found, _too_long(check, limit_s)], False
        if on_check is not None:
            on_check(check.name, time.monotonic() - began)


def _mended(finding: Finding) -> Finding:
    if finding.fix is None:
        return finding
    try:
        return finding.model_copy(update={"done": finding.fix(), "severity": "note", "fix": None})
    except (OSError, FmosError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return finding.model_copy(update={"remedy": f"{finding.remedy} ({why})"})


def _unforeseen(check: Check, error: BaseException) -> Finding:
    return Finding(
        severity="error", thing=check.name, check=check.name,
        problem=f"it could not be checked: {type(error).__name__}: {error}",
        remedy="look at the other findings first; if it stays, report it as a fault of fmos",
    )  # fmt: skip


def _too_long(check: Check, limit_s: float) -> Finding:
    return Finding(
        severity="error", thing=check.name, check=check.name,
        problem=f"it did not end within {limit_s:.0f} s",
        remedy="look for a disk or network file system that does not answer; --deep waits longer",
    )  # fmt: skip


def ok(thing: str, said: str) -> Finding:
    """Return the finding that a thing is as it should be."""
    return Finding(severity="ok", thing=thing, problem=said)


def error(thing: str, problem: str, remedy: str, fix: Callable[[], str] | None = None) -> Finding:
    """Return a finding that stops something."""
    return Finding(severity="error", thing=thing, problem=problem, remedy=remedy, fix=fix)


def warning(thing: str, problem: str, remedy: str, fix: Callable[[], str] | None = None) -> Finding:
    """Return a finding that will or may stop something."""
    return Finding(severity="warning", thing=thing, problem=problem, remedy=remedy, fix=fix)


def note(thing: str, problem: str, remedy: str = "") -> Finding:
    """Return something worth knowing that is no fault."""
    return Finding(severity="note", thing=thing, problem=problem, remedy=remedy)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
