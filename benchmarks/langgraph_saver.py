"""Claim: LangGraph checkpoints take a fiftieth of SqliteSaver's disk and are quicker to use.

Target: on disk <= 4 MiB; put p50 <= 1.3 ms and p99 <= 8 ms; get_tuple p50 of the last 100
<= 2 ms; list(limit=50) <= 30 ms; delete_thread <= 30 ms and <= 1 MiB after gc; copy_thread
<= 5 ms and <= 64 KiB; with 4 writing processes no error and no put above 0.25 s.
"""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver

from fmos_langgraph import FmosSaver
from harness import NORMAL, Measure, Report, Side, scale, timed, workspace
from langgraph_thread import THREAD, Thread, file_bytes, run_together, write_for

STEPS, MESSAGES, LISTED = scale((1000, 200, 50), (30, 6, 5))
PROCESSES, SECONDS = scale((4, 6.0), (2, 0.2))
OURS, PEER = "ours", "SqliteSaver"
DURABILITY = {OURS: NORMAL, PEER: "its default: WAL, synchronous=FULL"}
PERCENT, COPIES = 99, 5
Opener = Callable[[Path], AbstractContextManager[Any]]
OPENERS: dict[str, Opener] = {
    OURS: lambda folder: FmosSaver.from_path(folder / "agent.afs"),
    PEER: lambda folder: SqliteSaver.from_conn_string(str(folder / "checkpoints.sqlite")),
}


