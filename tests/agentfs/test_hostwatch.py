"""`import --watch`: a directory of a branch follows one of the host, whatever happens there."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentfs import AgentFS, HostError
from agentfs.hostwatch import HostWatch, watch_host

WAIT_S = 10.0


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A small directory of the host."""
    path = tmp_path / "host"
    (path / "dir").mkdir(parents=True)
    (path / "one").write_text("1")
    (path / "dir" / "two").write_text("2")
    return path


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A volume beside it, as its watcher opens it."""
    with AgentFS.open(tmp_path / "a.afs", principal="watcher") as opened:
        yield opened


def names(changes: list[Any]) -> list[tuple[str, str]]:
    """Return changes as pairs, sorted."""
    return sorted((each.path, each.kind) for each in changes)


def tree(fs: AgentFS, path: str = "/t") -> dict[str, Any]:
    """Return what is below a path: mode and bytes of files, mode of directories, link targets."""
    found: dict[str, Any] = {}
    with fs.reading():
        for directory, below, files in fs.walk(path):
            for name in (*below, *files):
                full = f"{directory}/{name}"
                info = fs.lstat(full)
                content = fs.readlink(full) if info.is_symlink else None
                content = fs.read(full) if info.is_file else content
                found[full[len(path) + 1 :]] = (info.kind, content, info.is_symlink or info.mode)
    return found


def host_tree(host: Path) -> dict[str, Any]:
    """Return the same of a host directory."""
    found: dict[str, Any] = {}
    for directory, below, files in os.walk(host):
        for name in (*below, *files):
            path = Path(directory, name)
            mode = path.is_symlink() or path.stat().st_mode & 0o7777
            kind, content = "directory", None
            if path.is_symlink():
                kind, content = "symlink", os.readlink(path)
            elif path.is_file():
                kind, content = "file", path.read_bytes()
            found[str(path.relative_to(host))] = (kind, content, mode)
    return found


class Following:
    """A watch on a thread of its own."""

    def __init__(self, watch: HostWatch, stop: threading.Event) -> None:
        """Begin, and wait until the first import is done."""
        self.bursts: list[list[tuple[str, str]]] = []
        self.error: BaseException | None = None
        self.ready = threading.Event()
        self.stop = stop
        self.thread = threading.Thread(target=self._run, args=(watch,))
        self.thread.start()
        assert self.ready.wait(WAIT_S)

    def _run(self, watch: HostWatch) -> None:
        try:
            for burst in watch:
                self.bursts.append(names(burst))
                self.ready.set()
        except HostError as error:
            self.error = error
        finally:
            self.ready.set()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, self.bursts
            time.sleep(0.01)


@contextmanager
def following(fs: AgentFS, host: Path, path: str = "/t", **options: Any) -> Iterator[Following]:
    """Keep a directory of the volume like one of the host while the body runs."""
    stop = threading.Event()
    found = Following(watch_host(fs, host, path, stop=stop, **options), stop)
    try:
        yield found
    finally:
        stop.set()
        found.thread.join(WAIT_S)
        assert not found.thread.is_alive()


@pytest.mark.parametrize("poll_s", [None, 0.05])
def test_what_happens_on_the_host_happens_here(
    fs: AgentFS, host: Path, poll_s: float | None
) -> None:
    """Files made, written, removed, moved and new directories come, notified or polled."""
    with following(fs, host, poll_s=poll_s) as watch:
        assert watch.bursts == [[("/t/dir", "added"), ("/t/one", "added")]]
        (host / "one").write_text("changed")
        (host / "new" / "deep").mkdir(parents=True)
        (host / "new" / "deep" / "file").write_text("x")
        (host / "dir" / "two").unlink()
        (host / "link").symlink_to("one")
        watch.until(lambda: tree(fs) == host_tree(host))
        assert fs.read("/t/one") == b"changed"
        assert {row.principal for row in fs.journal()} == {"watcher"}


def test_one_burst_is_one_transaction(fs: AgentFS, host: Path) -> None:
    """Nobody sees a part of what happened together on the host."""
    watch = watch_host(fs, host, "/t")
    assert names(next(watch)) == [("/t/dir", "added"), ("/t/one", "added")]
    for number in range(50):
        (host / f"{number}").write_text("x")
    (host / "one").unlink()
    seen: set[int] = set()
    with AgentFS.open(fs.path) as other:
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                seen.add(len(other.listdir("/t")))

        reader = threading.Thread(target=look)
        reader.start()
        assert len(next(watch)) == 51
        done.set()
        reader.join(WAIT_S)
        assert len(other.listdir("/t")) == 51
    watch.close()
    assert seen <= {2, 51}


def test_renames_keep_the_history(fs: AgentFS, host: Path) -> None:
    """A renamed file or directory is the same node with a rename in the journal."""
    with following(fs, host) as watch:
        file, directory = fs.stat("/t/one").node, fs.stat("/t/dir").node
        (host / "one").rename(host / "dir" / "uno")
        (host / "dir").rename(host / "passing")
        (host / "passing").rename(host / "home")
        watch.until(lambda: tree(fs) == host_tree(host))
        assert fs.stat("/t/home").node == directory
        moved = [(row.path, row.path2) for row in fs.journal(operation="rename")]
        assert ("/t/dir", "/t/home") in moved
        (host / "home" / "uno").rename(host / "eins")
        watch.until(lambda: tree(fs) == host_tree(host))
        (host / "home" / "two").write_text("still watched under the new name")
        watch.until(lambda: tree(fs) == host_tree(host))
        (host / "eins").rename(host / "ein")
        watch.until(lambda: fs.exists("/t/ein"))
        assert fs.stat("/t/ein").node in {file, fs.stat("/t/ein").node}
        assert ("/t/eins", "/t/ein") in [
            (row.path, row.path2) for row in fs.journal(operation="rename")
        ]


def test_an_editor_that_renames_over_a_file_modifies_it(fs: AgentFS, host: Path) -> None:
    """A temporary file renamed over another one is one modification, and leaves no trace."""
    with following(fs, host) as watch:
        start = list(fs.journal())[-1].seq
        (host / ".one.swp").write_text("new text")
        os.replace(host / ".one.swp", host / "one")
        watch.until(lambda: fs.read("/t/one") == b"new text")
        assert watch.bursts[1:] == [[("/t/one", "modified")]]
        rows = [(row.operation, row.path) for row in fs.journal(since=start)]
        assert rows == [("put", "/t/one")]
        (host / "one").rename(host / "one~")  # and one that keeps the old file until the end
        (host / "one").write_text("newer text")
        (host / "one~").unlink()
        watch.until(lambda: fs.read("/t/one") == b"newer text")
        assert watch.bursts[2:] == [[("/t/one", "modified")]]


def test_same_size_and_time_do_not_hide_a_write(fs: AgentFS, host: Path) -> None:
    """A second write within one tick of the host's clock is seen; a mode counts too."""
    with following(fs, host) as watch:
        was = (host / "one").stat().st_mtime_ns
        (host / "one").write_text("9")
        os.utime(host / "one", ns=(was, was))
        watch.until(lambda: fs.read("/t/one") == b"9")
        (host / "one").chmod(0o700)
        watch.until(lambda: fs.stat("/t/one").mode == 0o700)


