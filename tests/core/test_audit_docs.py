"""docs/audit.md says what `fmos audit` does: its commands run, and print what it says."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

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
from fmos_cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
WHO = Principal(agent="ada", session="monday")
#: What is another one in each run.
VOLATILE = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>"),
    (r"\b[0-9a-f]{32,64}\b", "<hash>"),
    (r"time \d{19}", "time <ns>"),
    (r"[A-Za-z0-9+/]{40,}=*", "<base64>"),
]


def _plain(text: str) -> str:
    for pattern, name in VOLATILE:
        text = re.sub(pattern, name, text)
    return text


def _commands() -> Iterator[tuple[str, str]]:
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = part.partition("\n")
            yield line, printed


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
    kept, bad, run = "", False, 0
    for line, printed in _commands():
        words = shlex.split(line)
        target = words[words.index(">") + 1] if ">" in words else ""
        words = words[: words.index(">")] if target else words
        if printed.startswith("BAD"):
            bad = True
            _change_row(6, "deny", "allow")
        elif bad:
            bad = False
            _change_row(6, "allow", "deny")
        done = CliRunner().invoke(app, ["--home", ".", *words[1:]])
        if target:
            Path(target).write_text(done.output, encoding="utf-8")
        assert _plain("" if target else done.output) == _plain(printed), line
        assert done.exit_code == (20 if bad else 0), line
        if "--print" in words:
            kept = done.output
            Path("kept").write_text(kept, encoding="utf-8")
        run += 1
    assert run == 11
    assert kept
    assert os.path.exists("journal.jsonl.zst")


def test_the_page_names_every_setting() -> None:
    """The TOML block loads, with a line for each setting and its default."""
    block = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0]
    told = tomllib.loads(block)["audit"]
    assert set(told) == set(AuditSettings.model_fields)
    plain = AuditSettings()
    assert told["checkpoint_rows"] == plain.checkpoint_rows
    assert told["checkpoint_seconds"] == plain.checkpoint_seconds
