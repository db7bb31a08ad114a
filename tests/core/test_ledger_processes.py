"""The ledger under many real processes: none overspends, none is refused falsely, any may die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.core.ledger_books import differences

from fmos.clock import FixedClock, SystemClock
from fmos.ledger.accounts import account_of
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database

PROCESSES = 16
ATTEMPTS = 100_000 if os.environ.get("AGENTFS_SOAK") else 8_000
ACCOUNT = account_of("t", "app", "agent", "session")

# Waits for a line on stdin, so that all begin together. Each wants 7 tokens at a time, so that the
# limits, multiples of 7, can be used up to the last; some uses are refunded, some use less.
_SPENDER = """
import sys
from pathlib import Path
from fmos.clock import SystemClock
from fmos.errors import BudgetExceededError
from fmos.ledger.accounts import account_of
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database

path, me, attempts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
account = account_of("t", f"app{me % 4}", f"agent{me}")
ledger = Ledger(Database(Path(path)), SystemClock())
print("ready", flush=True)
sys.stdin.readline()
granted = refused = 0
for turn in range(attempts):
    try:
        made = ledger.reserve(account, {"tokens": 7}, operation=f"{me}-{turn}")
    except BudgetExceededError:
        refused += 1
        continue
    if turn % 5 == 0:
        ledger.refund(made)
    else:
        granted += 1
        ledger.commit(made)
print(granted, refused, flush=True)
"""

_HOLDER = """
import sys
from pathlib import Path
from fmos.clock import SystemClock
from fmos.ledger.accounts import Account
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database

ledger = Ledger(Database(Path(sys.argv[1])), SystemClock())
owner = None if sys.argv[3] == "remote" else "here"
made = ledger.reserve(Account(sys.argv[2]), {"tokens": 60}, operation="op", owner=owner)
print(made.id, flush=True)
sys.stdin.readline()
"""

# Forks a child for each statement; the child kills itself before it is run. The last line tells
# how many statements the operation has.
_KILLER = """
import os, signal, sys
from pathlib import Path
from fmos.clock import FixedClock
from fmos.ledger.accounts import Account
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database

path, account, what, at = Path(sys.argv[1]), Account(sys.argv[2]), sys.argv[3], int(sys.argv[4])
clock = FixedClock()
database = Database(path)
ledger = Ledger(database, clock)
done = 0

def count(*_):
    global done
    done += 1
    if done == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return True

kept = ledger.reserve(account, {"tokens": 10, "currency": 2}, operation=f"{what}-{at}", ttl_s=5)
clock.advance(10 if what == "expire" else 1)
database._connection().exec_trace = count
if what == "reserve":
    ledger.reserve(account, {"tokens": 3, "tool_calls": 1}, operation=f"new-{at}", ttl_s=5)
elif what == "commit":
    ledger.commit(kept, {"tokens": 25, "currency": 1})
elif what == "refund":
    ledger.refund(kept)
else:
    ledger.expire()
