"""Shadow prices lead to the best use of a budget; tenants that contend get fair shares."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmos.clock import FixedClock
from fmos.errors import ArgumentError, BudgetExceededError
from fmos.ledger.accounts import Account, account_of
from fmos.ledger.fairness import jain, max_min
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database

ORG = Account("org:default")
_NS = 10**9
_MINUTE = 1_749_999_960 * _NS  # the beginning of one


def _ledger(tmp_path: Path) -> tuple[Ledger, FixedClock]:
    clock = FixedClock(_MINUTE)
    return Ledger(Database(tmp_path / "kernel.db"), clock), clock


def _spend(ledger: Ledger, account: Account, amount: int, operation: str) -> bool:
    try:
        made = ledger.reserve(account, {"tokens": amount}, operation=operation)
    except BudgetExceededError:
        return False
    ledger.commit(made)
    return True


@pytest.mark.parametrize("values", [(1.0, 2.0, 4.0), (5.0, 1.0), (0.3, 0.3, 0.3, 3.0)])
def test_prices_find_the_optimum_of_a_convex_problem(
    tmp_path: Path, values: tuple[float, ...]
) -> None:
    """Callers that maximise value * log(use) - price * use share a rate as the optimum does.

    The maximum of sum(v * log(x)) with sum(x) = b is x = v * b / sum(v), at the price sum(v) / b.
    """
    ledger, clock = _ledger(tmp_path)
    tenant = account_of("t")
    limit, rate = 600_000, 10_000  # a minute's limit is ten thousand a second
    ledger.set_limit(tenant, "tokens", limit, "minute")
    ledger.set_price(tenant, "tokens", window="minute", step=sum(values) * 6)
    used, prices = [0.0] * len(values), 0.0
    for second in range(180):
        price = ledger.prices(tenant)["tokens"]
        wants = [min(rate, int(v / price)) if price else rate for v in values]
        for number, want in enumerate(wants):
            done = _spend(ledger, account_of("t", f"a{number}"), want, f"{second}-{number}")
            used[number] += want if done and second >= 120 else 0
        prices += price if second >= 120 else 0
        clock.advance(1)
        assert all((row.left or 0) >= 0 and not row.debt for row in ledger.status(tenant))
    best = [60 * rate * v / sum(values) for v in values]
    assert used == pytest.approx(best, rel=0.05)
    assert prices / 60 == pytest.approx(sum(values) / rate, rel=0.05)


def test_a_price_falls_when_nobody_wants_the_budget(tmp_path: Path) -> None:
    """What was scarce a minute ago is free after a quiet time; unlimited resources cost nothing."""
    ledger, clock = _ledger(tmp_path)
    tenant = account_of("t")
    ledger.set_limit(tenant, "tokens", 600, "minute")
    for second in range(5):
        clock.advance(1)
        _spend(ledger, tenant, 100, f"{second}")
    assert ledger.price_of(tenant, {"tokens": 600, "risk": 9}) > 0.1
    clock.advance(600)
    assert ledger.price_of(tenant, {"tokens": 600}) == 0


def test_a_total_has_a_price_once_it_has_an_end(tmp_path: Path) -> None:
    """A budget that is spent faster than its time passes gets dearer."""
    ledger, clock = _ledger(tmp_path)
    tenant = account_of("t")
    ledger.set_limit(tenant, "tokens", 1000)
    _spend(ledger, tenant, 100, "a")
    assert ledger.prices(tenant) == {"tokens": 0.0}
    ledger.set_price(tenant, "tokens", until_ns=clock.now_ns() + 900 * _NS)
    for turn in range(4):
        clock.advance(15)
        _spend(ledger, tenant, 60, f"{turn}")
    assert ledger.prices(tenant)["tokens"] > 0
    with pytest.raises(ArgumentError, match="cannot be a step"):
        ledger.set_price(tenant, "tokens", step=0)


def test_who_ignores_prices_is_bound_by_limits_all_the_same(tmp_path: Path) -> None:
    """The price is a hint; the limit is the law."""
    ledger, clock = _ledger(tmp_path)
    tenant = account_of("t")
    ledger.set_limit(tenant, "tokens", 100, "minute")
    granted = 0
    for second in range(60):
        granted += _spend(ledger, tenant, 10, f"{second}")
        clock.advance(1)
    assert granted == 10


def test_greedy_and_modest_tenants_get_equal_shares(tmp_path: Path) -> None:
    """A tenant that asks three times as often as the others gets as much as they do."""
    ledger, clock = _ledger(tmp_path)
    ledger.set_limit(ORG, "tokens", 100, "minute")
    granted = _contend(ledger, clock, {"greedy": 9, "a": 3, "b": 3}, minutes=3)
    assert sum(granted.values()) == 2 * 100  # every minute's limit was used up
    assert jain(list(granted.values())) >= 0.95


def test_shares_follow_weights(tmp_path: Path) -> None:
    """A tenant with twice the weight gets twice as much of what both want."""
    ledger, clock = _ledger(tmp_path)
    ledger.set_limit(ORG, "tokens", 100, "minute")
    ledger.set_weight(account_of("a"), 2)
    granted = _contend(ledger, clock, {"a": 6, "b": 6}, minutes=3)
    assert granted["a"] / granted["b"] == pytest.approx(2, rel=0.15)
    with pytest.raises(ArgumentError, match="cannot be a weight"):
        ledger.set_weight(account_of("a"), 0)


def test_a_tenant_alone_may_use_everything(tmp_path: Path) -> None:
    """Nobody is refused while nobody else wants the capacity, also beside small tenants."""
    ledger, clock = _ledger(tmp_path)
    ledger.set_limit(ORG, "tokens", 300, "minute")
    assert all(_spend(ledger, account_of("b"), 1, f"b{n}") for n in range(10))
    assert all(_spend(ledger, account_of("a"), 1, f"a{n}") for n in range(290))
    assert not _spend(ledger, account_of("b"), 1, "refused")
    clock.advance(59)  # the last minute's refusal was of one token: one is kept, and not for long
    clock.advance(2)
    assert all(_spend(ledger, account_of("a"), 1, f"c{n}") for n in range(280))
    clock.advance(120)
    assert all(_spend(ledger, account_of("a"), 1, f"d{n}") for n in range(300))


def _contend(ledger: Ledger, clock: FixedClock, asks: dict[str, int], minutes: int) -> Counter[str]:
    """Return what each tenant got after the first minute, asking so often every 3 seconds."""
    granted: Counter[str] = Counter()
    order = [tenant for tenant, times in asks.items() for _ in range(times)]
    dice = random.Random(1)
    for second in range(0, 60 * minutes, 3):
        dice.shuffle(order)
        for number, tenant in enumerate(order):
            done = _spend(ledger, account_of(tenant), 1, f"{tenant}-{second}-{number}")
            granted[tenant] += done and second >= 60
        clock.advance(3)
    return granted


@given(
    st.dictionaries(st.integers(0, 5), st.floats(0, 100), min_size=1),
    st.floats(0, 200),
    st.data(),
)
def test_max_min_shares_leave_nobody_better_off(
    demands: dict[int, float], capacity: float, data: st.DataObject
) -> None:
    """All is used or all are satisfied; who is short has the largest share by weight."""
    weights = {each: data.draw(st.floats(0.1, 10)) for each in demands}
    shares = max_min(capacity, demands, weights)
    assert sum(shares.values()) == pytest.approx(min(capacity, sum(demands.values())), abs=1e-6)
    level = max(shares[each] / weights[each] for each in demands)
    for each, share in shares.items():
        assert share <= demands[each] + 1e-9
        if share < demands[each] - 1e-6:
            assert share / weights[each] == pytest.approx(level, rel=1e-6)


def test_jains_index_is_one_for_equal_and_small_for_one_winner() -> None:
    """1 when all have the same, 1/n when one has everything."""
    assert jain([3, 3, 3]) == pytest.approx(1)
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert jain([0, 0]) == 1
