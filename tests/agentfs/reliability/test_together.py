"""Processes, threads and tasks on one volume: right results, no lock error, a bounded wait."""

from __future__ import annotations

import asyncio
import json
import os
import select
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations_with_replacement, pairwise
from pathlib import Path
from typing import Any

from agentfs import AgentFS, AsyncAgentFS, MergeConflict

Length = Callable[[int, int], int]
Record = Callable[[str, object], None]
BUSY_S = 30.0


class _Worker:
    """One process's side of a pair: its own directory, branch and numbers."""

    def __init__(self, fs: AgentFS, name: str) -> None:
        """Make what its operations need."""
        self.fs = fs
        self.name = name
        self.number = 0
        self.home = f"/{name}"
        fs.mkdir(self.home)
        fs.write(f"{self.home}/kept", name)
        fs.snapshot(f"start-{name}")
        self.side = fs.fork(f"side-{name}")

    def run(self, operation: str, times: int) -> None:
        """Do one operation some times; each checks its own result."""
        for _ in range(times):
            self.number += 1
            getattr(self, operation)()

    def _new(self) -> str:
        return f"{self.home}/{self.number}"

    def do_read(self) -> None:
        found = self.fs.read("/shared")
        assert len(found) == 9000
        assert len(set(found)) == 1, "a torn read"

    def do_write(self) -> None:
        self.fs.write("/shared", self.name.encode() * 9000)

    def do_append(self) -> None:
        self.fs.append("/log", f"{self.name}{self.number}\n")

    def do_patch(self) -> None:
        with self.fs.open("/patched", "r+b") as file:
            file.seek(ord(self.name) - ord("a"))
            file.write(self.name.encode())

    def do_truncate(self) -> None:
        self.fs.write(self._new(), bytes(9000))
        self.fs.truncate(self._new(), 5)
        assert self.fs.read(self._new()) == bytes(5)

    def do_rename(self) -> None:
        self.fs.rename(f"{self.home}/kept", self._new())
        self.fs.rename(self._new(), f"{self.home}/kept")

    def do_exchange(self) -> None:
        """Both move the same file: one finds it, or the other has it."""
        for source, target in (("/here", "/there"), ("/there", "/here")):
            try:
                self.fs.rename(source, target)
            except FileNotFoundError:
                continue

    def do_remove(self) -> None:
        self.fs.write(self._new(), b"x")
        self.fs.remove(self._new())
        assert not self.fs.exists(self._new())

    def do_directories(self) -> None:
        self.fs.mkdir(f"{self._new()}/below", parents=True)
        self.fs.rmdir(f"{self._new()}/below")
        self.fs.remove(self._new(), recursive=True)

    def do_copy(self) -> None:
        self.fs.copy("/tree", self._new())
        self.fs.write(f"{self._new()}/f", self.name)
        assert self.fs.read("/tree/f") == b"tree"
        self.fs.remove(self._new(), recursive=True)

    def do_attributes(self) -> None:
        self.fs.chmod("/shared", 0o600)
        self.fs.setxattr("/tree", f"user.{self.name}", b"x")
        assert self.fs.getxattr("/tree", f"user.{self.name}") == b"x"

    def do_fork(self) -> None:
        made = self.fs.fork(f"{self.name}-{self.number}")
        made.write("/only", self.name)
        assert not self.fs.exists("/only")
        self.fs.delete_branch(made.branch)

    def do_merge(self) -> None:
        self.side.write(self._new(), self.name)
        self.fs.merge(self.side.branch)
        assert self.fs.read(self._new()) == self.name.encode()

    def do_merge_shared(self) -> None:
        """Merge from the main branch, which the other one is changing."""
        try:
            self.side.merge("main")
        except MergeConflict:
            self.side.restore("main")

    def do_snapshot(self) -> None:
        self.fs.snapshot(f"{self.name}.{self.number}", "pair")
        assert self.fs.at(f"{self.name}.{self.number}").read(f"{self.home}/kept")

    def do_restore(self) -> None:
        self.fs.write(f"{self.home}/kept", b"other")
        self.fs.restore(f"start-{self.name}", paths=[f"{self.home}/kept"])
        assert self.fs.read(f"{self.home}/kept") == self.name.encode()

    def do_restore_branch(self) -> None:
        self.side.write("/lost", b"x")
        self.side.restore(f"start-{self.name}")
        assert not self.side.exists("/lost")

    def do_transaction(self) -> None:
        with self.fs.transaction():
            count = int(self.fs.read("/count"))
            self.fs.write("/count", str(count + 1))

    def do_list(self) -> None:
        names = self.fs.listdir("/")
        assert {"shared", "tree", self.name} <= set(names)
        assert "kept" in {each.name for each in self.fs.scandir(self.home)}

    def do_walk(self) -> None:
        assert ("/tree", [], ["f"]) in list(self.fs.walk("/tree"))
        assert "/tree/f" in list(self.fs.glob("/**/f"))

    def do_grep(self) -> None:
        assert [each.path for each in self.fs.grep("tree", "/tree")] == ["/tree/f"]

    def do_diff(self) -> None:
        assert self.home not in {each.path for each in self.fs.diff("main", self.side.branch)}

    def do_journal(self) -> None:
        rows = self.fs.log(5)
        assert [each.seq for each in rows] == sorted((each.seq for each in rows), reverse=True)

    def do_fsck(self) -> None:
        assert self.fs.fsck() == []

    def do_stats(self) -> None:
        assert self.fs.stats().files >= 5

    def do_gc(self) -> None:
        if hasattr(self.fs, "gc"):
            self.fs.gc()


