"""The doctor on unfinished work: what was left, what waits for a person, and what is served."""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from fmos.audit.record import record_intent
from fmos.care.checks_work import CHECKS
from fmos.care.doctor import Patient, Report, examine
from fmos.contract.parse import load_as
from fmos.contract.workflow import Workflow
from fmos.runtime.kernel import Kernel
from fmos.steps.reconcile import Reconciled, look, reconcile
from fmos.types import Decision, Operation, OperationKind, Principal, Verdict
from fmos.versions.model import artefact_path
from fmos.versions.versions import Versions
from fmos.workflow.runner import Runner

WHO = Principal(agent="worker", session="s1")
ASKS = """
workflow: asks
steps:
  - { id: ok, type: HITL_approval }
"""


def _look(home: Path, *, fix: bool = False) -> Report:
    return examine(Patient(home=home), CHECKS, fix=fix)


def _said(report: Report) -> list[tuple[str, str, str]]:
    return [
        (each.check, each.severity, each.problem)
        for each in report.findings
        if each.severity != "ok"
    ]


def _left(home: Path) -> None:
    """Reserve and ask for something in a process that ends without closing anything."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            kernel = Kernel.open(home)
            held = kernel.reserve(WHO, {"tokens": 9}, operation="o1").id
            asked = Operation(id="o1", kind=OperationKind.MODEL_GENERATE, name="m", principal=WHO)
            verdict = Verdict(operation="o1", decision=Decision.ALLOW, reservation=held)
            record_intent(kernel, asked, verdict)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def _state(home: Path) -> dict[str, str]:
    return {
        str(path): sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.endswith("-shm")
    }


def test_nothing_left_is_fine(tmp_path: Path) -> None:
    """A home whose work is done has three checks that are ok."""
    with Kernel.open(tmp_path) as kernel:
        kernel.agent_fs(WHO)
    report = _look(tmp_path)
    assert [(each.check, each.severity) for each in report.findings] == [
        ("reconciliation", "ok"), ("workflows", "ok"), ("artefacts", "ok"),
    ]  # fmt: skip
    assert not report.unchecked


def test_what_a_killed_process_left_is_said_and_settled_when_asked_for(tmp_path: Path) -> None:
    """Looking changes no byte; --fix does what the next daemon would, and once."""
    Kernel.open(tmp_path).close()
    _left(tmp_path)
    _look(tmp_path)  # SQLite takes in the log that the killed process left
    before = _state(tmp_path)
    report = _look(tmp_path)
    assert _said(report) == [
        ("reconciliation", "note", "processes that ended left this: 1 operation has no outcome,"
         " 1 reservation is out of time"),
    ]  # fmt: skip
    assert "fmos doctor --fix" in report.findings[0].remedy
    assert report.exit_code == 0
    assert _state(tmp_path) == before
    (mended,) = [each for each in _look(tmp_path, fix=True).findings if each.done]
    assert mended.done == "2 things noted and settled"
    assert _said(_look(tmp_path)) == []
    with Kernel.open(tmp_path) as kernel:
        rows = list(kernel.volume("default").journal(operation="op.outcome"))
        assert [row.detail["status"] for row in rows] == ["unknown"]


def test_the_look_says_what_reconcile_then_does(tmp_path: Path) -> None:
    """Both count the same, and a kernel that could change something is not looked with."""
    Kernel.open(tmp_path).close()
    _left(tmp_path)
    with Kernel.look(tmp_path) as kernel:
        seen = look(kernel)
    with Kernel.open(tmp_path) as kernel:
        with pytest.raises(ValueError, match="not looking"):
            look(kernel)
        assert reconcile(kernel) == seen == Reconciled(unknown=1, expired=1)
    with Kernel.look(tmp_path) as kernel:
        assert look(kernel) == Reconciled()


def test_a_step_that_waits_is_listed_with_its_answer(tmp_path: Path) -> None:
    """A person reads which run waits, for what, and the command that answers."""
    with Kernel.open(tmp_path) as kernel:
        Runner(kernel).start(load_as(Workflow, ASKS), run="r1")
    (found,) = [each for each in _look(tmp_path).findings if each.check == "workflows"]
    assert (found.severity, found.thing) == ("note", "the run 'r1' of tenant 'default'")
    assert "step 'ok' has waited for a person's approval since 2" in found.problem
    assert "`fmos workflow answer r1 ok --approve | --deny`" in found.remedy
    with Kernel.open(tmp_path) as kernel:
        runner = Runner(kernel)
        runner.answer("r1", "ok", True, by="user:ada")
        assert runner.resume("r1").state == "done"
    assert _said(_look(tmp_path)) == []


def test_an_artefact_that_was_changed_is_an_error(tmp_path: Path) -> None:
    """What is not the accepted version is named with the way back."""
    with Kernel.open(tmp_path) as kernel:
        versions = Versions(kernel)
        made = versions.propose("default", "prompt", "system", b"one", author="user:ada", why="x")
        versions.accept(made, by="user:bob", override="first")
    assert _said(_look(tmp_path)) == []
    with Kernel.open(tmp_path) as kernel:
        kernel.volume("default").write(artefact_path("prompt", "system"), b"evil")
    report = _look(tmp_path)
    (found,) = [each for each in report.findings if each.check == "artefacts"]
    assert (found.severity, report.exit_code) == ("error", 1)
    assert "is not the accepted version" in found.problem
    assert "fmos versions rollback" in found.remedy


def test_a_broken_home_is_left_to_the_checks_of_its_parts(tmp_path: Path) -> None:
    """No check of work fails or invents something where kernel.db cannot be read."""
    Kernel.open(tmp_path).close()
    (tmp_path / "kernel.db").write_bytes(b"no database at all" * 100)
    report = _look(tmp_path)
    assert (report.findings, report.unchecked) == ((), ())
