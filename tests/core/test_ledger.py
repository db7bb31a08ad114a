"""The ledger: limits on a path of accounts, reservations, and what happens to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmos.clock import FixedClock
from fmos.errors import ArgumentError, BudgetExceededError, NotFoundError
from fmos.ledger.accounts import account_of
from fmos.ledger.ledger import Ledger
from fmos.ledger.model import risk_amount
from fmos.ledger.windows import Window
from fmos.storage.database import Database

ORG, TENANT, APP, AGENT, ACCOUNT = account_of("t", "app", "agent", "session").path


def _ledger(tmp_path: Path, clock: FixedClock | None = None) -> Ledger:
    return Ledger(Database(tmp_path / "kernel.db"), clock or FixedClock())


def _balance(ledger: Ledger, account: str, resource: str = "tokens") -> tuple[int, int, int | None]:
    found = next(
        row for row in ledger.status(account) if row.account == account and row.resource == resource
    )
    return found.reserved, found.spent, found.left


def test_a_limit_on_any_account_of_the_path_holds(tmp_path: Path) -> None:
    """The error names the account that is short, what is left and what was asked."""
    ledger = _ledger(tmp_path)
    ledger.set_limit(ACCOUNT, "tokens", 1000)
    ledger.set_limit(APP, "tokens", 10)
    with pytest.raises(
        BudgetExceededError, match=r"app:app' has 10 of 10 tokens left, and 11"
    ) as e:
        ledger.reserve(ACCOUNT, {"tool_calls": 1, "tokens": 11}, operation="op")
    assert (e.value.account, e.value.resource, e.value.asked, e.value.left) == (
        APP,
        "tokens",
        11,
        10,
    )
    assert all(row.reserved == 0 for row in ledger.status(ACCOUNT))


def test_reserving_twice_for_one_operation_reserves_once(tmp_path: Path) -> None:
    """A caller that lost the answer may ask again, as long as the operation is not settled."""
    ledger = _ledger(tmp_path)
    first = ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op")
    assert ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op") == first
    assert _balance(ledger, ACCOUNT) == (10, 0, None)


def test_a_settled_operation_is_not_admitted_again(tmp_path: Path) -> None:
    """Neither the same nor another amount is granted for an id that was paid for."""
    ledger = _ledger(tmp_path)
    ledger.commit(ledger.reserve(ACCOUNT, {"tokens": 1}, operation="op"))
    for amount in (1, 900_000):
        with pytest.raises(ArgumentError, match="'op' is already used and settled"):
            ledger.reserve(ACCOUNT, {"tokens": amount}, operation="op")
    assert _balance(ledger, ACCOUNT) == (0, 1, None)


def test_an_operation_id_stands_for_one_reservation(tmp_path: Path) -> None:
    """Other amounts, or another account of the tenant, under the same id are refused."""
    ledger = _ledger(tmp_path)
    ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op")
    with pytest.raises(ArgumentError, match="give each operation its own id"):
        ledger.reserve(ACCOUNT, {"tokens": 11}, operation="op")
    with pytest.raises(ArgumentError, match="give each operation its own id"):
        ledger.reserve(AGENT, {"tokens": 10}, operation="op")
    assert _balance(ledger, TENANT) == (10, 0, None)


def test_an_operation_that_was_given_back_is_another_reservation(tmp_path: Path) -> None:
    """A refunded id may be reserved anew with other amounts; the old reservation stays refunded."""
    ledger = _ledger(tmp_path)
    first = ledger.reserve(ACCOUNT, {"tokens": 10}, operation="op")
    ledger.refund(first)
    again = ledger.reserve(ACCOUNT, {"tokens": 3}, operation="op")
    assert again.id != first.id
    with pytest.raises(ArgumentError, match="was refunded"):
        ledger.commit(first)
    ledger.commit(again)
    assert _balance(ledger, ACCOUNT) == (0, 3, None)


def test_one_operation_id_in_two_tenants_is_two_reservations(tmp_path: Path) -> None:
    """A tenant that guesses another's operation id gets nothing by it, and may have the same."""
    ledger = _ledger(tmp_path)
    first = ledger.reserve(account_of("a", "x"), {"tokens": 1}, operation="op")
    assert ledger.reserve(account_of("b", "x"), {"tokens": 1}, operation="op").id != first.id


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
    assert _balance(ledger, TENANT, "currency") == (0, 3, None)
    with pytest.raises(BudgetExceededError, match=r"0 of 10 tokens left \(it is 15 in debt\)"):
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
    ledger.set_limit(TENANT, "tokens", 0)
    with pytest.raises(BudgetExceededError):
        ledger.reserve(ACCOUNT, {"tokens": 1}, operation="op")
    ledger.set_limit(TENANT, "tokens", None)
    ledger.reserve(ACCOUNT, {"tokens": 1}, operation="op")
    assert [row.account for row in ledger.status(ACCOUNT)] == list(ACCOUNT.path)


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
        ("t/x", {"tokens": 1}, "'t/x' cannot be an account"),
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
    assert ledger.status(TENANT) == ()


def test_debt_blocks_until_the_limit_is_raised(tmp_path: Path) -> None:
    """What was spent past the limit is owed; asking for nothing stays possible."""
    ledger = _ledger(tmp_path)
    ledger.set_limit(ACCOUNT, "tokens", 10)
    ledger.commit(ledger.reserve(ACCOUNT, {"tokens": 10}, operation="a"), {"tokens": 25})
    assert [row.debt for row in ledger.status(ACCOUNT)] == [0, 0, 0, 0, 15]
    ledger.refund(ledger.reserve(ACCOUNT, {"tokens": 0}, operation="b"))
    with pytest.raises(BudgetExceededError):
        ledger.reserve(ACCOUNT, {"tokens": 1}, operation="c")
    ledger.set_limit(ACCOUNT, "tokens", 26)
    ledger.reserve(ACCOUNT, {"tokens": 1}, operation="d")


