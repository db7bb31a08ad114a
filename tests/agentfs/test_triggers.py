"""Triggers: every journal row that counts once, whatever is killed, and nothing for ever."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentfs import (
    AgentFS,
    AlreadyExists,
    AsyncAgentFS,
    InvalidArgument,
    JournalRow,
    NotFound,
    PermissionDenied,
)
from agentfs.triggers import Runner
from agentfs.triggers.runner import MAX_DEPTH

WAIT_S = 20.0
KILLS = 600 if os.environ.get("AGENTFS_SOAK") else 8


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A volume, opened as its owner does."""
    with AgentFS.open(tmp_path / "a.afs", system=True, principal="user") as opened:
        opened.mkdir("/src")
        yield opened


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def seqs(fs: AgentFS, path: str = "/src", since: int = 0) -> list[int]:
    """Return the rows of changes below a path."""
    return [row.seq for row in fs.journal(since=since, path=path) if row.before or row.after]


def log(fs: AgentFS, row: JournalRow) -> None:
    """Note a row in the volume, as triggers with functions do here."""
    fs.append("/log", f"{row.seq}\n")


def logged(fs: AgentFS) -> list[int]:
    """Return the rows that `log` noted."""
    return [int(each) for each in fs.read_text("/log").split()] if fs.exists("/log") else []


# -- functions ------------------------------------------------------------------------------


def test_a_function_gets_each_change_below_its_path_once(fs: AgentFS) -> None:
    """In order, with its own principal, and never again by another run."""
    fs.triggers.add("t", "/src", function="log")
    start = fs.triggers.list()[0].cursor
    fs.write("/other", "1")
    fs.write("/src/a", "1")
    fs.write("/src/a", "2")
    fs.rename("/src/a", "/b")
    fs.snapshot("s")
    runner = Runner(fs, {"log": log})
    assert runner.run(once=True) == 3
    assert logged(fs) == seqs(fs, since=start)
    assert Runner(fs, {"log": log}).run(once=True) == 0
    assert {row.principal for row in fs.journal(path="/log")} == {"trigger:t"}
    assert [each.state for each in fs.triggers.log("t")] == ["done"] * 3


def test_a_function_that_fails_leaves_nothing_but_its_run(fs: AgentFS) -> None:
    """Its changes are undone, the error is kept, the next row is taken; retry runs it again."""
    broken = [True]

    def function(fs: AgentFS, row: JournalRow) -> str:
        log(fs, row)
        if row.path == "/src/bad" and broken[0]:
            raise ValueError("no good")
        return f"saw {row.path}"

    fs.triggers.add("t", "/src", function="f")
    fs.write("/src/bad", "1")
    fs.write("/src/good", "1")
    runner = Runner(fs, {"f": function})
    assert runner.run(once=True) == 2
    good, bad = fs.triggers.log()
    assert (good.state, good.output) == ("done", "saw /src/good")
    assert (bad.state, bad.output.splitlines()[-1]) == ("failed", "ValueError: no good")
    assert logged(fs) == [good.seq]
    broken.clear()
    broken.append(False)
    fs.triggers.retry(bad.id)
    assert runner.run(once=True) == 1
    assert logged(fs) == [good.seq, bad.seq]
    assert [(each.state, each.attempt) for each in fs.triggers.log()] == [("done", 1), ("done", 2)]
    with pytest.raises(InvalidArgument, match="it is done"):
        fs.triggers.retry(bad.id)


def test_a_function_is_imported_or_waited_for(fs: AgentFS, tmp_path: Path) -> None:
    """A runner without the function leaves the row to one that has it, and says so."""
    fs.triggers.add("t", "/src", function="nowhere_to_be_found:function")
    fs.triggers.add("u", "/src", function="unknown")
    fs.triggers.add("v", "/src", function="json:dumps")  # refuses its arguments
    fs.write("/src/a", "1")
    runner = Runner(fs)
    assert runner.run(once=True) == 1
    assert "nowhere_to_be_found" in runner.blocked["t"]
    assert "no function 'unknown'" in runner.blocked["u"]
    assert [(each.trigger, each.state) for each in fs.triggers.log()] == [("v", "failed")]
    assert Runner(fs, {"unknown": log}).run(once=True) == 1