"""


def _start(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def _running(script: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    process = _start(script, *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_processes_use_every_limit_to_the_last_and_not_beyond(tmp_path: Path) -> None:
    """16 processes on a 3-level tree get exactly what its limits allow, at once and from new."""
    path, each = tmp_path / "kernel.db", ATTEMPTS // PROCESSES
    ledger = Ledger(Database(path), SystemClock())
    tenant = account_of("t")
    limit = 7 * (ATTEMPTS // 3)
    ledger.set_limit(tenant, "tokens", limit)
    for number in range(2):  # these two applications are short before the tenant is
        ledger.set_limit(account_of("t", f"app{number}"), "tokens", 7 * (each // 2))
    spenders = [_start(_SPENDER, path, str(n), str(each)) for n in range(PROCESSES)]
    assert [_line(spender) for spender in spenders] == ["ready"] * PROCESSES
    for spender in spenders:
        _tell(spender)
    counts = [tuple(map(int, _line(spender).split())) for spender in spenders]
    assert [spender.wait(timeout=60) for spender in spenders] == [0] * PROCESSES
    balances = {row.account: row for row in ledger.status(tenant)}
    assert differences(Database(path)) == []
    assert balances[tenant].reserved == 0
    granted = sum(count for count, _ in counts)
    assert balances[tenant].spent == 7 * granted == limit
    for number in range(2):
        [row] = [
            row
            for row in ledger.status(account_of("t", f"app{number}"))
            if row.account == account_of("t", f"app{number}")
        ]
        assert (row.spent, row.left) == (7 * (each // 2), 0)


@pytest.mark.parametrize("what", ["reserve", "commit", "refund", "expire"])
def test_books_balance_after_a_kill_at_any_statement(tmp_path: Path, what: str) -> None:
    """Killed before its n-th statement, an operation has happened wholly or not at all."""
    path = tmp_path / "kernel.db"
    ledger = Ledger(Database(path), FixedClock())
    ledger.set_limit(ACCOUNT.path[1], "tokens", 10_000)
    ledger.set_limit(ACCOUNT, "tokens", 9_000, window="hour")
    killed = 0
    for statement in range(1, 60):
        done = _fork(path, what, statement)
        assert differences(Database(path)) == [], f"killed before statement {statement}"
        if done == 0:
            break
        assert done == -signal.SIGKILL
        killed += 1
    assert killed >= 5
    ledger.commit(ledger.reserve(ACCOUNT, {"tokens": 1}, operation="after"))
    assert differences(Database(path)) == []


def _fork(path: Path, what: str, statement: int) -> int:
    """Run the killer in a forked child, which opens the file itself, and return how it ended."""
    child = os.fork()
    if child == 0:  # pragma: no cover - the child
        code = 1
        try:
            sys.argv = ["killer", str(path), str(ACCOUNT), what, str(statement)]
            exec(compile(_KILLER, "killer", "exec"), {})
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_dead_owner_loses_what_it_held_before_its_time(tmp_path: Path) -> None:
    """What a killed process reserved for a quarter of an hour is free again within seconds."""
    database = Database(tmp_path / "kernel.db")
    ledger = Ledger(database, SystemClock())
    ledger.set_limit(ACCOUNT, "tokens", 100)
    with _running(_HOLDER, tmp_path / "kernel.db", ACCOUNT, "local") as holder:
        made = _line(holder)
        assert ledger.expire() == 0
        assert ledger.status(ACCOUNT)[-1].reserved == 60
    deadline = time.monotonic() + 5
    while ledger.status(ACCOUNT)[-1].reserved and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ledger.status(ACCOUNT)[-1].left == 100
    assert database.query("SELECT count(*) FROM owner") == [(0,)]
    ledger.commit(made, {"tokens": 5})  # it had called before it was killed
    assert ledger.status(ACCOUNT)[-1].spent == 5


def test_a_remote_callers_reservation_outlives_the_process_that_took_it(tmp_path: Path) -> None:
    """A daemon's restart frees nothing that its clients still use."""
    ledger = Ledger(Database(tmp_path / "kernel.db"), SystemClock())
    with _running(_HOLDER, tmp_path / "kernel.db", ACCOUNT, "remote") as holder:
        made = _line(holder)
    assert ledger.expire() == 0
    found = ledger.find(made)
    assert found is not None
    assert found.state == "open"


def test_processes_that_open_a_new_ledger_at_once_all_succeed(tmp_path: Path) -> None:
    """The first four processes of a home race to make its tables, and none fails."""
    spenders = [_start(_SPENDER, tmp_path / "kernel.db", str(n), "3") for n in range(4)]
    assert [_line(spender) for spender in spenders] == ["ready"] * 4
    for spender in spenders:
        out, _ = spender.communicate("go\n", timeout=60)
        assert json.loads(f"[{out.strip().replace(' ', ',')}]") == [2, 0]
        assert spender.returncode == 0