OPERATIONS = [each for each in vars(_Worker) if each.startswith("do_")]


def prepare(path: Path) -> None:
    """Make what the two processes share."""
    with AgentFS.open(path) as fs:
        fs.write("/shared", b"z" * 9000)
        fs.write("/log", b"")
        fs.write("/patched", b"..........")
        fs.write("/here", b"moved")
        fs.write("/count", b"0")
        fs.mkdir("/tree")
        fs.write("/tree/f", b"tree")


def serve(path: Path, name: str, orders: int, answers: int) -> None:
    """Be one of the two processes: obey until the orders end."""
    try:
        fs = AgentFS.open(path, principal=name)
        worker = _Worker(fs, name)
        os.write(answers, b"ready\n")
        with os.fdopen(orders) as lines:
            for line in lines:
                operation, times = json.loads(line)
                worker.run(operation, times)
                os.write(answers, b"done\n")
        fs.close()
        os._exit(0)
    except BaseException:
        os.write(answers, (json.dumps(traceback.format_exc()) + "\n").encode())
    finally:
        os._exit(1)


@contextmanager
def workers(path: Path) -> Iterator[list[tuple[int, Any]]]:
    """Start two processes; yields what orders are written to and answers read from."""
    running: list[tuple[int, int, Any]] = []
    for name in "ab":
        order_in, order_out = os.pipe()
        answer_in, answer_out = os.pipe()
        process = os.fork()
        if not process:
            for _, orders, answers in running:
                os.close(orders)
                answers.close()
            os.close(order_out)
            serve(path, name, order_in, answer_out)
        os.close(order_in)
        os.close(answer_out)
        running.append((process, order_out, os.fdopen(answer_in)))
    try:
        yield [(orders, answers) for _, orders, answers in running]
    finally:
        for _, orders, _ in running:
            os.close(orders)
        for process, _, answers in running:
            os.waitpid(process, 0)
            answers.close()


def answer(answers: Any) -> str:
    """Return a process's answer; a bounded wait."""
    assert select.select([answers], [], [], 60)[0], "no answer: a process hangs"
    return answers.readline().strip()


def test_every_pair_of_operations_in_two_processes(
    tmp_path: Path, length: Length, record_property: Record
) -> None:
    """At the same time each does its own: no error, right results, nothing lost, fsck clean."""
    path, times = tmp_path / "a.afs", length(1, 20)
    prepare(path)
    done = dict.fromkeys(OPERATIONS, 0)
    with workers(path) as both:
        assert [answer(answers) for _, answers in both] == ["ready", "ready"]
        for pair in combinations_with_replacement(OPERATIONS, 2):
            for (orders, _), operation in zip(both, pair, strict=True):
                os.write(orders, (json.dumps([operation, times]) + "\n").encode())
                done[operation] += times
            for (_, answers), operation in zip(both, pair, strict=True):
                said = answer(answers)
                assert said == "done", (pair, operation, json.loads(said or '"died"'))
    with AgentFS.open(path) as fs:
        lines = fs.read("/log").decode().splitlines()
        assert len(lines) == len(set(lines)) == done["do_append"]
        assert int(fs.read("/count")) == done["do_transaction"]
        assert fs.read("/patched") == b"ab........"
        assert [fs.exists("/here"), fs.exists("/there")].count(True) == 1
        assert fs.fsck(read_data=True) == []
        assert fs.verify_journal().ok
        order = [each.principal for each in fs.journal() if each.principal]
        turns = sum(one != other for one, other in pairwise(order))
        pairs = len(OPERATIONS) * (len(OPERATIONS) + 1) // 2
        record_property("figures", f"{pairs} pairs, {times} times each, {turns} turns of writers")
        assert turns > len(OPERATIONS), "the two processes never ran at the same time"


