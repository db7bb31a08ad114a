"""docs/audit.md says what `fmos audit` does: its commands run, and print what it says."""

from __future__ import annotations

import os
import sqlite3
import tomllib
from pathlib import Path

import pytest
from tests.core.console_blocks import commands, run, steady, texts

from fmos.audit.record import record_intent, record_outcome
from fmos.runtime.kernel import Kernel
from fmos.settings import AuditSettings
from fmos.types import (
    Decision,
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Principal,
    Verdict,
)

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
WHO = Principal(agent="ada", session="monday")
#: What is another one in each run.
VOLATILE = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>"),
    (r"\b[0-9a-f]{32,64}\b", "<hash>"),
    (r"time \d{19}", "time <ns>"),
    (r"[A-Za-z0-9+/]{40,}=*", "<base64>"),
]


def _operation(kernel: Kernel, name: str, decision: Decision, status: OutcomeStatus) -> None:
    operation = Operation(kind=OperationKind.TOOL_CALL, name=name, principal=WHO)
    record_intent(kernel, operation, Verdict(operation=operation.id, decision=decision))
    record_outcome(kernel, WHO, Outcome(operation=operation.id, status=status))


def _change_row(seq: int, previous: str, wanted: str) -> None:
    with sqlite3.connect("tenants/default.afs") as raw:
        raw.execute(
            "UPDATE journal SET detail = replace(detail, ?, ?) WHERE seq = ?",
            (previous, wanted, seq),
        )
    raw.close()


def test_the_pages_commands_print_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command of the page, in its order, on a small home."""
    with Kernel.open(tmp_path) as kernel:
        for name in ("search", "search"):
            _operation(kernel, name, Decision.ALLOW, OutcomeStatus.OK)
        _operation(kernel, "send_mail", Decision.DENY, OutcomeStatus.DENIED)
    monkeypatch.chdir(tmp_path)
    kept, bad, ran = "", False, 0
    for line, printed in commands(PAGE):
        if printed.startswith("BAD"):
            bad = True
            _change_row(6, "deny", "allow")
        elif bad:
            bad = False
            _change_row(6, "allow", "deny")
        done = run(line, ".")
        assert steady(done.output, VOLATILE) == steady(printed, VOLATILE), line
        assert done.exit_code == (20 if bad else 0), line
        if "--print" in line:
            kept = done.output
            Path("kept").write_text(kept, encoding="utf-8")
        ran += 1
    assert ran == 11
    assert kept
    assert os.path.exists("journal.jsonl.zst")


def test_the_page_names_every_setting() -> None:
    """The TOML block loads, with a line for each setting and its default."""
    block = texts(PAGE, "toml")[0]
    told = tomllib.loads(block)["audit"]
    assert set(told) == set(AuditSettings.model_fields)
    plain = AuditSettings()
    assert told["checkpoint_rows"] == plain.checkpoint_rows
    assert told["checkpoint_seconds"] == plain.checkpoint_seconds
