"""Limits of a minute, hour, day and month, and the alerts on the way to any limit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmos.clock import FixedClock
from fmos.errors import ArgumentError, BudgetExceededError
from fmos.ledger.accounts import account_of
from fmos.ledger.ledger import Ledger
from fmos.ledger.windows import WINDOWS, Window, end_of, start_of
from fmos.storage.database import Database

ACCOUNT = account_of("t", "a", "x", "s")
AGENT = ACCOUNT.path[3]
_NS = 10**9


def _at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * _NS


def _ledger(tmp_path: Path, time: str) -> tuple[Ledger, FixedClock]:
    clock = FixedClock(_at(time))
    return Ledger(Database(tmp_path / "kernel.db"), clock), clock


def _left(ledger: Ledger, window: Window) -> int | None:
    [row] = [row for row in ledger.status(AGENT) if row.account == AGENT and row.window == window]
    return row.left


@given(st.sampled_from(WINDOWS[1:]), st.integers(0, 4 * 10**9))
def test_windows_follow_each_other_without_a_gap(window: Window, second: int) -> None:
    """Each moment is in one window, which ends where the next one begins."""
    start = start_of(window, second * _NS)
    end = end_of(window, start)
    assert end is not None
    assert start <= second * _NS < end
    assert start_of(window, end) == end
    assert start_of(window, end - 1) == start


def test_windows_are_those_of_the_calendar() -> None:
    """Minutes, hours and days are full ones of UTC; a month has its own length."""
    moment = _at("2028-02-29T13:14:15")
    assert [start_of(window, moment) for window in WINDOWS] == [
        0,
        _at("2028-02-29T13:14:00"),
        _at("2028-02-29T13:00:00"),
        _at("2028-02-29T00:00:00"),
        _at("2028-02-01T00:00:00"),
    ]
    assert end_of("month", _at("2027-12-01T00:00:00")) == _at("2028-01-01T00:00:00")


@pytest.mark.parametrize(
    ("window", "before", "after_s"),
    [
        ("minute", "2027-01-01T10:00:59", 1),
        ("hour", "2027-01-01T10:59:59", 1),
        ("day", "2027-01-01T23:59:59", 1),
        ("month", "2027-01-31T23:59:59", 1),
    ],
)
def test_a_window_refuses_until_it_ends(
    tmp_path: Path, window: Window, before: str, after_s: int
) -> None:
    """Used up, it names itself; the next one has all of the limit, and debt is gone."""
    ledger, clock = _ledger(tmp_path, before)
    ledger.set_limit(AGENT, "tokens", 10, window)
    ledger.commit(ledger.reserve(ACCOUNT, {"tokens": 10}, operation="a"), {"tokens": 12})
    with pytest.raises(BudgetExceededError, match=f"left in this {window} .it is 2 in debt"):
        ledger.reserve(ACCOUNT, {"tokens": 1}, operation="b")
    clock.advance(after_s)
    assert _left(ledger, window) == 10
    ledger.reserve(ACCOUNT, {"tokens": 10}, operation="c")


def test_a_reservation_counts_in_the_window_it_was_made_in(tmp_path: Path) -> None:
    """Committed after that, only what it used beyond its reservation counts in the new window."""
    ledger, clock = _ledger(tmp_path, "2027-01-01T10:00:50")
    ledger.set_limit(AGENT, "tokens", 10, "minute")
    within = ledger.reserve(ACCOUNT, {"tokens": 4}, operation="a")
    beyond = ledger.reserve(ACCOUNT, {"tokens": 4}, operation="b")
    given_back = ledger.reserve(ACCOUNT, {"tokens": 2}, operation="c")
    clock.advance(20)
    assert _left(ledger, "minute") == 10
    ledger.commit(within)
    ledger.commit(beyond, {"tokens": 7})
    ledger.refund(given_back)
    assert _left(ledger, "minute") == 7


@pytest.mark.parametrize("window", ["minute", "hour", "day", "month"])
def test_a_clock_that_goes_back_opens_no_window_again(tmp_path: Path, window: Window) -> None:
    """Neither the window that was left nor the present one gives its limit a second time."""
    ledger, clock = _ledger(tmp_path, "2027-01-31T23:59:59")
    ledger.set_limit(AGENT, "tokens", 10, window)
    held = ledger.reserve(ACCOUNT, {"tokens": 10}, operation="a")
    clock.advance(2)
    ledger.commit(ledger.reserve(ACCOUNT, {"tokens": 9}, operation="b"))
    for back in (-2, -400_000):
        clock.advance(back)
        assert _left(ledger, window) == 1
        with pytest.raises(BudgetExceededError):
            ledger.reserve(ACCOUNT, {"tokens": 2}, operation="c")
    ledger.commit(held)
    assert _left(ledger, window) == 1
    last = ledger.reserve(ACCOUNT, {"tokens": 1}, operation="d")
    assert _left(ledger, window) == 0
    ledger.refund(last)
    assert _left(ledger, window) == 1


def test_a_limit_that_is_set_late_knows_what_is_open(tmp_path: Path) -> None:
    """Open reservations of the window count at once, also when the clock has gone back since."""
    ledger, clock = _ledger(tmp_path, "2027-01-01T10:05:30")
    ledger.set_limit(ACCOUNT, "tokens", 100, "hour")
    held = ledger.reserve(ACCOUNT, {"tokens": 6}, operation="a")
    clock.advance(-60)
    ledger.set_limit(AGENT, "tokens", 10, "minute")
    assert _left(ledger, "minute") == 4
    with pytest.raises(BudgetExceededError):
        ledger.reserve(ACCOUNT, {"tokens": 5}, operation="b")
    ledger.refund(held)
    assert _left(ledger, "minute") == 10


def test_alerts_come_once_for_each_share_and_window(tmp_path: Path) -> None:
    """The commit that crosses returns them, they are kept, and the next window has its own."""
    ledger, clock = _ledger(tmp_path, "2027-01-01T10:00:00")
    ledger.set_limit(AGENT, "tokens", 100, "minute")

    def spend(amount: int, operation: str) -> list[int]:
        made = ledger.reserve(ACCOUNT, {"tokens": amount}, operation=operation)
        return [alert.percent for alert in ledger.commit(made).alerts]

    assert [spend(49, "a"), spend(1, "b"), spend(10, "c"), spend(36, "d")] == [
        [],
        [50],
        [],
        [80, 95],
    ]
    clock.advance(60)
    assert [spend(49, "e"), spend(51, "f")] == [[], [50, 80, 95, 100]]
    kept = ledger.alerts(ACCOUNT)
    assert [alert.percent for alert in kept] == [50, 80, 95, 50, 80, 95, 100]
    assert ledger.alerts(ACCOUNT, since=kept[-2].id) == kept[-1:]
    assert {alert.account for alert in kept} == {AGENT}
    assert ledger.alerts(account_of("other")) == ()


def test_thresholds_are_an_accounts_own(tmp_path: Path) -> None:
    """An account may choose others, and none."""
    ledger, _ = _ledger(tmp_path, "2027-01-01T10:00:00")
    ledger.set_limit(AGENT, "tokens", 100)
    ledger.set_limit(ACCOUNT, "tokens", 100)
    ledger.set_alerts(AGENT, [10, 120])
    ledger.set_alerts(ACCOUNT, [])
    made = ledger.reserve(ACCOUNT, {"tokens": 1}, operation="a")
    told = ledger.commit(made, {"tokens": 130}).alerts
    assert [(alert.account, alert.percent, alert.spent) for alert in told] == [
        (AGENT, 10, 130),
        (AGENT, 120, 130),
    ]
    with pytest.raises(ArgumentError, match="0 cannot be a threshold"):
        ledger.set_alerts(AGENT, [0])


def test_unknown_windows_are_refused(tmp_path: Path) -> None:
    """The error names the windows there are."""
    ledger, _ = _ledger(tmp_path, "2027-01-01T10:00:00")
    with pytest.raises(ArgumentError, match="no window 'week'; it keeps total, minute"):
        ledger.set_limit(AGENT, "tokens", 1, "week")  # pyright: ignore[reportArgumentType]
