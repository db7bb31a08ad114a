"""Claim: an audit row costs at most 40 us, and 400,000 rows a second are verified.

Appending is `Kernel.record` with the row of a checked tool call: one transaction a row, which
survives a killed process. Beside it: a plain table with a hash chain in the standard library's
sqlite3, which has no branches, no principals and no reader's view to keep; it is the floor.
Verifying is `fmos.audit.verify.verify`: the chain and the Merkle tree over all rows, against signed
checkpoints. Beside it: the same plain table's chain, recomputed in Python. Both sides check the
same rows' worth of text.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import time
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from fmos.audit.checkpoints import checkpoint
from fmos.audit.proofs import check_proof, prove
from fmos.audit.record import record_intent, record_outcome
from fmos.audit.verify import verify
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
from harness import NORMAL, Report, Side, interleave, scale, workspace

APPENDS = scale(5_000, 200)
ROUNDS = scale(7, 2)
ROWS = scale(1_000_000, 10_000)
CHECKPOINTS = scale(100, 4)
PROOFS = scale(200, 5)
WHO = Principal(agent="bench", session="s1")
OUTCOME = "op.outcome"

Samples = dict[str, list[float]]


def details(kernel: Kernel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what record.py writes for one checked tool call: intent and outcome."""
    operation = Operation(
        kind=OperationKind.TOOL_CALL, name="run", arguments={"command": "make"}, principal=WHO
    )
    verdict = Verdict(
        operation=operation.id,
        decision=Decision.ALLOW,
        reasons=(Reason(code="trust.allowed", message="granted"),),
        policy="0" * 64,
    )
    record_intent(kernel, operation, verdict)
    record_outcome(kernel, WHO, Outcome(operation=operation.id, status=OutcomeStatus.OK))
    found = kernel.volume(WHO.tenant).journal(since=0)
    rows = [row.detail for row in found if row.operation.startswith("op.")]
    return rows[0], rows[1]


