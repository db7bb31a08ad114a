"""SIGKILL at random moments of apply: each host file is old or new, and the next run completes."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from tests.agentfs.test_apply import leftovers, of_branch, of_host, put

from agentfs import AgentFS
from agentfs.hostwrite import is_own

Length = Callable[[int, int], int]
Record = Callable[[str, object], None]
FILES = 40


def lay(host: Path) -> None:
    """Make a host tree."""
    for number in range(FILES):
        for name in ("changes", "goes", "becomes"):
            place = host / name / str(number % 4)
            place.mkdir(parents=True, exist_ok=True)
            (place / str(number)).write_bytes(b"old" * number * 1000)


def work(fs: AgentFS) -> None:
    """Change all of it in the branch."""
    with fs.transaction():
        for number in range(FILES):
            here = f"{number % 4}/{number}"
            fs.write(f"/p/changes/{here}", b"new" * number * 2000)
            put(fs, f"/p/made/{here}", "made")
            if number % 4:
                fs.remove(f"/p/becomes/{here}")
                put(fs, f"/p/becomes/{here}/below", "x")
        for number in range(4):
            fs.chmod(f"/p/made/{number}", 0o555)
            fs.chmod(f"/p/changes/{number}", 0o711)
        fs.remove("/p/goes/0", recursive=True)
        fs.rename("/p/goes/1", "/p/goes/moved")
        fs.rename("/p/goes/2", "/p/aside")
        fs.rename("/p/goes/3", "/p/goes/2")
        fs.rename("/p/aside", "/p/goes/3")
        fs.remove("/p/becomes/0", recursive=True)
        fs.symlink("../changes", "/p/becomes/0")


def child(path: Path, pipe: int) -> None:
    """Apply, telling each step."""

    def tell() -> None:
        os.write(pipe, b".")

    try:
        with AgentFS.open(path) as fs:
            tell()
            fs.apply(progress=lambda _what, _count: tell())
    finally:
        os._exit(1)


def kill(path: Path, chance: random.Random, most: int) -> bool:
    """Run apply and kill it after some steps; say whether it was not done yet."""
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        os.close(ours)
        child(path, theirs)
    os.close(theirs)
    wanted = chance.randrange(most) if chance.random() < 0.9 else 0
    for _ in range(wanted):
        if not os.read(ours, 1):
            break
    select.select([], [], [], chance.random() * 0.004)
    os.kill(process, signal.SIGKILL)
    os.close(ours)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def assert_old_or_new(host: Path, old: dict[str, object], new: dict[str, object]) -> int:
    """Compare each host path with both states; return how many are new."""
    every = of_host(host).items()
    found = {each: entry for each, entry in every if not is_own(os.path.basename(each))}
    for path in old.keys() | new.keys() | found.keys():
        allowed = [old.get(path), new.get(path)]
        now = found.get(path)
        kinds = {each[0] if isinstance(each, tuple) else None for each in allowed}
        if now is None and None not in kinds:
            assert len(kinds) == 2, (path, "only what becomes another kind may be missing")
        elif now is not None and now[2] is None:
            assert now[0] in kinds, (path, "a directory's mode is set last")
        else:
            assert now in allowed, path
    return sum(found.get(path) == new.get(path) != old.get(path) for path in old.keys() | new)


def test_kills_leave_old_or_new_files_and_the_next_run_completes(
    tmp_path: Path, length: Length, record_property: Record
) -> None:
    """After each kill the volume is sound; in the end host and branch are the same."""
    chance = random.Random(11)
    kills = partly = 0
    for number in range(length(2, 200)):
        place = tmp_path / str(number)
        host, path = place / "host", place / "a.afs"
        lay(host)
        with AgentFS.open(path) as fs:
            fs.overlay(host, "/p")
            fs.fork("before")
            work(fs)
            steps = len(list(fs.host_diff()))
            old, new = of_host(host), of_branch(fs)
        for _ in range(length(3, 4)):
            killed = kill(path, chance, steps + 20)
            done = assert_old_or_new(host, dict(old), dict(new))
            kills += killed
            partly += 0 < done < steps
            with AgentFS.open(path) as fs:
                assert fs.fsck() == []
                assert of_branch(fs) == new
        with AgentFS.open(path) as fs:
            left = fs.apply().conflicts
            assert not left, (number, left)
            assert (list(fs.host_diff()), fs.host_status()) == ([], [])
            assert of_host(host) == of_branch(fs) == new
            assert leftovers(host) == []
            before = fs.on("before")
            assert of_branch(before) == old
            assert fs.fsck(read_data=True) == []
            assert fs.verify_journal().ok
        shutil.rmtree(place)
    assert kills
    assert partly, "no kill fell into the middle of a run"
    record_property("figures", f"{kills} kills, {partly} of them with a part written")