def test_a_growing_file_ends_up_whole(fs: AgentFS, host: Path) -> None:
    """A file that is written for longer than a burst is imported again until it is complete."""
    with following(fs, host, latest_s=0.1) as watch:
        wanted = b""
        with (host / "log").open("wb", buffering=0) as file:
            for number in range(40):
                line = b"%d " % number * 5000
                wanted += line
                file.write(line)
                watch.until(lambda: number % 10 != 5 or fs.exists("/t/log"))  # noqa: B023
        watch.until(lambda: fs.exists("/t/log") and fs.read("/t/log") == wanted)
    assert len(watch.bursts) > 2


@pytest.mark.parametrize("poll_s", [None, 0.03])
@pytest.mark.parametrize("seed", range(100, 200) if os.environ.get("AGENTFS_SOAK") else [16])
def test_random_changes_leave_both_sides_equal(
    fs: AgentFS, host: Path, seed: int, poll_s: float | None
) -> None:
    """After hundreds of random operations, at full speed, the directories are the same."""
    chance = random.Random(seed)
    with following(fs, host, quiet_s=0.01, latest_s=0.05, poll_s=poll_s) as watch:
        for _ in range(3):
            for _ in range(120):
                change(host, chance)
            watch.until(lambda: tree(fs) == host_tree(host))
    assert fs.fsck() == []


def change(host: Path, chance: random.Random) -> None:
    """Do one random thing below a host directory; some are refused, which is fine."""
    below = [Path(here) for here, _, _ in os.walk(host)]
    source = chance.choice(below) / chance.choice("abcd")
    target = chance.choice(below) / chance.choice("abcd")
    try:
        match chance.choice(("write", "write", "append", "mkdir", "tree", "move", "move", "remove",
                             "link", "mode")):  # fmt: skip
            case "write":
                source.write_bytes(chance.randbytes(chance.choice((0, 1, 1, 5000))))
            case "append":
                with source.open("ab") as file:
                    file.write(b"x")
            case "mkdir":
                source.mkdir()
            case "tree":
                (source / "a" / "b").mkdir(parents=True)
                (source / "a" / "b" / "c").write_text("deep")
            case "move":
                source.rename(target)
            case "remove":
                shutil.rmtree(source) if source.is_dir() else source.unlink()
            case "link":
                source.symlink_to(chance.choice(("a", "../b", "/nowhere")))
            case "mode":
                source.chmod(chance.choice((0o755, 0o700)), follow_symlinks=False)
    except (OSError, NotImplementedError):
        pass