class Plain:
    """A hash chain in a table of the standard library's sqlite3, with the same settings."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("CREATE TABLE chain(seq INTEGER PRIMARY KEY, row TEXT, hash BLOB)")
        self._seq, self._last = 0, bytes(32)

    def append(self, detail: dict[str, Any]) -> None:
        """Write one row, in its own transaction unless one is open."""
        self._seq += 1
        row = {"seq": self._seq, "time_ns": time.time_ns(), "who": str(WHO), "detail": detail}
        text = json.dumps(row, sort_keys=True, separators=(",", ":"))
        self._last = sha256(self._last + text.encode("ascii")).digest()
        values = (self._seq, text, self._last)
        self._database.execute("INSERT INTO chain VALUES (?, ?, ?)", values)

    def fill(self, rows: list[dict[str, Any]], number: int) -> None:
        """Write many rows in one transaction."""
        self._database.execute("BEGIN")
        for at in range(number):
            self.append(rows[at % len(rows)])
        self._database.execute("COMMIT")

    def verify(self) -> int:
        """Recompute the chain and return how many rows it has."""
        last, seen = bytes(32), 0
        for text, digest in self._database.execute("SELECT row, hash FROM chain ORDER BY seq"):
            assert sha256(last + text.encode("ascii")).digest() == digest
            last, seen = digest, seen + 1
        return seen

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def each(append: Any, kept: list[float]) -> float:
    """Append the rows of one round, keep the seconds of each, and return their sum."""
    before = len(kept)
    for _ in range(APPENDS):
        begin = time.perf_counter()
        append()
        kept.append(time.perf_counter() - begin)
    return sum(kept[before:])


def in_batches(kernel: Kernel, detail: dict[str, Any], kept: list[float]) -> float:
    """Append the rows of one round, 100 in a transaction, and keep the seconds of each."""
    fs = kernel.agent_fs(WHO)
    begin = time.perf_counter()
    for _ in range(max(1, APPENDS // 100)):
        with fs.transaction():
            for _ in range(100):
                kernel.record(WHO, "op.intent", detail)
    taken = time.perf_counter() - begin
    kept.append(taken / (max(1, APPENDS // 100) * 100))
    return taken


def fill(kernel: Kernel, rows: tuple[dict[str, Any], dict[str, Any]]) -> float:
    """Write the journal that is verified, sign it in pieces; return a checkpoint's median."""
    fs, taken = kernel.agent_fs(WHO), list[float]()
    for _ in range(CHECKPOINTS):
        with fs.transaction():
            for number in range(ROWS // CHECKPOINTS):
                fs.record(OUTCOME if number % 2 else "op.intent", rows[number % 2])
        begin = time.perf_counter()
        assert checkpoint(kernel, WHO.tenant) is not None
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def verified(kernel: Kernel) -> float:
    """Verify the whole journal and return the seconds."""
    begin = time.perf_counter()
    report = verify(kernel, WHO.tenant)
    taken = time.perf_counter() - begin
    assert report.ok, report.problems
    assert report.rows >= ROWS
    return taken


def proofs(kernel: Kernel) -> tuple[float, float]:
    """Return the medians of making and checking a proof of a row."""
    made, checked = list[float](), list[float]()
    keys = {kernel.keys_of(WHO.tenant).public_key}
    for number in range(PROOFS):
        begin = time.perf_counter()
        proof = prove(kernel, WHO.tenant, seq=3 + number * (ROWS // PROOFS))
        between = time.perf_counter()
        check_proof(proof, keys)
        made.append(between - begin)
        checked.append(time.perf_counter() - between)
    return statistics.median(made), statistics.median(checked)


def main() -> None:
    """Measure and save."""
    report = Report("audit", "an audit row is cheap to write and to verify")
    samples: Samples = {"kernel": [], "batch": [], "plain": []}
    with workspace() as folder:
        with Kernel.open(folder / "small") as kernel:
            intent, _ = details(kernel)
            plain = Plain(folder / "plain.db")
            sides = [
                Side(
                    "kernel.record", NORMAL,
                    lambda _: each(lambda: kernel.record(WHO, "op.intent", intent),
                                   samples["kernel"]),
                ),
                Side("100 in a transaction", NORMAL,
                     lambda _: in_batches(kernel, intent, samples["batch"])),
                Side("sqlite3 table", NORMAL,
                     lambda _: each(lambda: plain.append(intent), samples["plain"])),
            ]  # fmt: skip
            report.add(f"{APPENDS} appends", interleave(sides, ROUNDS), sides)
            assert verify(kernel, WHO.tenant).ok
            plain.close()
        with Kernel.open(folder / "large") as kernel:
            rows = details(kernel)
            signing = fill(kernel, rows)
            table = Plain(folder / "large.db")
            table.fill(list(rows), ROWS)
            turns = count()
            checks = [
                Side("verify", NORMAL, lambda _: verified(kernel)),
                Side("sqlite3 table", NORMAL, lambda _: _timed_plain(table, next(turns))),
            ]
            measure = interleave(checks, ROUNDS)
            report.add(f"verify {ROWS} rows", measure, checks)
            made, checked = proofs(kernel)
            table.close()
    _rows(report, samples, measure.rate("verify", ROWS), measure.rate("sqlite3 table", ROWS))
    per = ROWS // CHECKPOINTS
    report.tell(f"a checkpoint over {per:,} new rows, checked and signed", signing * 1000, "ms")
    report.tell(f"a proof of one of {ROWS:,} rows", made * 1000, "ms")
    report.tell("checking that proof", checked * 1000, "ms")
    report.notes.append(
        f"{os.cpu_count()} cores. A row is the intent of a checked tool call; verified are intents"
        f" and outcomes in turn, with {CHECKPOINTS} checkpoints, by as many processes as cores."
        " The plain table has neither branches nor a tree, and its chain is checked by one process."
    )
    report.save()


def _timed_plain(table: Plain, _turn: int) -> float:
    begin = time.perf_counter()
    assert table.verify() == ROWS
    return time.perf_counter() - begin


def _rows(report: Report, samples: Samples, rate: float, plain_rate: float) -> None:
    p50 = {name: statistics.median(kept) * 1e6 for name, kept in samples.items()}
    p95 = statistics.quantiles(samples["kernel"], n=20)[-1] * 1e6
    report.at_most("audit append, one transaction a row, p50", p50["kernel"], "us", 40)
    report.tell("audit append, one transaction a row, p95", p95, "us")
    report.tell("audit append, 100 in a transaction, a row", p50["batch"], "us")
    report.tell("plain hash chain in sqlite3, p50", p50["plain"], "us")
    report.at_least("verify: chain, tree and checkpoints", rate, "rows/s", 400_000)
    report.tell("plain hash chain in sqlite3, chain only", plain_rate, "rows/s")
    report.sum_up(
        "audit row written / journal verified (chain, Merkle tree, signatures)",
        f"{p50['kernel']:.0f} us / {rate:,.0f} rows/s",
        f"plain sqlite3 hash chain {p50['plain']:.0f} us / {plain_rate:,.0f} rows/s",
    )


if __name__ == "__main__":
    main()
