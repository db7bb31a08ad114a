"""A row is one transaction, whoever else writes: none is lost, and the chain stays whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentfs import AgentFS, BranchNotFound, InvalidArgument
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

WHO = Principal(agent="ada", session="s1")

_WRITE = """
import sys
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

with Kernel.open(sys.argv[1]) as kernel:
    who = Principal(agent=sys.argv[2], session="s1")
    number = 0
    while number < int(sys.argv[3]):
        seq = kernel.record(who, "op.intent", {"id": f"{who.agent}{number}", "text": "x" * 300})
        print(seq, f"{who.agent}{number}", flush=True)
        number += 1
"""


def _writer(home: Path, agent: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WRITE, str(home), agent, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_row_that_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Every number that came back before the kill has its row, and the chain holds."""
    writer = _writer(tmp_path, "ada", 1_000_000)
    assert writer.stdout is not None
    told = [writer.stdout.readline().split() for _ in range(200)]
    os.kill(writer.pid, signal.SIGKILL)
    told += [line.split() for line in writer.stdout.read().splitlines()[:-1]]
    writer.wait(timeout=30)
    with Kernel.open(tmp_path) as kernel:
        volume = kernel.volume("default")
        rows = {row.seq: row.detail["id"] for row in volume.journal(operation="op.intent")}
        assert len(told) >= 200
        assert all(rows[int(seq)] == name for seq, name in told)
        assert volume.verify_journal().ok


def test_processes_and_threads_that_write_together_keep_the_chain(tmp_path: Path) -> None:
    """Each row is there once, under the number that its writer was told."""
    with Kernel.open(tmp_path) as kernel:
        kernel.record(WHO, "op.intent", {"id": "first"})
        writers = [_writer(tmp_path, name, 150) for name in ("bob", "eve")]
        told: dict[int, str] = {}

        def record(name: str) -> None:
            for number in range(150):
                seq = kernel.record(WHO, "op.intent", {"id": f"{name}{number}"})
                told[seq] = f"{name}{number}"

        threads = [threading.Thread(target=record, args=(name,)) for name in ("t", "u")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for writer in writers:
            lines = writer.communicate(timeout=60)[0].splitlines()
            told |= {int(line.split()[0]): line.split()[1] for line in lines}
        volume = kernel.volume("default")
        rows = {row.seq: row.detail["id"] for row in volume.journal(operation="op.intent")}
        assert len(told) == 600
        assert told.items() <= rows.items()
        check = volume.verify_journal()
        assert check.ok
        assert kernel.record(WHO, "op.intent", {"id": "last"}) == check.rows + 1


def test_a_row_follows_whatever_another_handle_did(tmp_path: Path) -> None:
    """Writes, forks and rows let go by another connection are seen before the next row."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as one, AgentFS.open(path) as other:
        one.record("x.first", {})
        other.record("x.second", {})
        assert one.record("x.third", {}) == 3
        other.write("/f", "x")
        assert one.record("x.fifth", {}) == 5
        other.gc(0)  # its own row is the sixth, and all before it are gone
        assert one.record("x.seventh", {}) == 7
        assert one.verify_journal().ok
        branch = one.fork("b")
        branch.record("x.y", {})
        other.delete_branch("b")
        with pytest.raises(BranchNotFound):
            branch.record("x.y", {})
        assert one.verify_journal().ok


def test_rows_of_a_transaction_come_and_go_with_it(tmp_path: Path) -> None:
    """Inside a transaction rows are a part of it, savepoints included."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.record("x.kept", {})
        with pytest.raises(ValueError, match="enough"), fs.transaction():
            fs.record("x.gone", {})
            fs.write("/f", "x")
            raise ValueError("enough")
        with fs.transaction():
            fs.record("x.kept", {})
            with pytest.raises(ValueError, match="inner"), fs.transaction():
                fs.record("x.gone", {})
                raise ValueError("inner")
            fs.record("x.kept", {})
        fs.record("x.kept", {})
        rows = [(row.seq, row.operation) for row in fs.journal()]
        assert rows == [(number, "x.kept") for number in range(1, 5)]
        assert fs.verify_journal().ok


def test_a_row_that_cannot_be_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """Names of this library's own events, and details that are no JSON, in every way to write."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.record("x.y", {})
        for event, detail in [("plain", {}), ("gc.journal", {}), ("x.y", {"a": object()})]:
            with pytest.raises(InvalidArgument):
                fs.record(event, detail)
            with pytest.raises(InvalidArgument), fs.transaction():
                fs.record(event, detail)
        assert fs.record("x.y", {}) == 2
        assert json.dumps([row.detail for row in fs.journal()]) == "[{}, {}]"


def test_a_quota_binds_the_rows_of_a_transaction(tmp_path: Path) -> None:
    """A branch with a quota takes events beside writes, alone and in a transaction."""
    with AgentFS.open(tmp_path / "a.afs", system=True) as fs:
        fs.set_quota(bytes=100)
        fs.record("x.y", {})
        with fs.transaction():
            fs.write("/f", "x" * 50)
            fs.record("x.y", {})
        assert fs.verify_journal().rows == 4
