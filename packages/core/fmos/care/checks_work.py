"""The doctor's checks of work: what killed processes left, what waits, and what is served.

All of it is looked at in a copy of kernel.db in memory, so that nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from agentfs.errors import AgentFSError
from fmos.care import files
from fmos.care.doctor import Check, Finding, Patient, counted, error, note, ok, warning
from fmos.care.examine import reading, tables_of
from fmos.care.upgrade import plan
from fmos.clock import utc_text
from fmos.errors import FmosError, HomeError
from fmos.runtime.kernel import Kernel

_SHOWN = 20
_IN_STATE = "SELECT count(*) FROM {} WHERE state = ?"
_UNSETTLED = (
    ("step", ("in_doubt", "steps are in doubt: nobody knows whether their effect happened",
              "look at each (`fmos workflow show RUN`) and say what happened")),
    ("saga", ("stuck", "runs could not be undone to the end",
              "look at each (`fmos workflow show RUN`) and undo by hand what is left")),
)  # fmt: skip
_SERVED = (
    "`fmos versions log` shows what was decided, and `fmos versions rollback` puts back what was"
    " accepted"
)


class _CannotLookError(Exception):
    """The home cannot be opened; the checks of its parts say why."""


@contextmanager
def _looking(patient: Patient) -> Iterator[Kernel]:
    try:
        kernel = Kernel.look(patient.home)
    except (FmosError, AgentFSError, apsw.Error) as failure:
        raise _CannotLookError from failure
    with kernel:
        yield kernel


def reconciliation(patient: Patient) -> Iterator[Finding]:
    """What is left between kernel.db and the volumes: steps in doubt, operations without an end."""
    where = str(patient.home)
    try:
        found = [*_unsettled(patient), *_left(patient)]
    except (_CannotLookError, apsw.Error):
        return
    yield from found or [ok(where, "nothing is left between kernel.db and the volumes")]


def _unsettled(patient: Patient) -> Iterator[Finding]:
    """Say what only a person can settle."""
    with reading(patient.home / files.KERNEL_DB) as connection:
        tables = tables_of(connection)
        for table, (state, problem, remedy) in _UNSETTLED:
            if table in tables:
                number = connection.execute(_IN_STATE.format(table), (state,)).get
                if number:
                    yield warning(str(patient.home), f"{number} {problem}", remedy)


def _left(patient: Patient) -> Iterator[Finding]:
    """Say what killed processes left that can be put right without asking anybody."""
    from fmos.steps.reconcile import look  # noqa: PLC0415 - only this check needs it

    with _looking(patient) as kernel:
        left = look(kernel)
    parts = (
        (left.unknown, "operation has", "operations have", "no outcome"),
        (left.settled, "reservation is", "reservations are", "held after the outcome"),
        (left.expired, "reservation is", "reservations are", "out of time"),
        (left.steps, "step was", "steps were", "begun and not ended"),
    )
    said = [f"{n} {one if n == 1 else many} {what}" for n, one, many, what in parts if n]
    if said:
        yield note(
            str(patient.home), f"processes that ended left this: {', '.join(said)}",
            "run `fmos doctor --fix`, or start `fmos serve`: both note and settle it",
        ).model_copy(update={"fix": lambda: _settle(patient)})  # fmt: skip


def _settle(patient: Patient) -> str:
    """Put right what killed processes left, in a home of this FMOS's version only."""
    from fmos.steps.reconcile import reconcile  # noqa: PLC0415 - only --fix needs it

    if plan(patient.home).steps:
        raise HomeError("the home is older than this FMOS", hint="run `fmos upgrade` first")
    with Kernel.open(patient.home) as kernel:
        return f"{counted(reconcile(kernel).total, 'thing')} noted and settled"


def workflows(patient: Patient) -> Iterator[Finding]:
    """Which steps of workflows wait for a person."""
    from fmos.workflow.views import Runs  # noqa: PLC0415 - only this check needs it

    try:
        with _looking(patient) as kernel:
            waiting = Runs(kernel).pending()
    except _CannotLookError:
        return
    for each in waiting[:_SHOWN]:
        words = "--approve | --deny" if each.kind in ("approval", "consent") else (
            "--happened | --not-happened"
        )  # fmt: skip
        yield note(
            f"the run {each.run!r} of tenant {each.tenant!r}",
            f"step {each.step!r} has waited for a person's {_WORD[each.kind]} since"
            f" {utc_text(each.asked_ns)} UTC",
            f"`fmos workflow show {each.run}` says what of; then `fmos workflow answer {each.run}"
            f" {each.step} {words}`",
        )  # fmt: skip
    if len(waiting) > _SHOWN:
        more = counted(len(waiting) - _SHOWN, "more step")
        yield note(str(patient.home), f"{more} waiting", "`fmos pending` lists all of them")
    if not waiting:
        yield ok(str(patient.home), "no step waits for a person")


_WORD = {
    "approval": "approval",
    "consent": "consent",
    "doubt": "word on whether it happened",
    "compensation": "help: it could not be undone",
}


def artefacts(patient: Patient) -> Iterator[Finding]:
    """Does every tenant serve what was accepted, byte for byte."""
    from fmos.versions.reading import VersionReader  # noqa: PLC0415 - only this check needs it

    number = 0
    try:
        with _looking(patient) as kernel:
            reader = VersionReader(kernel)
            for tenant in kernel.home.tenants():
                try:
                    problems = reader.problems(tenant)
                except (FmosError, AgentFSError):
                    continue  # volumes says so
                number += len(problems)
                for each in problems:
                    yield error(f"a version of tenant {tenant!r}", each, _SERVED)
    except _CannotLookError:
        return
    if not number:
        yield ok(str(patient.home), "what was accepted is what is served")


CHECKS = (
    Check("reconciliation", reconciliation, long=True),
    Check("workflows", workflows),
    Check("artefacts", artefacts, long=True),
)