def write_for(path: Path, name: int, seconds: float, report: int) -> None:
    """Write until the time is over; report the number of writes and the longest wait."""
    status = 1
    try:
        with AgentFS.open(path, busy_s=BUSY_S) as fs:
            end, longest, count = time.monotonic() + seconds, 0.0, 0
            while (begin := time.monotonic()) < end:
                fs.write(f"/{name}-{count % 50}", b"%d" % count * 500)
                if count % 10 == 9:
                    with fs.transaction():
                        fs.write("/count", str(int(fs.read("/count")) + 1))
                longest = max(longest, time.monotonic() - begin)
                count += 1
        os.write(report, json.dumps([count, longest]).encode() + b"\n")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def test_eight_processes_write_without_a_lock_error(
    tmp_path: Path, length: Length, record_property: Record
) -> None:
    """All the time all eight write: each succeeds, each waits less than the bound."""
    path, seconds = tmp_path / "a.afs", length(2, 30)
    with AgentFS.open(path) as fs:
        fs.write("/count", b"0")
    reports, ours = os.pipe()
    running: list[int] = []
    for name in range(8):
        process = os.fork()
        if not process:
            write_for(path, name, seconds, ours)
        running.append(process)
    os.close(ours)
    with os.fdopen(reports) as lines:
        found = [json.loads(line) for line in lines]
    assert [os.waitpid(each, 0)[1] for each in running] == [0] * 8
    counts, longest = [each[0] for each in found], max(each[1] for each in found)
    record_property(
        "figures",
        f"{seconds} s, {sum(counts)} writes, longest wait {longest:.2f} s, bound {BUSY_S} s",
    )
    assert min(counts) > 0
    assert longest < BUSY_S
    with AgentFS.open(path) as fs:
        assert int(fs.read("/count")) == sum(each // 10 for each in counts)
        for name, count in enumerate(counts_by_name(fs)):
            assert count == min(counts_of(fs, name), 50)
        assert fs.fsck(read_data=True) == []


def counts_by_name(fs: AgentFS) -> list[int]:
    """Return how many files each of the eight left."""
    names = [each.split("-")[0] for each in fs.listdir("/") if "-" in each]
    return [names.count(str(name)) for name in range(8)]


def counts_of(fs: AgentFS, name: int) -> int:
    """Return how many writes one of the eight made, as its files say."""
    found = [fs.read(f"/{each}") for each in fs.listdir("/") if each.startswith(f"{name}-")]
    assert all(len(each) % 500 == 0 for each in found), "a torn file"
    return max(int(each[: len(each) // 500]) for each in found) + 1


def test_fifty_tasks_share_one_handle(tmp_path: Path, length: Length) -> None:
    """Tasks that write, read, count in transactions, fork and list get what they wrote."""
    turns = length(4, 100)

    async def task(fs: AsyncAgentFS, name: int) -> None:
        for turn in range(turns):
            await fs.append("/log", f"{name}.{turn}\n")
            await fs.write(f"/{name}", f"{turn}" * 1000)
            assert await fs.read(f"/{name}") == f"{turn}".encode() * 1000
            await fs.transaction(
                lambda sync: sync.write("/count", str(int(sync.read("/count")) + 1))
            )
            assert f"{name}" in await fs.listdir("/")
        branch = await fs.fork(f"branch-{name}")
        await branch.write("/own", str(name))

    async def main() -> None:
        async with await AsyncAgentFS.open(tmp_path / "a.afs") as fs:
            await fs.write("/count", "0")
            await asyncio.gather(*(task(fs, name) for name in range(50)))

    asyncio.run(main())
    with AgentFS.open(tmp_path / "a.afs") as fs:
        assert int(fs.read("/count")) == 50 * turns
        assert len(set(fs.read("/log").splitlines())) == 50 * turns
        assert all(fs.at(f"branch-{name}").read("/own") == b"%d" % name for name in range(50))
        assert fs.fsck(read_data=True) == []


def test_threads_do_all_operations_on_one_handle(tmp_path: Path, length: Length) -> None:
    """Eight threads run through the operations of the pairs, each in another order."""
    path = tmp_path / "a.afs"
    prepare(path)
    failed: list[str] = []
    with AgentFS.open(path) as fs:
        all_workers = [_Worker(fs, name) for name in "abcdefgh"]

        def work(worker: _Worker, first: int) -> None:
            try:
                for operation in OPERATIONS[first:] + OPERATIONS[:first]:
                    worker.run(operation, length(1, 20))
            except BaseException:
                failed.append(traceback.format_exc())

        threads = [
            threading.Thread(target=work, args=(each, 3 * number))
            for number, each in enumerate(all_workers)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        assert failed == []
        assert not any(each.is_alive() for each in threads)
        assert int(fs.read("/count")) == 8 * length(1, 20)
        assert fs.read("/patched") == b"abcdefgh.."
        assert fs.fsck(read_data=True) == []
