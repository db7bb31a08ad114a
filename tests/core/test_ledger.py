"""The ledger: limits on a path of accounts, reservations, and what happens to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fmos.clock import FixedClock
from fmos.errors import ArgumentError, BudgetExceededError, NotFoundError
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database

ACCOUNT = "t/app/agent/session"

# Waits for a line on stdin, so that all processes begin together; counts what it was given.
_SPENDER = """
import sys
from pathlib import Path
from fmos.clock import SystemClock
from fmos.errors import BudgetExceededError
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database

ledger = Ledger(Database(Path(sys.argv[1])), SystemClock())
print("ready", flush=True)
sys.stdin.readline()
granted = 0
for turn in range(40):
    try:
        made = ledger.reserve(
            f"t/app/agent/{sys.argv[2]}", {"tokens": 7}, operation=f"{sys.argv[2]}-{turn}"
        )
    except BudgetExceededError:
        continue
    granted += 1
    if turn % 2:
        ledger.commit(made.id)
print(granted, flush=True)
"""

_VICTIM = """
import sys
from pathlib import Path
from fmos.clock import FixedClock
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database

ledger = Ledger(Database(Path(sys.argv[1])), FixedClock())
made = ledger.reserve("t/app/agent/session", {"tokens": 60}, operation="op", ttl_s=900)
print(made.id, flush=True)
sys.stdin.readline()
"""


def _ledger(tmp_path: Path, clock: FixedClock | None = None) -> Ledger:
    return Ledger(Database(tmp_path / "kernel.db"), clock or FixedClock())


def _start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _balance(ledger: Ledger, account: str, resource: str = "tokens") -> tuple[int, int, int | None]:
    found = next(
        row for row in ledger.status(account) if row.account == account and row.resource == resource
    )
    return found.reserved, found.spent, found.left


def test_processes_that_reserve_at_once_never_overspend_a_shared_limit(tmp_path: Path) -> None:
    """Four processes want 1120 tokens of 500 and get 71 reservations of 7 between them."""
    ledger = _ledger(tmp_path)
    ledger.set_limit("t/app/agent", "tokens", 500)
    path = str(tmp_path / "kernel.db")
    spenders = [_start(_SPENDER, path, f"s{number}") for number in range(4)]
    assert [_line(spender) for spender in spenders] == ["ready"] * 4
    for spender in spenders:
        _tell(spender)
    granted = [int(_line(spender)) for spender in spenders]
    assert [spender.wait(timeout=30) for spender in spenders] == [0] * 4
    assert sum(granted) == 500 // 7
    reserved, spent, left = _balance(ledger, "t/app/agent")
    assert (reserved + spent, left) == (497, 3)


def test_processes_that_open_a_new_ledger_at_once_all_succeed(tmp_path: Path) -> None:
    """The first four processes of a home race to make its tables, and none fails."""
    path = str(tmp_path / "kernel.db")
    spenders = [_start(_SPENDER, path, f"s{number}") for number in range(4)]
    assert [_line(spender) for spender in spenders] == ["ready"] * 4
    for spender in spenders:
        spender.communicate("go\n", timeout=60)
        assert spender.returncode == 0


def test_a_killed_process_gets_its_reservation_expired(tmp_path: Path) -> None:
    """What a process reserved before kill -9 is held until its time is up, then given back."""
    clock = FixedClock()
    ledger = _ledger(tmp_path, clock)
    ledger.set_limit("t/app/agent", "tokens", 100)
    victim = _start(_VICTIM, str(tmp_path / "kernel.db"))
    made = _line(victim)
    victim.kill()
    assert victim.wait(timeout=30) == -9
    assert ledger.expire() == 0
    assert _balance(ledger, "t/app/agent") == (60, 0, 40)
    clock.advance(901)
    assert ledger.expire() == 1
    assert _balance(ledger, "t/app/agent") == (0, 0, 100)
    ledger.commit(made, {"tokens": 5})
    assert _balance(ledger, "t/app/agent") == (0, 5, 95)


def test_a_limit_on_any_account_of_the_path_holds(tmp_path: Path) -> None:
    """The error names the account that is short, what is left and what was asked."""
    ledger = _ledger(tmp_path)
    ledger.set_limit(ACCOUNT, "tokens", 1000)
    ledger.set_limit("t/app", "tokens", 10)
    with pytest.raises(BudgetExceededError, match="'t/app' has 10 of 10 tokens left, and 11") as e:
        ledger.reserve(ACCOUNT, {"tool_calls": 1, "tokens": 11}, operation="op")
    assert (e.value.account, e.value.resource, e.value.asked, e.value.left) == (
        "t/app",
        "tokens",
        11,
        10,
    )
    assert all(row.reserved == 0 for row in ledger.status(ACCOUNT))


def test_reserving_twice_for_one_operation_reserves_once(tmp_path: Path) -> None:
    """A caller that lost the answer may ask again, also after the commit."""
    ledger = _ledger(tmp_path)
    first = ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op")
    assert ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op") == first
    assert _balance(ledger, ACCOUNT) == (10, 0, None)
    ledger.commit(first.id)
    assert ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op") == first
    assert _balance(ledger, ACCOUNT) == (0, 10, None)


def test_one_operation_id_in_two_accounts_is_two_reservations(tmp_path: Path) -> None:
    """A tenant that guesses another's operation id gets nothing by it."""
    ledger = _ledger(tmp_path)
    first = ledger.reserve("a/x", {"tokens": 1}, operation="op")
    assert ledger.reserve("b/x", {"tokens": 1}, operation="op").id != first.id