# -- which rows -----------------------------------------------------------------------------


def taken(fs: AgentFS, path: str, change: Callable[[], Any], **options: Any) -> list[str]:
    """Return the operations that a trigger on a path takes of a change."""
    seen: list[str] = []
    fs.triggers.add("t", path, function="f", **options)
    change()
    Runner(fs, {"f": lambda _, row: seen.append(row.operation)}).run(once=True)
    fs.triggers.remove("t")
    return seen


def test_changes_from_above_count_where_they_reach(fs: AgentFS) -> None:
    """A merge or restore counts below `/src` only when it changed that; moved parents count."""
    fs.mkdir("/src/lib")
    fs.write("/src/lib/a", "1")
    fs.write("/else", "1")
    fs.snapshot("s")

    def merge(path: str) -> None:
        other = fs.fork(f"b{len(fs.branches())}")
        other.write(path, path + str(len(fs.branches())))
        fs.merge(str(other.branch))

    assert taken(fs, "/src/lib", lambda: merge("/src/lib/b")) == ["merge"]
    assert taken(fs, "/src/lib", lambda: merge("/else")) == []
    assert taken(fs, "/", lambda: merge("/else")) == ["merge"]
    assert taken(fs, "/src/lib", lambda: fs.restore("s", ["/else"])) == []
    assert taken(fs, "/src/lib", lambda: fs.restore("s")) == ["restore"]
    assert taken(fs, "/src/lib", lambda: fs.rename("/src", "/moved")) == ["rename"]
    assert taken(fs, "/moved/lib", lambda: fs.remove("/moved", recursive=True)) == ["remove"]
    assert taken(fs, "/new/lib", lambda: fs.mkdir("/new/lib", parents=True)) == ["mkdir"]


def test_only_changes_count_unless_operations_are_named(fs: AgentFS) -> None:
    """Times, names of states, other branches and the system area do not; events do when named."""

    def much() -> None:
        fs.snapshot("s")
        fs.fork("other").write("/src/a", "1")
        fs.utime("/src", 1)
        fs.kv.set("key", 1)
        fs.record("build.done", {}, "/src")
        fs.chmod("/src", 0o700)

    assert taken(fs, "/", much) == ["chmod"]
    assert taken(fs, "/", lambda: fs.kv.set("key", 2)) == []
    assert taken(fs, "/.fmos/kv", lambda: fs.kv.set("key", 3)) == ["kv.set"]
    events = ("build.done", "write")
    assert taken(fs, "/src", lambda: fs.record("build.done", {}, "/src"), operations=events) == [
        "build.done"
    ]
    fs.write("/src/a", "1")
    since = len(list(fs.journal())) - 1
    assert taken(fs, "/src", lambda: None, since=since) == ["write"]


def test_triggers_do_not_run_for_ever(fs: AgentFS) -> None:
    """Own changes are passed over, and two triggers that set each other off come to an end."""
    fs.triggers.add("a", "/src", function="write")
    runner = Runner(fs, {"write": lambda fs, row: fs.write("/src/again", str(row.seq))})
    fs.write("/src/first", "1")
    assert runner.run(once=True) == 1
    fs.triggers.add("b", "/src", function="write")
    fs.write("/src/second", "1")
    assert 2 * MAX_DEPTH < runner.run(once=True) <= 2 * MAX_DEPTH + 4
    last = fs.triggers.log(limit=1)[0]
    assert (last.state, last.depth) == ("failed", MAX_DEPTH + 1)
    assert "set each other off" in last.output
    fs.triggers.remove("a")
    fs.triggers.remove("b")
    fs.triggers.add("c", "/src", function="write", recursive=True)
    fs.write("/src/third", "1")
    assert runner.run(once=True) == MAX_DEPTH + 2


def test_rows_that_gc_let_go_are_said(fs: AgentFS) -> None:
    """A runner that comes too late notes which rows it cannot see, and goes on with the rest."""
    fs.triggers.add("t", "/src", function="log")
    for number in range(5):
        fs.write("/src/a", str(number))
    fs.gc(retention=0)
    fs.write("/src/b", "kept")
    runner = Runner(fs, {"log": log})
    assert runner.run(once=True) == 2
    done, lost = fs.triggers.log()
    assert (done.state, lost.state) == ("done", "lost")
    assert "let go of the journal rows 2 to 7 unseen" in lost.output
    assert logged(fs) == [done.seq]
    assert runner.run(once=True) == 0


