"""Claim: sixteen processes that spend from one tree of accounts overspend none of them.

Target: 0 overspent accounts and 0 false refusals in 10^5 attempts, and at least 10,000 reserve and
commit cycles a second. Beside it check-then-add: counters that are read before and added to after.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median, quantiles

from check_then_add import CheckThenAdd
from fmos.clock import SystemClock
from fmos.errors import BudgetExceededError
from fmos.ledger.accounts import Account, account_of
from fmos.ledger.ledger import Ledger
from fmos.storage.database import Database
from harness import NORMAL, OPTIONS, Report, Side, interleave, scale, workspace

PROCESSES = 16
CYCLES = scale(4_000, 20)  # of each process and round, with ample limits
ATTEMPTS = scale(6_250, 20)  # of each process, with limits that bind: 10^5 in all
ROUNDS = scale(5, 1)
CALL_S = 0.001
AMOUNT = 5
AMPLE = 10**12

_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Done:
    """What one process did: the seconds of each reserving call, and what it was granted."""

    waits_s: list[float]
    granted: int
    refused: int


def ours(database: Database) -> Callable[[Account, str, float, list[float]], bool]:
    """Return one cycle of the ledger."""
    ledger = Ledger(database, SystemClock())

    def cycle(account: Account, key: str, call_s: float, waits_s: list[float]) -> bool:
        begin = time.perf_counter()
        try:
            made = ledger.reserve(account, {"tokens": AMOUNT}, operation=key)
        except BudgetExceededError:
            return False
        waits_s.append(time.perf_counter() - begin)
        if call_s:
            time.sleep(call_s)
        ledger.commit(made)
        return True

    return cycle


def usual(database: Database) -> Callable[[Account, str, float, list[float]], bool]:
    """Return one cycle of check-then-add."""
    counters = CheckThenAdd(database)

    def cycle(account: Account, key: str, call_s: float, waits_s: list[float]) -> bool:
        begin = time.perf_counter()
        if not counters.fits(account.path, AMOUNT):
            return False
        waits_s.append(time.perf_counter() - begin)
        if call_s:
            time.sleep(call_s)
        counters.add(account.path, AMOUNT)
        return True

    return cycle


SIDES = {"ours": ours, "check-then-add": usual}


def spend(
    path: Path, side: str, number: int, turns: int, call_s: float, gate: Barrier, round_: int
) -> Done:
    """Run the cycles of one process, once all are ready."""
    database = Database(path)
    cycle = SIDES[side](database)
    account = leaf(number)
    waits_s: list[float] = []
    gate.wait()
    granted = sum(
        cycle(account, f"{round_}-{number}-{turn}", call_s, waits_s) for turn in range(turns)
    )
    database.close()
    return Done(waits_s, granted, turns - granted)


def leaf(number: int) -> Account:
    """Return the account of a process: one of four applications of one of four tenants."""
    return account_of(f"t{number % 4}", f"a{number // 4}")


def run(path: Path, side: str, turns: int, call_s: float, round_: int) -> tuple[float, list[Done]]:
    """Return how long all processes together took, from a common start, and what each did."""
    gate = _FORK.Barrier(PROCESSES + 1)
    results = _FORK.SimpleQueue()

    def work(number: int) -> None:
        results.put(spend(path, side, number, turns, call_s, gate, round_))

    processes = [_FORK.Process(target=work, args=(n,)) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    gate.wait()
    begin = time.perf_counter()
    done = [results.get() for _ in processes]
    took = time.perf_counter() - begin
    for process in processes:
        process.join()
    return took, done


def create(path: Path, side: str, caps: Mapping[Account, int]) -> None:
    """Make the tree of a side with its limits."""
    database = Database(path)
    accounts = {part for number in range(PROCESSES) for part in leaf(number).path}
    if side == "ours":
        ledger = Ledger(database, SystemClock())
        for account in sorted(accounts):
            ledger.set_limit(account, "tokens", caps.get(account, AMPLE))
    else:
        CheckThenAdd(database).create({str(each): caps.get(each, AMPLE) for each in accounts})
    database.close()


def spent(path: Path, side: str) -> dict[str, int]:
    """Return what each account has spent."""
    database = Database(path)
    try:
        if side != "ours":
            return CheckThenAdd(database).spent()
        ledger = Ledger(database, SystemClock())
        rows = [row for number in range(PROCESSES) for row in ledger.status(leaf(number))]
        return {row.account: row.spent for row in rows}
    finally:
        database.close()


def speed(report: Report, home: Path) -> None:
    """Measure cycles with limits that never bind."""
    waits_ms: dict[str, list[float]] = {side: [] for side in SIDES}
    for side in SIDES:
        create(home / f"{side}.db", side, {})

    def round_of(side: str) -> Callable[[int], float]:
        def one(turn: int) -> float:
            took, done = run(home / f"{side}.db", side, CYCLES, 0.0, turn)
            if turn >= 0:
                waits_ms[side] += [wait * 1000 for each in done for wait in each.waits_s]
            return took

        return one

    sides = [Side(side, NORMAL, round_of(side)) for side in SIDES]
    found = interleave(sides, ROUNDS)
    report.add("cycles", found, sides)
    count = PROCESSES * CYCLES
    rate = found.rate("ours", count)
    report.at_least("ours, reserve and commit", rate, "cycles/s", 10_000)
    report.tell("check-then-add", found.rate("check-then-add", count), "cycles/s")
    cuts = quantiles(waits_ms["ours"], n=100)
    for name, value in (("p50", median(waits_ms["ours"])), ("p95", cuts[94]), ("p99", cuts[98])):
        report.tell(f"ours, one reserve, {name}", value, "ms")
    report.sum_up(
        f"reserve + commit, {PROCESSES} processes on one tree",
        f"{rate:,.0f} cycles/s, 0 overspent",
        f"check-then-add {found.rate('check-then-add', count):,.0f} cycles/s",
    )


def safety(report: Report, home: Path) -> None:
    """Count who overspends, and who is refused falsely, where limits bind and calls last."""
    total = PROCESSES * ATTEMPTS * AMOUNT
    caps = {Account("org:default"): total // 2 // AMOUNT * AMOUNT}
    caps |= {account_of(f"t{number}"): total // 16 // AMOUNT * AMOUNT for number in range(2)}
    for side in SIDES:
        path = home / f"{side}-bound.db"
        create(path, side, caps)
        _, done = run(path, side, ATTEMPTS, CALL_S, 0)
        used = spent(path, side)
        over = {account: used[str(account)] - cap for account, cap in caps.items()}
        refused = sum(each.refused for each in done)
        left = sum(-rest // AMOUNT for rest in over.values() if rest < 0) if refused else 0
        count = sum(rest > 0 for rest in over.values())
        worst = max(rest / caps[account] * 100 for account, rest in over.items())
        if side == "ours":
            attempts = sum(each.granted + each.refused for each in done)
            report.tell("attempts where limits bind", attempts, "attempts")
            report.at_most("ours, overspent accounts", count, "of 3", 0)
            report.at_most("ours, false refusals", left, "refusals", 0)
        else:
            report.tell(f"{side}, overspent accounts", count, "of 3")
            report.tell(f"{side}, the worst of them by", max(0.0, worst), "%")


def main() -> None:
    """Measure and write the result."""
    claim = f"{PROCESSES} processes, {PROCESSES + 5} accounts in 3 levels"
    report = Report("ledger", claim)
    with workspace() as home:
        speed(report, home)
        safety(report, home)
    if OPTIONS.quick:
        report.notes.append("A quick run of few cycles is mostly the start of the processes.")
    report.notes.append(
        f"Where limits bind, a call takes {CALL_S * 1000:.0f} ms, which sleeps, between reserve and"
        " commit, and between looking and adding. p50 to p99 are of the calls with ample limits."
    )
    report.save()


if __name__ == "__main__":
    main()