def test_a_refunded_operation_has_to_fit_again(tmp_path: Path) -> None:
    """A retry after a refund is checked against the limit like any other."""
    ledger = _ledger(tmp_path)
    ledger.set_limit(ACCOUNT, "tokens", 10)
    made = ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op")
    ledger.refund(made.id)
    ledger.reserve(ACCOUNT, {"tokens": 5}, operation="other")
    with pytest.raises(BudgetExceededError):
        ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op")
    assert ledger.reserve(ACCOUNT, {"tokens": 4}, operation="op").amounts == {"tokens": 4}
    assert _balance(ledger, ACCOUNT) == (9, 0, 1)


def test_usage_above_the_reservation_is_recorded_in_full(tmp_path: Path) -> None:
    """What happened is spent even past the limit, and nothing more is granted."""
    ledger = _ledger(tmp_path)
    ledger.set_limit(ACCOUNT, "tokens", 10)
    made = ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op")
    ledger.commit(made.id, {"tokens": 25, "currency": 3})
    assert _balance(ledger, ACCOUNT) == (0, 25, 0)
    assert _balance(ledger, "t", "currency") == (0, 3, None)
    with pytest.raises(BudgetExceededError, match="has 0 of 10"):
        ledger.reserve(ACCOUNT, {"tokens": 1}, operation="next")


def test_commit_and_refund_may_be_repeated_but_not_contradicted(tmp_path: Path) -> None:
    """The second commit changes nothing; a refund of spending is refused."""
    ledger = _ledger(tmp_path)
    spent = ledger.reserve(ACCOUNT, {"tokens": 5}, operation="a")
    ledger.commit(spent.id, {"tokens": 4})
    ledger.commit(spent.id, {"tokens": 9})
    returned = ledger.reserve(ACCOUNT, {"tokens": 5}, operation="b")
    ledger.refund(returned.id)
    ledger.refund(returned.id)
    assert _balance(ledger, ACCOUNT) == (0, 4, None)
    with pytest.raises(ArgumentError, match="committed and cannot be refunded"):
        ledger.refund(spent.id)
    with pytest.raises(ArgumentError, match="refunded and cannot be committed"):
        ledger.commit(returned.id)


def test_an_expired_reservation_makes_room_for_the_next(tmp_path: Path) -> None:
    """Reserving gives back what is due first, without waiting for a background job."""
    clock = FixedClock()
    ledger = _ledger(tmp_path, clock)
    ledger.set_limit(ACCOUNT, "risk", 1)
    ledger.reserve(ACCOUNT, {"risk": 1}, operation="a", ttl_s=10)
    clock.advance(10)
    ledger.reserve(ACCOUNT, {"risk": 1}, operation="b")
    assert _balance(ledger, ACCOUNT, "risk") == (1, 0, 0)


def test_a_removed_limit_limits_no_more(tmp_path: Path) -> None:
    """A limit of None lets the account reserve again; the totals stay."""
    ledger = _ledger(tmp_path)
    ledger.set_limit("t", "tokens", 0)
    with pytest.raises(BudgetExceededError):
        ledger.reserve(ACCOUNT, {"tokens": 1}, operation="op")
    ledger.set_limit("t", "tokens", None)
    ledger.reserve(ACCOUNT, {"tokens": 1}, operation="op")
    assert [row.account for row in ledger.status(ACCOUNT)] == [
        "t",
        "t/app",
        "t/app/agent",
        ACCOUNT,
    ]


@pytest.mark.parametrize("method", ["commit", "refund"])
def test_an_unknown_reservation_is_named(tmp_path: Path, method: str) -> None:
    """Closing what was never reserved is an error that names the id."""
    with pytest.raises(NotFoundError, match="there is no reservation 'nope'"):
        getattr(_ledger(tmp_path), method)("nope")


@pytest.mark.parametrize(
    ("account", "amounts", "message"),
    [
        (ACCOUNT, {"token": 1}, "no resource 'token'; did you mean 'tokens'"),
        (ACCOUNT, {"tokens": -1}, "-1 cannot be an amount of tokens"),
        (ACCOUNT, {"tokens": True}, "True cannot be an amount"),
        (ACCOUNT, {"tokens": 10**19}, "cannot be an amount"),
        ("t//x", {"tokens": 1}, "'t//x' cannot be an account"),
        ("", {"tokens": 1}, "'' cannot be an account"),
    ],
)
def test_what_cannot_be_accounted_for_is_refused(
    tmp_path: Path, account: str, amounts: dict[str, int], message: str
) -> None:
    """Unknown resources, bad amounts and broken paths are named and leave nothing behind."""
    ledger = _ledger(tmp_path)
    with pytest.raises(ArgumentError, match=message):
        ledger.reserve(account, amounts, operation="op")
    assert ledger.status("t") == ()