def percentile(seconds: list[float]) -> float:
    """Return the 99th percentile, in milliseconds."""
    return sorted(seconds)[len(seconds) * PERCENT // 100 - 1] * 1000


def one_thread(report: Report, folders: dict[str, Path]) -> None:
    """Store one thread in both, and then list it."""
    with OPENERS[OURS](folders[OURS]) as ours, OPENERS[PEER](folders[PEER]) as peer:
        threads = {OURS: Thread(ours, STEPS, MESSAGES), PEER: Thread(peer, STEPS, MESSAGES)}
        run_together(list(threads.values()), STEPS)
        sides = [Side(name, text, lambda _: 0.0) for name, text in DURABILITY.items()]
        put = Measure({name: thread.times.put for name, thread in threads.items()})
        get = Measure({name: thread.times.get_tuple[-100:] for name, thread in threads.items()})
        report.add("put", put, sides)
        report.add("get_tuple, last 100", get, sides)
        for name, thread in threads.items():
            tell = report.tell if name == PEER else report.at_most
            publish_times(report, name, thread, tell)
            listed = [timed(lambda t=thread: list(t.saver.list(THREAD, limit=LISTED)))]
            listed += [timed(lambda t=thread: list(t.saver.list(THREAD, limit=LISTED)))]
            limits = () if name == PEER else (30,)
            tell(f"list(limit={LISTED}): {name}", min(listed) * 1000, "ms", *limits)
            report.tell(f"deserialising that alone: {name}", loading(thread), "ms")
            touched = timed(lambda t=thread: [x.checkpoint for x in t.saver.list(THREAD, limit=50)])
            report.tell(f"the same, every value looked at: {name}", touched * 1000, "ms")


def loading(thread: Thread) -> float:
    """Return what a serializer alone takes to make objects of the last checkpoint's values."""
    found = thread.saver.get_tuple(THREAD)
    assert found is not None
    data = thread.saver.serde.dumps_typed(found.checkpoint["channel_values"])
    samples = [timed(lambda: thread.saver.serde.loads_typed(data)) for _ in range(LISTED)]
    return statistics.median(samples) * 1000


def publish_times(report: Report, name: str, thread: Thread, tell: Callable[..., None]) -> None:
    """Publish the times of the steps."""
    put, get = thread.times.put, thread.times.get_tuple
    ours = name == OURS
    tell(f"put p50: {name}", statistics.median(put) * 1000, "ms", *([1.3] if ours else []))
    tell(f"put p99: {name}", percentile(put), "ms", *([8] if ours else []))
    last = statistics.median(get[-100:]) * 1000
    tell(f"get_tuple p50, last 100: {name}", last, "ms", *([2] if ours else []))
    writes = statistics.median(thread.times.put_writes) * 1000
    report.tell(f"put_writes p50: {name}", writes, "ms")


def copy_and_delete(report: Report, folders: dict[str, Path]) -> None:
    """Copy and delete the thread, and look at the files."""
    sizes = {name: file_bytes(folder) / 2**20 for name, folder in folders.items()}
    report.at_most(f"on disk: {OURS}", sizes[OURS], "MiB", 4)
    report.tell(f"on disk: {PEER}", sizes[PEER], "MiB")
    with OPENERS[OURS](folders[OURS]) as saver:
        copied = [
            timed(lambda name=f"copy{n}": saver.copy_thread("t", name)) for n in range(COPIES)
        ]
    grown = file_bytes(folders[OURS]) / 1024 - sizes[OURS] * 1024
    report.at_most(f"copy_thread: {OURS}", statistics.median(copied) * 1000, "ms", 5)
    report.at_most(f"copy_thread, growth: {OURS}", grown / COPIES, "KiB", 64)
    with OPENERS[OURS](folders[OURS]) as saver:
        for number in range(COPIES):
            saver.delete_thread(f"copy{number}")
        deleted = timed(lambda: saver.delete_thread("t"))
        saver.fs.gc(retention=0)
    report.at_most(f"delete_thread: {OURS}", deleted * 1000, "ms", 30)
    report.at_most(f"on disk after gc: {OURS}", file_bytes(folders[OURS]) / 2**20, "MiB", 1)
    with OPENERS[PEER](folders[PEER]) as saver:
        deleted = timed(lambda: saver.delete_thread("t"))
        report.tell(f"delete_thread: {PEER}", deleted * 1000, "ms")
        report.tell(f"on disk after it: {PEER}", file_bytes(folders[PEER]) / 2**20, "MiB")


def put_for(job: tuple[str, Path]) -> list[float]:
    """Write for some seconds, as one of several processes."""
    name, folder = job
    with OPENERS[name](folder) as saver:
        return list(write_for(saver, SECONDS))


def processes(report: Report, home: Path) -> None:
    """Let several processes write to one file; an error in one of them ends the benchmark."""
    for name in OPENERS:
        folder = home / f"{name}-shared"
        folder.mkdir()
        with OPENERS[name](folder) as saver:
            next(write_for(saver, 1))
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            found = pool.map(put_for, [(name, folder)] * PROCESSES, chunksize=1)
        puts = [each for one in found for each in one]
        report.tell(f"{PROCESSES} processes, puts of 200 KB: {name}", len(puts) / SECONDS, "puts/s")
        tell = report.at_most if name == OURS else report.tell
        limits = [0.25] if name == OURS else []
        tell(f"{PROCESSES} processes, worst put: {name}", max(puts), "s", *limits)


def main() -> None:
    """Measure and write the result."""
    peer_version = {"langgraph-checkpoint-sqlite": version("langgraph-checkpoint-sqlite")}
    claim = (
        f"{STEPS:,} steps, a list growing to {MESSAGES} messages of 2 KiB, a write of 2 KiB each"
    )
    report = Report("langgraph_saver", claim, peer_version)
    with workspace() as home:
        folders = {name: home / name for name in OPENERS}
        for folder in folders.values():
            folder.mkdir()
        one_thread(report, folders)
        copy_and_delete(report, folders)
        processes(report, home)
    found = {row["label"]: row["value"] for row in report.rows}
    report.sum_up(
        f"LangGraph checkpointer, {STEPS:,} steps: on disk, put p50, list(limit={LISTED})",
        f"{found[f'on disk: {OURS}']:.1f} MiB, {found[f'put p50: {OURS}']:.2f} ms,"
        f" {found[f'list(limit={LISTED}): {OURS}']:.0f} ms",
        f"SqliteSaver {found[f'on disk: {PEER}']:.0f} MiB, {found[f'put p50: {PEER}']:.2f} ms,"
        f" {found[f'list(limit={LISTED}): {PEER}']:.0f} ms",
    )
    report.save()


if __name__ == "__main__":
    main()