def test_what_was_passed_over_is_no_gap(fs: AgentFS) -> None:
    """Rows may go that a runner looked at and did not want."""
    fs.triggers.add("t", "/src", function="log")
    for number in range(5):
        fs.write("/other", str(number))
    assert Runner(fs, {"log": log}).run(once=True) == 0
    fs.gc(retention=0)
    assert Runner(fs, {"log": log}).run(once=True) == 0
    assert fs.triggers.log() == []


# -- definitions ----------------------------------------------------------------------------


def test_only_the_owner_says_what_runs(fs: AgentFS) -> None:
    """A handle without `system`, as agents have, can neither add, remove nor repeat anything."""
    fs.triggers.add("t", "/", command=["true"])
    agent = fs.on("main", system=False, principal="agent")
    for refused in (
        lambda: agent.triggers.add("u", "/", command=["true"]),
        lambda: agent.triggers.remove("t"),
        lambda: agent.triggers.retry(1),
    ):
        with pytest.raises(PermissionDenied, match="system=True"):
            refused()
    assert [each.name for each in agent.triggers.list()] == ["t"]
    kinds = [row.operation for row in fs.journal() if row.operation.startswith("trigger.")]
    assert kinds == ["trigger.add"]


def test_senseless_triggers_are_refused(fs: AgentFS) -> None:
    """Names, actions, starts, times and policies are checked, and a name is taken once."""
    made = fs.triggers.add("t", "/src/", command=["make", "-j"], operations=["write"], cwd="/tmp")
    assert (made.path, made.action, made.operations) == ("/src", ("make", "-j"), ("write",))
    assert fs.triggers.list() == [made]
    with pytest.raises(AlreadyExists):
        fs.triggers.add("t", "/", command=["true"])
    wrong: list[dict[str, Any]] = [
        {}, {"command": ["a"], "function": "b"}, {"command": []}, {"command": "make"},
        {"command": ["a"], "timeout_s": 0}, {"command": ["a"], "on_crash": "never"},
        {"command": ["a"], "operations": []}, {"command": ["a"], "since": 10_000},
    ]  # fmt: skip
    for each in wrong:
        with pytest.raises(InvalidArgument):
            fs.triggers.add("u", "/", **each)
    with pytest.raises(InvalidArgument):
        fs.triggers.add("a name", "/", command=["true"])
    with pytest.raises(InvalidArgument, match="waiting, running, done"):
        fs.triggers.log(state="over")  # type: ignore[arg-type]
    fs.gc(retention=0)
    with pytest.raises(NotFound, match="kept from row"):
        fs.triggers.add("u", "/", command=["true"], since=0)
    fs.triggers.remove("t")
    for missing in (lambda: fs.triggers.remove("t"), lambda: fs.triggers.retry(7)):
        with pytest.raises(NotFound):
            missing()


def test_async_handles_have_triggers(tmp_path: Path) -> None:
    """`AsyncAgentFS.triggers` has the calls to await."""

    async def main() -> None:
        async with AsyncAgentFS.open(tmp_path / "a.afs", system=True) as fs:
            await fs.triggers.add("t", "/", command=["true"])
            assert [each.name for each in await fs.triggers.list()] == ["t"]
            await fs.triggers.remove("t")
            assert await fs.triggers.log() == []

    asyncio.run(main())


# -- commands -------------------------------------------------------------------------------


def shell(script: str) -> list[str]:
    """Return a command for a shell script."""
    return ["sh", "-c", script]