def test_links_never_lead_out(fs: AgentFS, host: Path, tmp_path: Path) -> None:
    """A link is a link, also one that takes the place of a watched directory."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "two").write_text("secret")
    (host / "first").symlink_to(outside)
    (host / "dangling").symlink_to("nowhere")
    with following(fs, host) as watch:
        assert fs.readlink("/t/first") == str(outside)
        (host / "dir").rename(host / "kept")
        (host / "dir").symlink_to(outside)
        (outside / "two").write_text("more secret")
        (outside / "three").write_text("secret")
        watch.until(lambda: tree(fs) == host_tree(host))
        assert fs.readlink("/t/dir") == str(outside)
        assert not any(b"secret" in (content or b"") for _, content, _ in tree(fs).values()
                       if isinstance(content, bytes))  # fmt: skip


def test_the_volume_itself_and_excluded_names_stay_out(tmp_path: Path) -> None:
    """A volume in the watched directory does not watch itself; exclusion holds in new trees."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        watched = following(fs, tmp_path, "/", exclude=("*.pyc", "build/out"))
        with watched as watch:
            assert watch.bursts == [[]]
            (tmp_path / "build" / "out").mkdir(parents=True)
            (tmp_path / "build" / "out" / "big").write_text("x")
            (tmp_path / "build" / "x.pyc").write_text("x")
            (tmp_path / ".fmos").mkdir()
            (tmp_path / "build" / "kept").write_text("x")
            watch.until(lambda: fs.exists("/build/kept"))
            (tmp_path / "build" / "out" / "big").write_text("y")
            (tmp_path / "last").write_text("y")
            watch.until(lambda: fs.exists("/last"))
            assert len(watch.bursts) <= 4
        assert [path for path, _, _ in fs.walk("/")] == ["/", "/build"]
        assert fs.listdir("/build") == ["kept"]


def test_deletions_are_kept_when_asked(fs: AgentFS, host: Path) -> None:
    """`keep_deleted` keeps what goes on the host, `delete` removes at once what it has not."""
    fs.mkdir("/t")
    fs.write("/t/extra", "only here")
    with following(fs, host, keep_deleted=True) as watch:
        (host / "one").unlink()
        (host / "dir" / "two").rename(host / "moved")
        watch.until(lambda: fs.exists("/t/moved"))
        assert fs.listdir("/t") == ["dir", "extra", "moved", "one"]
        assert fs.exists("/t/dir/two")
    with following(fs, host, delete=True) as watch:
        assert tree(fs) == host_tree(host)
        assert ("/t/extra", "removed") in watch.bursts[0]