def test_a_renewed_reservation_outlives_its_first_time(tmp_path: Path) -> None:
    """A long call holds what it reserved as long as it says that it goes on."""
    clock = FixedClock()
    ledger = _ledger(tmp_path, clock)
    made = ledger.reserve(ACCOUNT, {"tokens": 5}, operation="op", ttl_s=10)
    clock.advance(9)
    assert ledger.renew(made, 100).expires_ns == clock.now_ns() + 100 * 10**9
    clock.advance(99)
    assert ledger.expire() == 0
    assert ledger.renew(made, 0.001).expires_ns == clock.now_ns() + 10**9
    clock.advance(2)
    assert ledger.expire() == 1
    with pytest.raises(ArgumentError, match="is expired and cannot be renewed"):
        ledger.renew(made, 10)


def test_a_clock_that_goes_back_returns_nothing_that_has_expired(tmp_path: Path) -> None:
    """An expired reservation stays expired, and an open one is not freed early."""
    clock = FixedClock()
    ledger = _ledger(tmp_path, clock)
    ledger.reserve(ACCOUNT, {"tokens": 5}, operation="a", ttl_s=10)
    clock.advance(11)
    assert ledger.expire() == 1
    ledger.reserve(ACCOUNT, {"tokens": 7}, operation="b", ttl_s=10)
    clock.advance(-3600)
    assert ledger.expire() == 0
    assert _balance(ledger, ACCOUNT) == (7, 0, None)


def test_a_reservation_can_be_looked_up(tmp_path: Path) -> None:
    """Whose it is, what it holds, and what was used of it."""
    ledger = _ledger(tmp_path)
    made = ledger.reserve(ACCOUNT, {"tokens": 5}, operation="op")
    found = ledger.find(made.id)
    assert found is not None
    assert (found.reservation, found.state, found.used) == (made, "open", None)
    ledger.commit(made, {"tokens": 2})
    settled = ledger.find(made.id)
    assert settled is not None
    assert (settled.state, settled.used) == ("committed", {"tokens": 2})
    assert ledger.find("2.0.other") is ledger.find("x.y") is ledger.find("") is None


def test_a_session_and_a_fork_of_one_name_are_two_accounts(tmp_path: Path) -> None:
    """The fork pays from its parent's session, and the session of its name does not."""
    ledger = _ledger(tmp_path)
    boss = account_of("t", "", "boss")
    session = boss.child("session", "kid")
    fork = account_of("t", "", "kid", "k1", under=boss.child("session", "s1"))
    ledger.set_limit(session, "tokens", 1)
    ledger.reserve(fork, {"tokens": 10}, operation="a")
    assert _balance(ledger, boss.child("session", "s1")) == (10, 0, None)
    assert _balance(ledger, session) == (0, 0, 1)


def test_declared_limits_follow_their_source_and_leave_a_persons_alone(tmp_path: Path) -> None:
    """A changed contract changes its own limits; a limit set by hand wins until it is removed."""
    ledger = _ledger(tmp_path)
    limits: dict[tuple[str, Window], int] = {
        ("tokens", "total"): 100,
        ("tool_calls", "minute"): 5,
    }
    assert ledger.apply_limits(ACCOUNT, limits)
    assert not ledger.apply_limits(ACCOUNT, limits)
    assert _limits(ledger) == {("tokens", "total"): 100, ("tool_calls", "minute"): 5}
    ledger.set_limit(ACCOUNT, "tokens", 900)
    assert ledger.apply_limits(ACCOUNT, {("tokens", "total"): 200})
    assert _limits(ledger) == {("tokens", "total"): 900}
    ledger.set_limit(ACCOUNT, "tokens", None)
    assert _limits(ledger) == {("tokens", "total"): 200}
    ledger.apply_limits(ACCOUNT, {("tokens", "total"): 50}, source="policy")
    assert _limits(ledger) == {("tokens", "total"): 50}
    ledger.apply_limits(ACCOUNT, {})
    ledger.apply_limits(ACCOUNT, {}, source="policy")
    assert _limits(ledger) == {}


def test_risk_is_a_resource_like_any_other(tmp_path: Path) -> None:
    """Expected losses add up under a limit; what cannot be a probability is refused."""
    ledger = _ledger(tmp_path)
    ledger.set_limit(AGENT, "risk", risk_amount(0.1, 2.0))
    ledger.commit(ledger.reserve(ACCOUNT, {"risk": risk_amount(0.01, 15)}, operation="mail"))
    with pytest.raises(BudgetExceededError, match="50000 of 200000 risk left, and 50001"):
        ledger.reserve(ACCOUNT, {"risk": 50_001}, operation="more")
    assert risk_amount(1e-9, 1) == 1
    for probability, severity in ((1.1, 1), (-0.1, 1), (float("nan"), 1), (0.5, float("inf"))):
        with pytest.raises(ArgumentError):
            risk_amount(probability, severity)


def _limits(ledger: Ledger) -> dict[tuple[str, str], int | None]:
    found = {
        (row.resource, row.window): row.limit
        for row in ledger.status(ACCOUNT)
        if row.account == ACCOUNT
    }
    return {key: limit for key, limit in found.items() if limit is not None}
