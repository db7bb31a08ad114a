"""Threads and processes use one overlay at once, while forks come and go and gc runs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.agentfs.hosttree import seen

from agentfs import AgentFS

Length = Callable[[int, int], int]
GROUPS, DIRECTORIES, FILES = 3, 8, 6


def make_host(root: Path) -> None:
    """Make a tree of three levels."""
    for number in range(GROUPS * DIRECTORIES):
        here = root / f"g{number % GROUPS}" / f"d{number // GROUPS}"
        here.mkdir(parents=True)
        for index in range(FILES):
            (here / f"f{index}").write_bytes(b"%d" % index * (1 + index * 2000))


def body(index: int) -> bytes:
    """Return what the host has in a file."""
    return b"%d" % index * (1 + index * 2000)


def work(fs: AgentFS, name: str, steps: int, stop: threading.Event | None = None) -> None:
    """Fork, read and change at random, compare with what the host has, throw the fork away."""
    chance = random.Random(name)
    for number in range(steps):
        if stop is not None and stop.is_set():
            return
        fork = fs.fork(f"{name}-{number}")
        directory = f"/p/g{chance.randrange(GROUPS)}/d{chance.randrange(DIRECTORIES)}"
        index = chance.randrange(FILES)
        with fork.reading():
            assert fork.read(f"{directory}/f{index}") == body(index)
            assert len(fork.listdir(directory)) == FILES
        fork.append(f"{directory}/f{index}", name)
        assert fork.read(f"{directory}/f{index}") == body(index) + name.encode()
        fork.rename(directory, f"/{name}")
        assert fork.read(f"/{name}/f{index}") == body(index) + name.encode()
        assert not fork.exists(directory)
        with fs.reading():
            assert fs.read(f"{directory}/f{index}") == body(index)
        kinds = {each.kind for each in fs.diff("main", fork.branch)}
        assert kinds == {"added", "removed"}
        fs.delete_branch(fork.branch)


OTHER = """
import sys
from agentfs import AgentFS
from tests.agentfs.reliability.test_overlay_together import work
with AgentFS.open(sys.argv[1], busy_s=60) as fs:
    work(fs, sys.argv[2], int(sys.argv[3]))
"""


def test_many_use_one_overlay_at_once(tmp_path: Path, length: Length) -> None:
    """Nobody fails or sees what others did, every look-up agrees with the host, fsck is clean."""
    host, steps = tmp_path / "host", length(6, 100)
    make_host(host)
    before = seen(host)
    with AgentFS.open(tmp_path / "a.afs", busy_s=60) as fs:
        fs.overlay(host, "/p")
        root = str(Path(__file__).parents[3])
        paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        others = [
            subprocess.Popen(
                [sys.executable, "-c", OTHER, str(fs.path), f"process{number}", str(steps)],
                env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True,
            )
            for number in range(2)
        ]  # fmt: skip
        stop = threading.Event()

        def collect() -> None:
            while not stop.is_set():
                fs.gc(retention=0)

        failed: list[str] = []

        def guarded(number: int) -> None:
            try:
                work(fs, f"thread{number}", steps, stop)
            except BaseException:
                failed.append(traceback.format_exc())
                raise

        with ThreadPoolExecutor(4) as pool:
            collecting = pool.submit(collect)
            for each in [pool.submit(guarded, number) for number in range(3)]:
                each.exception(600)
            errors = [each.communicate(timeout=600)[1] for each in others]
            stop.set()
            collecting.result(60)
        assert [*failed, *(each for each in errors if each)] == []
        assert [each.name for each in fs.branches()] == ["main"]
        assert list(fs.host_diff()) == []
        assert fs.fsck(read_data=True) == []
    assert seen(host) == before