def test_a_command_knows_what_changed(fs: AgentFS, tmp_path: Path) -> None:
    """Its environment and stdin have the row, its output and exit code are kept."""
    script = "env | grep ^AGENTFS_ | sort > env; cat > row; echo a; echo b >&2; exit 3"
    fs.triggers.add("t", "/src", command=shell(script), cwd=tmp_path)
    fs.mkdir("/src/new")
    fs.rename("/src/new", "/src/two\nlines")
    assert Runner(fs).run(once=True) == 2
    last = fs.triggers.log(limit=1)[0]
    assert (last.state, last.exit_code, last.output) == ("failed", 3, "a\nb")
    row = json.loads((tmp_path / "row").read_text())
    assert (row["path"], row["path2"]) == ("/src/new", "/src/two\nlines")
    said = (tmp_path / "env").read_text()
    for expected in (
        "AGENTFS_TRIGGER=t\n", f"AGENTFS_TRIGGER_ROW={last.seq}\n", "AGENTFS_TRIGGER_ID=1\n",
        "AGENTFS_TRIGGER_PATH=/src/new\n", "AGENTFS_TRIGGER_OPERATION=rename\n",
        "AGENTFS_PRINCIPAL=trigger:t\n", f"AGENTFS_FILE={fs.path}\n",
    ):  # fmt: skip
        assert expected in said


def test_a_command_cannot_take_for_ever_or_flood(fs: AgentFS, tmp_path: Path) -> None:
    """It is killed with all it started at its time limit, and only the end of its output stays."""
    flood = shell("yes | head -c 1000000; echo end")
    fs.triggers.add("flood", "/src", command=flood)
    fs.triggers.add("none", "/src", command=["/no/such/program"])
    slow = shell("sleep 600 & echo $! > child; wait")
    fs.triggers.add("slow", "/src", command=slow, timeout_s=0.3, cwd=tmp_path)
    fs.write("/src/a", "1")
    assert Runner(fs).run(once=True) == 3
    runs = {each.trigger: each for each in fs.triggers.log()}
    assert runs["flood"].output.endswith("end")
    assert 4000 < len(runs["flood"].output) <= 4096
    assert runs["none"].exit_code == 127
    assert "killed after 0.3 s" in runs["slow"].output
    child = int((tmp_path / "child").read_text())
    until(lambda: not is_running(child))


