"""The ledger against a plain model: any order of calls, limits, windows and clocks."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.core.ledger_books import differences

from fmos.clock import FixedClock
from fmos.errors import ArgumentError, BudgetExceededError
from fmos.ledger.accounts import Account, account_of
from fmos.ledger.ledger import Ledger
from fmos.ledger.windows import Window, start_of
from fmos.storage.database import Database

_SESSIONS = [account_of("t", "a", "x", "s1"), account_of("t", "a", "x", "s2"), account_of("u")]
_ACCOUNTS = sorted({part for each in _SESSIONS for part in each.path})
_RESOURCES = ("tokens", "tool_calls")
_WINDOWS: tuple[Window, ...] = ("total", "minute", "hour")
_NS = 10**9


@dataclass
class _Made:
    id: str
    account: Account
    amounts: dict[str, int]
    made_ns: int
    expires_ns: int
    state: str = "open"


class LedgerMachine(RuleBasedStateMachine):
    """Calls the ledger and a model of sums over plain lists, and compares what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FixedClock()
        self.database = Database(self.folder / "kernel.db")
        self.ledger = Ledger(self.database, self.clock)
        self.made: dict[str, _Made] = {}
        self.limits: dict[tuple[Account, str, Window], int] = {}
        self.spent: list[tuple[Account, str, int, int]] = []  # account, resource, amount, when
        self.latest = self.clock.now_ns()

    def teardown(self) -> None:
        """Remove the file."""
        self.database.close()
        shutil.rmtree(self.folder)

    # The model. Only windows that were limited from the start of the run are compared, so that
    # `latest` is the time of all of them.

    def left(self, account: Account, resource: str, window: Window) -> int | None:
        """Return what a limit leaves, below 0 in debt; None without a limit."""
        limit = self.limits.get((account, resource, window))
        if limit is None:
            return None
        start = start_of(window, self.latest)
        held = sum(
            each.amounts.get(resource, 0)
            for each in self.made.values()
            if each.state == "open"
            and account in each.account.path
            and start_of(window, each.made_ns) == start
        )
        spent = sum(
            amount
            for payer, name, amount, when in self.spent
            if account in payer.path and name == resource and start_of(window, when) == start
        )
        return limit - held - spent

    def short(self, payer: Account, amounts: dict[str, int]) -> bool:
        """Return whether any limit on the path leaves too little."""
        for account, resource, window in self.limits:
            asked = amounts.get(resource, 0)
            left = self.left(account, resource, window)
            if account in payer.path and left is not None and asked > max(0, left):
                return True
        return False

    def expire(self) -> None:
        """Give back what is due, in the model."""
        for each in self.made.values():
            if each.state == "open" and each.expires_ns <= self.clock.now_ns():
                each.state = "expired"

    @precondition(lambda self: not self.made)
    @rule(
        account=st.sampled_from(_ACCOUNTS),
        resource=st.sampled_from(_RESOURCES),
        window=st.sampled_from(_WINDOWS),
        limit=st.integers(0, 40),
    )
    def set_limit(self, account: Account, resource: str, window: Window, limit: int) -> None:
        """Limit anything, before the first reservation."""
        self.ledger.set_limit(account, resource, limit, window)
        self.limits[account, resource, window] = limit

    @rule(account=st.sampled_from(_ACCOUNTS), limit=st.none() | st.integers(0, 60))
    def change_total(self, account: Account, limit: int | None) -> None:
        """Raise, lower, set or remove a limit on the total at any time."""
        self.ledger.set_limit(account, "tokens", limit)
        self.limits.pop((account, "tokens", "total"), None)
        if limit is not None:
            self.limits[account, "tokens", "total"] = limit

    @rule(
        payer=st.sampled_from(_SESSIONS),
        amounts=st.dictionaries(st.sampled_from(_RESOURCES), st.integers(0, 15), max_size=2),
        key=st.integers(0, 25),
        ttl_s=st.sampled_from([5, 50, 5000]),
    )
    def reserve(self, payer: Account, amounts: dict[str, int], key: int, ttl_s: int) -> None:
        """Reserve, again and again under the same few ids."""
        name = f"{payer.path[1].name}-{key}"
        self.latest = max(self.latest, self.clock.now_ns())
        known = self.made.get(name)
        if known is not None and known.state == "committed":
            with pytest.raises(ArgumentError, match="already used"):
                self.ledger.reserve(payer, amounts, operation=name, ttl_s=ttl_s)
            return
        self.reserve_open(payer, amounts, name, ttl_s, known)

    def reserve_open(
        self, payer: Account, amounts: dict[str, int], name: str, ttl_s: int, known: _Made | None
    ) -> None:
        """Reserve for an id that is not settled, and compare the answer."""
        self.ledger.expire()  # what is due may otherwise be given back a moment later
        self.expire()
        if known is not None and known.state == "open":
            if (known.account, known.amounts) == (payer, amounts):
                again = self.ledger.reserve(payer, amounts, operation=name, ttl_s=ttl_s)
                assert again.id == known.id
            else:
                with pytest.raises(ArgumentError, match="own id"):
                    self.ledger.reserve(payer, amounts, operation=name, ttl_s=ttl_s)
        elif self.short(payer, amounts):
            with pytest.raises(BudgetExceededError):
                self.ledger.reserve(payer, amounts, operation=name, ttl_s=ttl_s)
        else:
            made = self.ledger.reserve(payer, amounts, operation=name, ttl_s=ttl_s)
            expires = self.clock.now_ns() + ttl_s * _NS
            self.made[name] = _Made(made.id, payer, amounts, self.latest, expires)

    @precondition(lambda self: self.made)
    @rule(
        data=st.data(),
        actual=st.none() | st.dictionaries(st.sampled_from(_RESOURCES), st.integers(0, 30)),
    )
    def commit(self, data: st.DataObject, actual: dict[str, int] | None) -> None:
        """Commit anything that was made, with any usage."""
        each = self.made[data.draw(st.sampled_from(sorted(self.made)))]
        self.latest = max(self.latest, self.clock.now_ns())
        if each.state == "refunded":
            with pytest.raises(ArgumentError, match="refunded"):
                self.ledger.commit(each.id, actual)
            return
        self.ledger.commit(each.id, actual)
        if each.state != "committed":
            self.spend(each, each.amounts if actual is None else actual)
            each.state = "committed"

    def spend(self, each: _Made, used: dict[str, int]) -> None:
        """Note what was used and in which windows that counts."""
        for resource, amount in used.items():
            held = each.amounts.get(resource, 0) if each.state == "open" else 0
            within = min(amount, held)
            self.spent.append((each.account, resource, within, each.made_ns))
            # What was not reserved counts in the window of the reservation while that lasts, in
            # the present one after it; both are the same time to a window that holds both.
            self.spent.append((each.account, resource, amount - within, self.latest))

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        """Give back anything that was made."""
        each = self.made[data.draw(st.sampled_from(sorted(self.made)))]
        if each.state == "committed":
            with pytest.raises(ArgumentError, match="committed"):
                self.ledger.refund(each.id)
            return
        self.ledger.refund(each.id)
        each.state = "refunded"

    @rule(seconds=st.sampled_from([1, 7, 61, 3700, -1, -20]))
    def pass_time(self, seconds: int) -> None:
        """Go on, or back within the minute; test_ledger_windows.py goes back further."""
        then = self.clock.now_ns() + seconds * _NS
        if start_of("minute", then) >= start_of("minute", self.latest):
            self.clock.advance(seconds)

    @invariant()
    def balances_are_the_models(self) -> None:
        """Every limit leaves what the model says."""
        self.ledger.expire()
        self.expire()
        now = max(self.latest, self.clock.now_ns())
        for payer in _SESSIONS:
            for row in self.ledger.status(payer):
                account = Account(row.account)
                limit = self.limits.get((account, row.resource, row.window))
                assert row.limit == limit
                if limit is None or start_of(row.window, now) != start_of(row.window, self.latest):
                    continue
                left = self.left(account, row.resource, row.window)
                assert left is not None
                assert row.left == max(0, left)
                assert row.debt == max(0, row.spent - limit)

    @invariant()
    def balances_are_sums(self) -> None:
        """Every balance is the sum of its reservations."""
        assert differences(self.database) == []


_EXAMPLES = 400 if os.environ.get("AGENTFS_SOAK") else 25
LedgerMachine.TestCase.settings = settings(
    max_examples=_EXAMPLES, stateful_step_count=30, deadline=None, derandomize=True
)
TestLedger = LedgerMachine.TestCase
