"""SIGKILL while an overlay's directories are listed and its files are taken in."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from tests.agentfs.hosttree import seen

from agentfs import AgentFS

Length = Callable[[int, int], int]
Record = Callable[[str, object], None]
DIRECTORIES, FILES = 24, 12
KILLS_PER_VOLUME = 6


def make_host(root: Path) -> None:
    """Make a tree with small and larger files and one large directory."""
    for number in range(DIRECTORIES):
        here = root / f"g{number % 4}" / f"d{number}"
        here.mkdir(parents=True)
        for index in range(FILES):
            (here / f"f{index}").write_bytes(b"%d %d\n" % (number, index) * (1 + index * 900))
    (root / "many").mkdir()
    for number in range(300):
        (root / "many" / f"m{number}").write_bytes(b"%d" % number)


def paths(seed: int) -> list[str]:
    """Return the files that a child works on, in its order."""
    found = [f"/p/g{d % 4}/d{d}/f{index}" for d in range(DIRECTORIES) for index in range(FILES)]
    found += [f"/p/many/m{number}" for number in range(0, 300, 30)]
    random.Random(seed).shuffle(found)
    return found


def mark(seed: int) -> bytes:
    """Return what the child of a seed adds to files."""
    return b"mark %d\n" % seed


def child(volume: Path, seed: int, pipe: int) -> None:
    """List, read and change files until killed, and acknowledge each changed one."""
    chance = random.Random(seed)
    try:
        fs = AgentFS.open(volume)
        os.write(pipe, b".")
        for path in paths(seed):
            above = path.rpartition("/")[0]
            if chance.random() < 0.3:
                with fs.reading():
                    fs.read(path)
                    fs.scandir(above)
            if chance.random() < 0.1:
                with fs.transaction():
                    fs.append(path, mark(seed))
                    fs.setxattr(path, "user.seen", b"1")
            else:
                fs.append(path, mark(seed))
            os.write(pipe, b".")
    finally:
        os._exit(1)


def killed(volume: Path, seed: int, chance: random.Random) -> int:
    """Run a child and kill it at a random moment; return how many files it acknowledged."""
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        os.close(ours)
        child(volume, seed, theirs)
    os.close(theirs)
    wanted, count = chance.choice([0, 1, 2, 5, 20, 60, 150]), 0
    while count < wanted and os.read(ours, 1):
        count += 1
    select.select([], [], [], chance.random() * 0.005)
    os.kill(process, signal.SIGKILL)
    while more := os.read(ours, 4096):
        count += len(more)
    os.close(ours)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1]), (seed, "the child ended by itself")
    return max(count - 1, 0)


def check(volume: Path, host: Path, seed: int, done: int) -> None:
    """Everything acknowledged is there, at most one more, and the volume is sound."""
    with AgentFS.open(volume) as fs:
        assert (seed, fs.fsck(read_data=True)) == (seed, [])
        order = paths(seed)
        marked = [mark(seed) in fs.read(path)[-40:] for path in order]
        assert marked[:done] == [True] * done, seed
        assert not any(marked[done + 1 :]), seed


def complete(volume: Path, host: Path) -> None:
    """The same work, begun again, finds every directory and file and finishes."""
    with AgentFS.open(volume) as fs:
        for path in paths(0):
            original = (host / path.removeprefix("/p/")).read_bytes()
            assert fs.read(path).startswith(original)
            fs.append(path, b"complete")
        names = {path for path, _, _ in os.walk(host)}
        assert {str(host) + path[2:] for path, _, _ in fs.walk("/p")} == names
        changed = {each.path for each in fs.host_diff() if each.kind == "modified"}
        assert changed == set(paths(0))
        assert fs.fsck(read_data=True) == []


def test_kills_while_an_overlay_is_first_used(
    tmp_path: Path, length: Length, record_property: Record
) -> None:
    """After each kill fsck is clean, no acknowledged change is lost, and the work completes."""
    host = tmp_path / "host"
    make_host(host)
    before = seen(host)
    chance = random.Random(11)
    kills, acknowledged = length(6, 400), 0
    volume = tmp_path / "none"
    for number in range(kills):
        if number % KILLS_PER_VOLUME == 0:
            volume = tmp_path / f"{number}.afs"
            with AgentFS.open(volume) as fs:
                fs.overlay(host, "/p")
        done = killed(volume, number + 1, chance)
        acknowledged += done
        check(volume, host, number + 1, done)
        if number % KILLS_PER_VOLUME == KILLS_PER_VOLUME - 1:
            complete(volume, host)
            volume.unlink()
    assert seen(host) == before
    shutil.rmtree(host)
    record_property("figures", f"{kills} kills, {acknowledged} changed files before them")
