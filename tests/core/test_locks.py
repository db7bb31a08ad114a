"""Locks between processes, and asking who holds one."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from fmos.storage import locks


def test_one_holds_a_lock_and_says_who_that_is(tmp_path: Path) -> None:
    """The second gets None at once, and can read whom to name; then the lock is free again."""
    path = tmp_path / "it.lock"
    path.write_text("a longer name that was there before")
    with locks.tried(path, "first") as held:
        assert held is not None
        with locks.tried(path, "second") as other:
            assert other is None
        assert locks.holder(path) == "first"
    assert locks.holder(path) is None
    with locks.tried(path) as again:
        assert again is not None
    assert path.read_text() == "first"


def test_asking_makes_no_file(tmp_path: Path) -> None:
    """Nobody holds a lock whose file is not there, and it is not made to find out."""
    assert locks.holder(tmp_path / "it.lock") is None
    assert not os.listdir(tmp_path)


def test_who_only_asks_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """While others ask all the time, every start takes the lock, though it meets them."""
    path, end = tmp_path / "it.lock", threading.Event()
    path.touch()

    def ask() -> None:
        while not end.is_set():
            locks.holder(path)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(200):
            with locks.tried(path) as held:
                assert held is not None
    finally:
        end.set()
        for thread in asking:
            thread.join()


def test_a_start_waits_for_one_who_asks(tmp_path: Path) -> None:
    """A shared lock is waited for; it is let go of here only once the start has met it."""
    path = tmp_path / "it.lock"
    taken: list[bool] = []

    def start() -> None:
        with locks.tried(path) as held:
            taken.append(held is not None)

    with open(path, "w") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        starting = threading.Thread(target=start)
        starting.start()
        starting.join(0.05)
        assert not taken
    starting.join(5)
    assert taken == [True]


def test_of_many_that_start_at_once_one_holds_the_lock(tmp_path: Path) -> None:
    """Processes that meet each other do not all give way, and never are two of them owners."""
    path = tmp_path / "it.lock"
    begin, out, end = os.pipe(), os.pipe(), os.pipe()
    children = [_starter(path, begin, out, end) for _ in range(8)]
    os.close(begin[1])  # lets them go
    found = b"".join(os.read(out[0], 1) for _ in children)
    os.close(end[1])
    for child in children:
        os.waitpid(child, 0)
    for descriptor in (begin[0], *out, end[0]):
        os.close(descriptor)
    assert sorted(found) == sorted(b"h-------")


def _starter(path: Path, begin: tuple[int, int], out: tuple[int, int], end: tuple[int, int]) -> int:
    child = os.fork()
    if child:
        return child
    os.close(begin[1])
    os.close(end[1])
    os.read(begin[0], 1)
    with locks.tried(path) as held:
        os.write(out[1], b"h" if held is not None else b"-")
        os.read(end[0], 1)  # until all have tried
    os._exit(0)


def test_the_file_of_a_lock_may_go_with_it(tmp_path: Path) -> None:
    """Who holds a lock for once leaves no file; who does not get it does not remove it."""
    path = tmp_path / "it.lock"
    with locks.tried(path, remove=True) as held:
        assert held is not None
        with locks.tried(path, remove=True) as other:
            assert other is None
        assert path.exists()
    assert not path.exists()