def is_running(process: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_runner_that_is_stopped_ends_its_command(fs: AgentFS, tmp_path: Path) -> None:
    """The run is interrupted, not failed, and can be asked for again."""
    fs.triggers.add("t", "/src", command=shell("echo begun > begun; exec sleep 600"), cwd=tmp_path)
    stop = threading.Event()
    runner = threading.Thread(target=Runner(fs).run, kwargs={"stop": stop})
    runner.start()
    fs.write("/src/a", "1")  # the runner waits for it
    until((tmp_path / "begun").exists)
    stop.set()
    runner.join(WAIT_S)
    assert not runner.is_alive()
    assert [each.state for each in fs.triggers.log()] == ["interrupted"]


# -- kills ----------------------------------------------------------------------------------


def in_child(path: Path, body: Callable[[AgentFS], object]) -> int:
    """Run a body with the volume opened in a forked process, and return its number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        with AgentFS.open(path, system=True, durability="full") as fs:
            body(fs)
        status = 0
    finally:
        os._exit(status)


def kill_runs(path: Path, body: Callable[[AgentFS], object], kills: int, most_s: float) -> None:
    """Begin the body and kill it at a random moment, again and again; the last one may finish."""
    chance = random.Random(5)
    for _ in range(kills):
        process = in_child(path, body)
        select.select([], [], [], chance.random() * most_s)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    process = in_child(path, body)
    assert os.waitpid(process, 0)[1] == 0


def test_a_function_takes_each_row_once_under_kills(tmp_path: Path) -> None:
    """However often its runner is killed, its changes are there once for each row, in order."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path, system=True) as fs:
        fs.triggers.add("t", "/src", function="log")
        fs.mkdir("/src")
        for number in range(KILLS * 8):
            fs.write(f"/src/{number % 7}", str(number))
    kill_runs(path, lambda fs: Runner(fs, {"log": log}).run(once=True), KILLS, 0.06)
    with AgentFS.open(path) as fs:
        assert logged(fs) == seqs(fs)
        assert len(fs.triggers.log(state="done")) == len(logged(fs))
        assert fs.fsck() == []


@pytest.mark.parametrize("policy", ["ask", "retry", "skip"])
def test_a_command_is_never_silently_run_twice(tmp_path: Path, policy: Any) -> None:
    """Done means once; what has no end is said, and run again only where that was asked for."""
    path, effects = tmp_path / "a.afs", tmp_path / "effects"
    with AgentFS.open(path, system=True) as fs:
        script = shell('echo "$AGENTFS_TRIGGER_ROW" >> effects')
        fs.triggers.add("t", "/src", command=script, on_crash=policy, cwd=tmp_path)
        fs.mkdir("/src")
        for number in range(KILLS * 2):
            fs.write("/src/a", str(number))
    kill_runs(path, lambda fs: run_all(fs), KILLS, 0.1)
    with AgentFS.open(path, system=True) as fs:
        counts = Counter(int(each) for each in effects.read_text().split())
        runs = {each.seq: each for each in fs.triggers.log()}
        assert sorted(runs) == seqs(fs)
        ends = {"ask": "interrupted", "retry": "done", "skip": "skipped"}
        for seq, run in runs.items():
            assert run.state in {"done", ends[policy]}
            assert counts[seq] <= run.attempt
            assert counts[seq] >= (run.state == "done")
        if policy == "retry":
            return
        unknown = [each.id for each in runs.values() if each.state != "done"]
        assert all(each.attempt == 1 for each in runs.values())
        for each in unknown:
            fs.triggers.retry(each)
        assert run_all(fs) == len(unknown)
        assert {each.state for each in fs.triggers.log()} == {"done"}


def run_all(fs: AgentFS) -> int:
    """Run what waits, also behind the command of a runner that died."""
    runner, count = Runner(fs), 0
    while True:
        count += runner.run(once=True)
        if not runner.blocked:
            return count
        time.sleep(0.01)


def test_the_command_of_a_dead_runner_is_waited_for(fs: AgentFS, tmp_path: Path) -> None:
    """Its row is not called interrupted, nor the next one begun, while it goes on."""
    wait = (
        'echo $$ > pid; while [ ! -e go ]; do sleep 0.01; done; echo "$AGENTFS_TRIGGER_ROW" >> did'
    )
    options: dict[str, Any] = {"on_crash": "retry", "cwd": tmp_path, "timeout_s": WAIT_S}
    fs.triggers.add("t", "/src", command=shell(wait), **options)
    fs.write("/src/a", "1")
    process = in_child(fs.path, lambda fs: Runner(fs).run(once=True))
    until(lambda: bool(fs.triggers.log() and fs.triggers.log()[0].process))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    runner = Runner(fs)
    assert runner.run(once=True) == 0
    assert "goes on as process" in runner.blocked["t"]
    assert fs.triggers.log()[0].state == "running"
    (tmp_path / "go").touch()
    assert run_all(fs) == 2  # interrupted, as nobody saw its end, and then run again
    assert len((tmp_path / "did").read_text().split()) == 2
    assert (fs.triggers.log()[0].state, fs.triggers.log()[0].attempt) == ("done", 2)


def test_two_runners_take_no_row_twice(tmp_path: Path) -> None:
    """Functions and commands, two processes and one thread each, on the same triggers."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path, system=True) as fs:
        fs.mkdir("/src")
        script = shell('echo "$AGENTFS_TRIGGER_ROW $PPID" >> "$AGENTFS_TRIGGER"')
        for name in ("c1", "c2"):
            fs.triggers.add(name, "/src", command=script, cwd=tmp_path)
        fs.triggers.add("f", "/src", function="log")
        begin = fs.triggers.list()[-1].cursor

        def work(fs: AgentFS) -> None:
            stop = threading.Event()

            def wait() -> None:
                until(lambda: fs.exists("/stop"))
                stop.set()

            threading.Thread(target=wait).start()
            Runner(fs, {"log": log}).run(stop=stop)

        processes = [in_child(path, work) for _ in range(2)]
        for number in range(40):
            fs.write("/src/a", str(number))
        wanted = seqs(fs, since=begin)
        until(lambda: len(fs.triggers.log(state="done")) == 3 * len(wanted))
        fs.write("/stop", "")
        for process in processes:
            assert os.waitpid(process, 0)[1] == 0
        assert logged(fs) == wanted
        runners: set[str] = set()
        for name in ("c1", "c2"):
            lines = [each.split() for each in (tmp_path / name).read_text().splitlines()]
            assert [int(row) for row, _ in lines] == wanted
            runners |= {runner for _, runner in lines}
        assert runners == {str(each) for each in processes}, "only one of them did anything"