def test_lost_events_are_made_good(fs: AgentFS, host: Path) -> None:
    """When the kernel's queue overflows all is compared, and only what the host had is removed."""
    fs.mkdir("/t")
    fs.write("/t/extra", "never on the host")
    watch = watch_host(fs, host, "/t")
    next(watch)
    queued = Path("/proc/sys/fs/inotify/max_queued_events")
    if not queued.exists():
        pytest.skip("no inotify here")
    for number in range(int(queued.read_text()) // 2 + 10):
        (host / "one").chmod(0o600 + number % 2)
        (host / "dir" / "two").chmod(0o600 + number % 2)
    (host / "late").mkdir()
    (host / "late" / "file").write_text("x")
    (host / "one").unlink()
    changes = names(next(watch))
    assert ("/t/late", "added") in changes
    assert ("/t/one", "removed") in changes
    assert fs.read("/t/extra") == b"never on the host"
    (host / "late" / "second").write_text("x")  # a directory that no event told of is watched
    assert names(next(watch)) == [("/t/late/second", "added")]
    watch.close()


_LIMITED = """
import sys
from agentfs import AgentFS, HostError
from agentfs.hostwatch import watch_host
with AgentFS.open(sys.argv[1]) as fs:
    try:
        next(watch_host(fs, sys.argv[2], "/"))
    except HostError as error:
        print(error)
"""


def test_too_many_directories_say_the_way_out(tmp_path: Path) -> None:
    """The kernel's limit, for a directory below too, is an error that names the setting."""
    for number in range(20):
        (tmp_path / "host" / str(number)).mkdir(parents=True)
    limit = 'echo 10 > /proc/sys/user/max_inotify_watches && exec "$@"'
    command = ["unshare", "-Ur", "sh", "-c", limit, "sh", sys.executable, "-c", _LIMITED]
    ran = subprocess.run(
        [*command, str(tmp_path / "a.afs"), str(tmp_path / "host")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if ran.returncode:
        pytest.skip(f"no user namespace with a limit of its own here: {ran.stderr[-200:]}")
    assert "sysctl fs.inotify.max_user_watches=NUMBER" in ran.stdout
    assert "--poll SECONDS" in ran.stdout


@pytest.mark.parametrize("poll_s", [None, 0.05])
def test_a_directory_that_disappears_ends_the_watch(
    fs: AgentFS, host: Path, poll_s: float | None
) -> None:
    """It is an error, and what the volume has is not taken for deleted."""
    with following(fs, host, poll_s=poll_s) as watch:
        host.rename(host.with_name("elsewhere"))
        watch.until(lambda: watch.error is not None)
        assert "removed, moved or unmounted" in str(watch.error)
    assert fs.read("/t/one") == b"1"
    with pytest.raises(HostError, match="it is no directory"):
        watch_host(fs, host, "/t")


def test_stop_ends_the_first_import_too(fs: AgentFS, host: Path) -> None:
    """Whoever asks for the end gets it, and no half batch stays."""
    for number in range(200):
        (host / "dir" / str(number)).write_text("x")
    stop = threading.Event()
    watch = watch_host(fs, host, "/t", stop=stop, progress=lambda _: stop.set())
    assert list(watch) == []
    assert fs.fsck() == []
    assert not fs.exists("/t/dir")


def test_a_busy_volume_delays_a_burst(tmp_path: Path, host: Path) -> None:
    """Another writer that takes longer than the wait allows does not end the watch."""
    with AgentFS.open(tmp_path / "b.afs") as other:
        fs = AgentFS.open(tmp_path / "b.afs", busy_s=0.05)
        with fs, following(fs, host) as watch:
            with other.transaction():
                (host / "one").write_text("late")
                watch.thread.join(0.5)
                assert watch.thread.is_alive()
            watch.until(lambda: other.read("/t/one") == b"late")


def test_an_import_takes_links_as_links(fs: AgentFS, host: Path, tmp_path: Path) -> None:
    """Also unwatched, nothing comes from where a link leads; patterns hold in new trees."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("secret")
    (host / "link").symlink_to(tmp_path / "secret")
    (host / "dangling").symlink_to("nowhere")
    (host / "new" / "out").mkdir(parents=True)
    (host / "new" / "out" / "big").write_text("x")
    changes, totals = fs.import_tree(host, "/t", exclude=("new/out",))
    assert (totals.symlinks, totals.failed) == (2, [])
    shutil.rmtree(host / "new" / "out")
    assert tree(fs) == host_tree(host)
    assert fs.import_tree(host, "/t")[0] == []
    assert len(changes) == 5


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the `agentfs` command in a process that is ended with the body."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agentfs.cli", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_command_prints_a_line_per_burst_and_a_summary(tmp_path: Path, host: Path) -> None:
    """One JSON document per line; Ctrl-C ends it with a summary and exit code 0."""
    volume = tmp_path / "c.afs"
    AgentFS.open(volume).close()
    arguments = ["-f", str(volume), "import", str(host), "/t", "--watch", "--json"]
    with command(*arguments) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert [each["path"] for each in first["changes"]] == ["/t/dir", "/t/one"]
        (host / "one").write_text("changed")
        second = json.loads(process.stdout.readline())
        assert second["changes"] == [{"path": "/t/one", "kind": "modified"}]
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=WAIT_S)
        assert (process.returncode, said) == (0, "")
        assert json.loads(rest)["bursts"] == 2


def test_the_command_fails_when_the_directory_goes(tmp_path: Path, host: Path) -> None:
    """It says so and leaves with the exit code of host errors."""
    volume = tmp_path / "c.afs"
    AgentFS.open(volume).close()
    with command("-f", str(volume), "import", str(host), "/t", "--watch") as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("Watching"):
            pass
        shutil.rmtree(host)
        _, said = process.communicate(timeout=WAIT_S)
        assert process.returncode == 4
        assert "removed, moved or unmounted" in said


def test_a_killed_watch_goes_on_where_it_was(tmp_path: Path, host: Path) -> None:
    """After kill -9 the volume is whole, and the next watch brings in what is missing."""
    volume = tmp_path / "c.afs"
    AgentFS.open(volume).close()
    for round_ in range(2):
        with command("-f", str(volume), "import", str(host), "/t", "--watch", "--json") as process:
            assert process.stdout is not None
            process.stdout.readline()
            for number in range(100):
                (host / f"{round_}-{number}").write_text("x" * number)
            time.sleep(0.05 * round_)  # the kill falls before, in or after the burst
            process.kill()
        with AgentFS.open(volume) as fs:
            assert fs.fsck(read_data=True) == []
    with AgentFS.open(volume) as fs, following(fs, host):
        assert tree(fs) == host_tree(host)
