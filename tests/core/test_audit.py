"""Audit keys, and the intent and outcome rows of the journal."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fmos.audit.keys import AuditKeys, verify_signature
from fmos.audit.record import INTENT, OUTCOME, record_intent, record_outcome, verify
from fmos.errors import HomeError
from fmos.runtime.kernel import Kernel
from fmos.types import (
    Decision,
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Principal,
    Reason,
    Verdict,
)

_PRINT_KEYS = """
import sys
from pathlib import Path
from fmos.audit.keys import AuditKeys

print("ready", flush=True)
sys.stdin.readline()
keys = AuditKeys(Path(sys.argv[1]))
print(keys.public_key, keys.digest(b"x"), flush=True)
"""


def _operation(**arguments: object) -> Operation:
    return Operation(
        kind=OperationKind.TOOL_CALL,
        name="write_file",
        arguments=arguments,
        principal=Principal(agent="writer", session="s1"),
    )


def test_a_signature_holds_for_exactly_its_bytes(tmp_path: Path) -> None:
    """Other bytes, another key and malformed signatures do not verify."""
    keys = AuditKeys(tmp_path)
    signature = keys.sign(b"table")
    assert keys.verify(b"table", signature)
    assert AuditKeys(tmp_path).verify(b"table", signature)
    assert not keys.verify(b"tables", signature)
    assert not keys.verify(b"table", "no base64!")
    assert not verify_signature("short", b"table", signature)
    (tmp_path / "other").mkdir()
    assert not AuditKeys(tmp_path / "other").verify(b"table", signature)


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    """Both files are made 0600, with no draft left; one that others can read is refused."""
    keys = AuditKeys(tmp_path)
    assert keys.digest(b"x") != keys.digest(b"y")
    assert keys.public_key
    assert {(p.name, p.stat().st_mode & 0o777) for p in tmp_path.iterdir()} == {
        ("audit.pem", 0o600),
        ("digest.key", 0o600),
    }
    (tmp_path / "audit.pem").chmod(0o644)
    with pytest.raises(HomeError, match="can be read by others; run `chmod 600"):
        AuditKeys(tmp_path).sign(b"x")


def test_processes_that_start_together_agree_on_the_keys(tmp_path: Path) -> None:
    """Four processes race to make the keys and all use the same."""
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", _PRINT_KEYS, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    assert len({starter.communicate(timeout=30)[0] for starter in starters}) == 1


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    """A key file that is no key is an error with its path, never replaced silently."""
    path = tmp_path / "audit.pem"
    path.write_bytes(b"junk")
    path.chmod(0o600)
    with pytest.raises(HomeError, match=r"audit.pem' is not a private key"):
        AuditKeys(tmp_path).sign(b"x")
    assert path.read_bytes() == b"junk"


def test_intent_and_outcome_share_the_operation_id(kernel: Kernel) -> None:
    """Both rows are found by the id, with the decision, its reasons and how it ended."""
    operation = _operation(path="/a")
    verdict = Verdict(
        operation=operation.id,
        decision=Decision.DENY,
        reasons=(Reason(code="path.scope", message="no"),),
        policy="p1",
    )
    outcome = Outcome(operation=operation.id, status=OutcomeStatus.OK, usage={"tokens": 3})
    first = record_intent(kernel, operation, verdict)
    second = record_outcome(kernel, operation.principal, outcome)
    rows = [row for row in kernel.volume("default").journal() if row.operation.startswith("op.")]
    assert [(row.seq, row.operation) for row in rows] == [(first, INTENT), (second, OUTCOME)]
    assert {row.detail["id"] for row in rows} == {operation.id}
    assert rows[0].detail["decision"] == "deny"
    assert rows[0].detail["reasons"] == ["path.scope"]
    assert rows[0].principal == "default/-/writer/s1"
    assert rows[1].detail["usage"] == {"tokens": 3}


def test_the_journal_keeps_no_argument_and_no_error_text(kernel: Kernel) -> None:
    """What is kept for ever holds digests, and the kind of the error only."""
    operation = _operation(body="sk-very-secret")
    record_intent(kernel, operation, Verdict(operation=operation.id, decision=Decision.ALLOW))
    failed = Outcome(
        operation=operation.id,
        status=OutcomeStatus.FAILED,
        error="ValueError: cannot send sk-very-secret",
    )
    record_outcome(kernel, operation.principal, failed)
    rows = [row for row in kernel.volume("default").journal() if row.operation.startswith("op.")]
    assert "sk-very-secret" not in repr(rows)
    assert rows[1].detail["error"] == "ValueError"


def test_a_changed_row_is_found(kernel: Kernel) -> None:
    """The chain is whole until a row of the volume file is edited, and then names that row."""
    operation = _operation(path="/a")
    seq = record_intent(kernel, operation, Verdict(operation=operation.id, decision=Decision.DENY))
    before = verify(kernel, "default")
    assert before["ok"]
    assert before["first_bad"] is None
    with sqlite3.connect(kernel.home.volume("default")) as raw:
        raw.execute(
            "UPDATE journal SET detail = replace(detail, 'deny', 'allow') WHERE seq = ?", (seq,)
        )
    raw.close()
    after = verify(kernel, "default")
    assert (after["ok"], after["first_bad"]) == (False, seq)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("hunter2", ""),
        ("hunter2: no", ""),
        ("ValueError: no", "ValueError"),
        ("httpx.ConnectTimeout", "httpx.ConnectTimeout"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("Cancelled", "Cancelled"),
    ],
)
def test_only_the_name_of_an_error_is_kept(kernel: Kernel, said: str, kept: str) -> None:
    """A word that is no error's name is not kept: it may be a password."""
    outcome = Outcome(operation="o", status=OutcomeStatus.FAILED, error=said)
    record_outcome(kernel, Principal(agent="writer"), outcome)
    [row] = kernel.volume("default").journal(operation="op.outcome")
    assert row.detail["error"] == kept


def test_a_secret_in_a_name_or_label_is_not_kept(kernel: Kernel) -> None:
    """A model may call a tool by any name, also by a key that it has seen."""
    key, writer = "AKIA" + "Q3EXMPLKWZRT7VYU", Principal(agent="writer")
    operation = Operation(
        kind=OperationKind.TOOL_CALL, name=key, labels=(f"to:{key}", "risky"), principal=writer
    )
    record_intent(kernel, operation, Verdict(operation=operation.id, decision=Decision.DENY))
    [row] = kernel.volume("default").journal(operation="op.intent")
    assert row.detail["name"] == "<aws-access-key>"
    assert row.detail["labels"] == ["to:<aws-access-key>", "risky"]
