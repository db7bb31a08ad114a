"""`agentfs.run`: each back end keeps what a command did, and nothing else happens anywhere."""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentfs import AgentFS, InvalidArgument, NotFound, QuotaExceeded
from agentfs.errors import NoBackend, NoSandbox
from agentfs.run import RunResult, backends, places, process, recover, run, sandbox
from agentfs.run.records import unfinished

UNCONFINED = bool(sandbox.why_not())
EVERY_BACKEND = [
    pytest.param(
        name, marks=pytest.mark.skipif(bool(why := backends.get(name).why_not()), reason=why)
    )
    for name in backends.ORDER
]
KEEPING = EVERY_BACKEND[1:]
LONG_S = 20.0

# What a shell does to a tree; done to a plain copy of it as well, which says what is right.
SCRIPT = r"""
set -e
echo more >> in-place.txt
printf BBBB > same-size.txt
printf BBBB > same-size-and-time.txt
touch -d @1000000000 same-size-and-time.txt
mv moved-from moved-to
rm -r gone
rm gone.txt
ln -s in-place.txt link
ln -s /etc/passwd outside
ln hard-a hard-new
chmod 640 mode.txt
chmod 700 mode-dir
printf raw > "$(printf 'caf\351')"
printf lines > 'two
lines'
rm file-to-dir && mkdir file-to-dir && printf in > file-to-dir/inner
rm -r dir-to-file && printf now > dir-to-file
rm -r again && mkdir again && printf 2 > again/second
mkdir -p new/deep/er && printf leaf > new/deep/er/leaf
mkdir empty
ln -sf other link-there
sed -i s/a/b/ edited.txt
head -c 300000 /dev/zero > big.bin
"""


@pytest.fixture(autouse=True)
def private_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs leave nothing on the host: no mount, and no directory unless a test says so."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield
    mounted = places.mounts_below(str(tmp_path))
    for each in mounted:  # or pytest could not remove its directories
        subprocess.run(["umount", "-l", each], check=False)
    assert mounted == []


def project(folder: Path) -> Path:
    """Make a host directory with something for each line of the script."""
    folder.mkdir()
    for name in (
        "in-place.txt", "same-size.txt", "same-size-and-time.txt", "gone.txt", "mode.txt",
        "file-to-dir", "hard-a", "edited.txt",
    ):  # fmt: skip
        (folder / name).write_text("AAAA" if "same" in name else f"a {name}\n")
        os.utime(folder / name, (1_000_000_000, 1_000_000_000))
    for name in ("moved-from", "gone", "dir-to-file", "again", "mode-dir", "untouched"):
        (folder / name / "sub").mkdir(parents=True)
        (folder / name / "sub" / "leaf").write_text(name)
    (folder / "link-there").symlink_to("nowhere")
    return folder


def on_host(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Return what a host directory holds: kinds, modes, contents, targets, numbers of names."""
    found: dict[bytes, tuple[object, ...]] = {}
    for here, folders, names in os.walk(os.fsencode(folder)):
        for name in folders + names:
            path = os.path.join(here, name)
            info = os.lstat(path)
            relative = os.path.relpath(path, os.fsencode(folder))
            mode = stat.S_IMODE(info.st_mode)
            if stat.S_ISLNK(info.st_mode):
                found[relative] = ("symlink", os.readlink(path))
            elif stat.S_ISDIR(info.st_mode):
                found[relative] = ("directory", mode)
            else:
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).digest()
                found[relative] = ("file", mode, content, info.st_nlink)
    return found


def in_volume(fs: AgentFS, at: str = "/") -> dict[bytes, tuple[object, ...]]:
    """Return the same of a directory of a branch."""
    found: dict[bytes, tuple[object, ...]] = {}
    waiting = [at]
    while waiting:
        for each in fs.scandir(waiting.pop()):
            relative = os.fsencode(os.path.relpath(each.path, at))
            if each.stat.is_symlink:
                found[relative] = ("symlink", os.fsencode(fs.readlink(each.path)))
            elif each.stat.is_dir:
                found[relative] = ("directory", each.stat.mode)
                waiting.append(each.path)
            else:
                content = hashlib.sha256(fs.read(each.path)).digest()
                found[relative] = ("file", each.stat.mode, content, each.stat.links)
    return found


def exactly(folder: Path) -> dict[bytes, object]:
    """Return what shows any touch of a host directory."""
    return {
        os.fsencode(path): (info.st_mode, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        for path in [folder, *folder.rglob("*")]
        for info in [path.lstat()]
    }


def shell(fs: AgentFS, script: str, **options: object) -> tuple[RunResult, str]:
    """Run a shell script on a branch; return how it ended and what it printed."""
    with tempfile.TemporaryFile() as output:
        settings: dict[str, object] = {
            "unconfined": UNCONFINED, "stdin": subprocess.DEVNULL, "stdout": output,
            "stderr": subprocess.STDOUT, **options,
        }  # fmt: skip
        result = run(fs, ["bash", "-c", script], **settings)  # type: ignore[arg-type]
        output.seek(0)
        return result, output.read().decode("utf-8", "surrogateescape")


def rows(fs: AgentFS) -> list[dict[str, object]]:
    """Return the details of the branch's runs, oldest first."""
    return [each.detail for each in fs.journal(operation="run", branch=str(fs.branch))]


def left(tmp_path: Path) -> list[str]:
    """Return what runs have left on the host."""
    return os.listdir(places.base())


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_a_branch_over_a_host_directory_becomes_what_a_plain_copy_becomes(
    backend: str, tmp_path: Path
) -> None:
    """The scripted changes give the tree that they give anywhere; the host stays as it was."""
    host = project(tmp_path / "host")
    plain = tmp_path / "plain"
    shutil.copytree(host, plain, symlinks=True)
    subprocess.run(["bash", "-c", SCRIPT], cwd=plain, check=True)
    before = exactly(host)
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.overlay(host)
        branch = fs.fork("try")
        result, said = shell(branch, SCRIPT, backend=backend)
        assert (result.exit_code, result.backend) == (0, backend), said
        assert in_volume(branch) == on_host(plain)
        assert in_volume(fs) == on_host(host)
        assert {each.path for each in fs.diff("main", "try")} == set(result.changes.paths)
        assert fs.fsck() == []
    assert exactly(host) == before
    assert left(tmp_path) == []


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_a_second_run_sees_what_the_first_one_did(backend: str, tmp_path: Path) -> None:
    """The view is the branch as it is, also where it differs from the host."""
    host = project(tmp_path / "host")
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.overlay(host, "/deep/in")
        shell(fs, SCRIPT, backend=backend)
        plain = tmp_path / "plain"
        plain.mkdir()
        _, packed = shell(fs, "tar c . | base64 -w0", backend=backend)
        script = "base64 -d | tar x --no-same-owner"
        subprocess.run(["sh", "-c", script], cwd=plain, input=packed.encode(), check=True)
        inside, outside = in_volume(fs, "/deep/in"), on_host(plain)
        if (
            backend == "overlayfs"
        ):  # where names of one file in a lower layer are files of their own
            inside, outside = ({k: v[:3] for k, v in each.items()} for each in (inside, outside))
        assert inside == outside
        assert rows(fs)[-1]["changes"] == {"added": 0, "modified": 0, "removed": 0}


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_a_branch_without_an_overlay_is_seen_from_its_root(backend: str, tmp_path: Path) -> None:
    """Nothing of a host directory is needed."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.mkdir("/src")
        fs.write("/src/a.txt", "a", mode=0o600)
        fs.link("/src/a.txt", "/src/b.txt")
        fs.setxattr("/src/a.txt", "user.kept", b"1")
        result, said = shell(fs, "pwd; cat src/a.txt; echo b >> src/b.txt", backend=backend)
        assert result.exit_code == 0, said
        assert said.endswith("a")
        if not UNCONFINED:
            assert said == "/view\na"
        assert fs.read("/src/b.txt") == b"ab\n"
        assert fs.getxattr("/src/a.txt", "user.kept") == b"1"
        if backend != "overlayfs":  # where a name that is written becomes a file of its own
            assert fs.read("/src/a.txt") == b"ab\n"


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_each_run_is_one_journal_row(backend: str, tmp_path: Path) -> None:
    """With the command, how it ended, and what changed; no row of it is left open."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.write("/a", "a")
        fs.write("/b", "b")
        result, _ = shell(fs, "echo >> a; rm b; echo > c; exit 3", backend=backend)
        (row,) = rows(fs)
        assert row["command"] == ["bash", "-c", "echo >> a; rm b; echo > c; exit 3"]
        assert (row["backend"], row["exit_code"]) == (backend, 3)
        assert row["changes"] == {"added": 1, "modified": 1, "removed": 1}
        assert row["paths"] == ["/a", "/b", "/c"]
        assert isinstance(row["duration_s"], float)
        assert result.exit_code == 3
        assert result.changes.paths == ("/a", "/b", "/c")
        last = list(fs.journal(since=result.journal_seq - 1))
        assert [each.operation for each in last] == ["run"]
        assert unfinished(fs) == []


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_what_a_killed_command_did_is_kept(backend: str, tmp_path: Path) -> None:
    """Kill -9 of the command is exit code 137, with its closed files in the branch."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        result, _ = shell(fs, "echo done > a; kill -9 $$; echo never > b", backend=backend)
        assert result.exit_code == 137
        assert fs.read("/a") == b"done\n"
        assert not fs.exists("/b")
        assert rows(fs)[0]["exit_code"] == 137


def test_exit_codes_are_those_of_a_shell(tmp_path: Path) -> None:
    """The command's own, 128 + n for a signal, 127 and 126 for what cannot be run."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.write("/plain", "no program")
        for command, code in (
            (["sh", "-c", "exit 0"], 0), (["sh", "-c", "exit 41"], 41),
            (["sh", "-c", "kill -TERM $$"], 143), (["no-such-command"], 127), (["./plain"], 126),
        ):  # fmt: skip
            done = run(
                fs, command, backend="copy", unconfined=UNCONFINED, stderr=subprocess.DEVNULL
            )
            assert done.exit_code == code, command


def test_a_timeout_ends_the_command_and_keeps_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 124; a command that ignores SIGTERM ends too."""
    monkeypatch.setattr(process, "_GRACE_S", 0.2)
    with AgentFS.open(tmp_path / "v.afs") as fs:
        script = "trap '' TERM; echo x > a; while :; do sleep 0.1; done"
        result, _ = shell(fs, script, backend="copy", timeout_s=0.5)
        assert result.exit_code == 124
        assert fs.read("/a") == b"x\n"


def test_nothing_that_a_command_started_outlives_it(tmp_path: Path) -> None:
    """A process in the background ends with the command."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        mark = f"{os.getpid()}{time.monotonic_ns()}"
        result, _ = shell(fs, f"sleep 98765{mark} & echo started", backend="copy")
        assert result.exit_code == 0
        seen = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
        assert f"98765{mark}" not in seen


def test_stdin_and_stdout_are_a_plain_pipe(tmp_path: Path) -> None:
    """Megabytes go through unchanged."""
    data = os.urandom(3_000_000)
    with AgentFS.open(tmp_path / "v.afs") as fs, tempfile.TemporaryFile() as given:
        given.write(data)
        given.seek(0)
        with tempfile.TemporaryFile() as taken:
            run(fs, ["cat"], stdin=given, stdout=taken, backend="copy", unconfined=UNCONFINED)
            taken.seek(0)
            assert taken.read() == data


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_a_pipe_is_kept_and_seen_by_the_next_command(backend: str, tmp_path: Path) -> None:
    """What is no file, directory or link has its place in the tree too."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        shell(fs, "mkfifo -m 640 pipe", backend=backend)
        result, said = shell(fs, "stat -c '%F %a' pipe; rm pipe; mkdir pipe", backend=backend)
        assert said == "fifo 640\n"
        assert result.changes.modified == 1
        assert fs.is_dir("/pipe")


def test_a_difference_that_does_not_fit_waits_on_the_host(tmp_path: Path) -> None:
    """It is all or nothing, and nothing is lost: `recover` brings it in when there is room."""
    with AgentFS.open(tmp_path / "v.afs", system=True) as fs:
        fs.set_quota(files=3)
        with pytest.raises(QuotaExceeded):
            shell(fs, "for n in a b c d e; do echo > $n; done", backend="copy")
        assert not fs.exists("/a")
        fs.set_quota()
        (found,) = recover(fs)
        assert found.changes.added == 5
        assert fs.exists("/e")
        assert recover(fs) == []
    assert left(tmp_path) == []


# -- at the same time -----------------------------------------------------------------------------


def while_running(
    fs: AgentFS, script: str, action: Callable[[], object], **options: object
) -> RunResult:
    """Run a script on a branch, and do something while it runs and before it goes on."""
    ready, begun = os.pipe()
    given, go_on = os.pipe()

    def act() -> None:
        os.read(ready, 1)
        action()
        os.write(go_on, b"\n")

    thread = threading.Thread(target=act)
    thread.start()
    try:
        result, _ = shell(
            fs, f"echo; read x; {script}", stdin=given, stdout=begun, stderr=None, **options
        )
    finally:
        os.close(begun)
        thread.join(LONG_S)
        for each in (ready, given, go_on):
            os.close(each)
    return result


@pytest.mark.parametrize("backend", KEEPING)
def test_what_others_write_meanwhile_stays(backend: str, tmp_path: Path) -> None:
    """Different paths of one branch: both are kept."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.write("/ours", "1")
        fs.write("/theirs", "1")
        script = "echo 2 > ours; echo > new"
        result = while_running(fs, script, lambda: fs.write("/theirs", "2"), backend=backend)
        assert result.kept_on is None
        assert result.changes.paths == ("/new", "/ours")
        assert (fs.read("/ours"), fs.read("/theirs")) == (b"2\n", b"2")


@pytest.mark.parametrize("backend", KEEPING)
def test_the_same_path_changed_twice_goes_to_a_branch_beside(backend: str, tmp_path: Path) -> None:
    """Nothing is mixed and nothing lost: the branch has theirs, a new branch has all of ours."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.write("/both", "1")
        told: list[str] = []
        script = "echo ours > both; echo > new"
        result = while_running(
            fs, script, lambda: fs.write("/both", "theirs"), backend=backend, say=told.append
        )
        assert result.conflicts == ("/both",)
        assert result.kept_on is not None
        assert result.kept_on in told[-1]
        assert fs.read("/both") == b"theirs"
        assert not fs.exists("/new")
        beside = fs.on(result.kept_on)
        assert (beside.read("/both"), beside.exists("/new")) == (b"ours\n", True)
        assert rows(fs)[0]["conflicts"] == ["/both"]


@pytest.mark.parametrize("backend", KEEPING)
def test_a_directory_that_others_removed_is_made_again_beside(backend: str, tmp_path: Path) -> None:
    """What the command put into it has a place; a directory that both made is no conflict."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.mkdir("/gone/deep", parents=True, mode=0o750)

        def act() -> None:
            fs.remove("/gone", recursive=True)
            fs.write("/gone", "a file now")
            fs.mkdir("/both")

        script = "echo > gone/deep/new; mkdir both; echo > both/x"
        result = while_running(fs, script, act, backend=backend)
        assert "/gone/deep/new" in result.conflicts
        assert result.kept_on is not None
        beside = fs.on(result.kept_on)
        assert beside.stat("/gone/deep").mode == 0o750
        assert (beside.is_file("/gone/deep/new"), beside.is_file("/both/x")) == (True, True)
        assert fs.read("/gone") == b"a file now"


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_two_runs_at_once_on_two_branches_do_not_meet(backend: str, tmp_path: Path) -> None:
    """Each branch has what its own command did."""
    host = project(tmp_path / "host")
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.overlay(host)
        one, two = fs.fork("one"), fs.fork("two")
        while_running(
            one, "echo one > edited.txt", backend=backend,
            action=lambda: shell(two, "echo two > edited.txt", backend=backend),
        )  # fmt: skip
        assert (one.read("/edited.txt"), two.read("/edited.txt")) == (b"one\n", b"two\n")
        assert len(rows(one)) == len(rows(two)) == 1


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_two_runs_at_once_on_one_branch_keep_both(backend: str, tmp_path: Path) -> None:
    """Where they change different paths both are in the branch at the end."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        while_running(
            fs, "echo 1 > one", backend=backend,
            action=lambda: shell(fs, "echo 2 > two", backend=backend),
        )  # fmt: skip
        assert fs.listdir("/") == ["one", "two"]


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_the_host_may_change_meanwhile(backend: str, tmp_path: Path) -> None:
    """What the command did is kept, and the host has what others did there."""
    host = project(tmp_path / "host")
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.overlay(host)

        def act() -> None:
            (host / "edited.txt").write_text("the host's own")
            (host / "gone.txt").unlink()

        while_running(fs, "echo mine > mode.txt", act, backend=backend)
        assert fs.read("/mode.txt") == b"mine\n"
        assert (host / "edited.txt").read_text() == "the host's own"
        assert (host / "mode.txt").read_text() == "a mode.txt\n"
        assert not (host / "gone.txt").exists()


# -- killed runs ----------------------------------------------------------------------------------

KILLED = """
import sys
from agentfs import AgentFS
from agentfs.run import run
path, backend, unconfined, script = sys.argv[1:]
with AgentFS.open(path) as fs:
    run(fs, ["bash", "-c", script], backend=backend, unconfined=unconfined == "1")
"""


def start_killed(path: Path, backend: str, script: str) -> subprocess.Popen[bytes]:
    """Start a process that runs a script on a volume; wait for the script's first output."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), backend, str(int(UNCONFINED)), script],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_a_killed_run_is_finished_by_the_next_one(backend: str, tmp_path: Path) -> None:
    """Kill -9 of the run itself: its changes come into the branch once, with one journal row."""
    path = tmp_path / "v.afs"
    with AgentFS.open(path) as fs:
        fs.write("/a", "1")
    process = start_killed(path, backend, "echo 2 > a; echo > b; echo ready; exec sleep 60")
    with AgentFS.open(path) as fs:
        assert recover(fs) == []  # it is still running
        process.kill()
        process.communicate(timeout=LONG_S)
        told: list[str] = []
        result, said = shell(fs, "cat a", backend=backend, say=told.append)
        assert said.splitlines() == ["2"]
        assert "was killed; its 2 changes are in the branch" in told[0]
        assert [each["exit_code"] for each in rows(fs)] == [None, 0]
        assert rows(fs)[0]["changes"] == {"added": 1, "modified": 1, "removed": 0}
        assert result.recovered[0].command[0] == "bash"
        assert fs.fsck() == []
    assert left(tmp_path) == []


SIGNALS = [
    pytest.param("copy", signal.SIGINT), pytest.param("copy", signal.SIGHUP),
    *(pytest.param(*each.values, signal.SIGTERM, marks=each.marks) for each in EVERY_BACKEND),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "number"), SIGNALS)
def test_signals_reach_the_command(backend: str, number: int, tmp_path: Path) -> None:
    """The command may end as it likes; its changes and its exit code are kept."""
    path = tmp_path / "v.afs"
    script = (
        f"trap 'echo caught > a; exit 5' {number}; echo ready; "
        "while :; do read -t 0.05 <> <(:); done"
    )
    process = start_killed(path, backend, script)
    process.send_signal(number)
    process.communicate(timeout=LONG_S)
    with AgentFS.open(path) as fs:
        assert fs.read("/a") == b"caught\n"
        assert [each["exit_code"] for each in rows(fs)] == [5]
    assert left(tmp_path) == []


def test_a_place_that_is_gone_is_said(tmp_path: Path) -> None:
    """What cannot be recovered is not passed over in silence."""
    path = tmp_path / "v.afs"
    process = start_killed(path, "copy", "echo ready; exec sleep 60")
    process.kill()
    process.communicate(timeout=LONG_S)
    shutil.rmtree(places.base())
    with AgentFS.open(path) as fs:
        (found,) = recover(fs)
        assert "is gone" in found.lost
        assert "is gone" in str(rows(fs)[0]["lost"])
        assert recover(fs) == []


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    """No journal row, no open row, no directory."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        with pytest.raises(InvalidArgument, match="back end is auto, fuse"):
            shell(fs, "true", backend="floppy")
        with pytest.raises(NotFound):
            shell(fs, "true", overlay="/nowhere")
        with pytest.raises(InvalidArgument, match="needs a command"):
            run(fs, [])
        assert (rows(fs), unfinished(fs)) == ([], [])
    assert not (tmp_path / f"agentfs-run-{os.geteuid()}").exists() or left(tmp_path) == []


def test_a_sandbox_that_cannot_be_set_up_is_no_exit_code(tmp_path: Path) -> None:
    """It is an error of agentfs, and leaves nothing."""
    if UNCONFINED:
        pytest.skip("no sandbox here")
    with AgentFS.open(tmp_path / "v.afs") as fs:
        with pytest.raises(NoSandbox, match="could not be set up"):
            shell(fs, "true", backend="copy", inside="/proc/no/such", stderr=subprocess.DEVNULL)
        assert (rows(fs), unfinished(fs)) == ([], [])
    assert left(tmp_path) == []


def test_a_sandbox_that_does_not_work_here_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that allows no namespaces; the command did not run."""
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    sandbox.why_not.cache_clear()
    try:
        with AgentFS.open(tmp_path / "v.afs") as fs:
            with pytest.raises(NoSandbox, match="No permissions to create new namespace"):
                shell(fs, "touch x", backend="copy", unconfined=False)
            assert (fs.listdir("/"), rows(fs), unfinished(fs)) == ([], [], [])
    finally:
        sandbox.why_not.cache_clear()
    assert left(tmp_path) == []


def test_several_overlays_must_be_named(tmp_path: Path) -> None:
    """The error lists them; with a name the right one is seen."""
    one, two = project(tmp_path / "one"), project(tmp_path / "two")
    (one / "only-here").touch()
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.overlay(one, "/one")
        fs.overlay(two, "/two")
        with pytest.raises(InvalidArgument, match="/one, /two"):
            shell(fs, "true", backend="copy")
        _, said = shell(fs, "ls only-here", backend="copy", overlay="/one")
        assert said == "only-here\n"


def test_a_back_end_that_does_not_work_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the reason, and the way out."""
    monkeypatch.setenv("PATH", str(tmp_path))
    from agentfs.run.backends import overlayfs

    for each in (overlayfs._why_not, overlayfs._namespace):
        each.cache_clear()
    try:
        with pytest.raises(NoBackend, match="util-linux"):
            backends.choose("overlayfs")
    finally:
        monkeypatch.undo()
        for each in (overlayfs._why_not, overlayfs._namespace):
            each.cache_clear()


def test_without_a_sandbox_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses with the way out, and with `unconfined` the command runs."""
    sandbox.why_not.cache_clear()
    with AgentFS.open(tmp_path / "v.afs") as fs, monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        with pytest.raises(NoSandbox, match="--unconfined") as raised:
            run(fs, ["/bin/true"], backend="copy")
        assert raised.value.exit_code == 125
    sandbox.why_not.cache_clear()
    with AgentFS.open(tmp_path / "v.afs") as fs:
        result, _ = shell(fs, "echo > a", backend="copy", unconfined=True)
        assert (result.confined, fs.listdir("/")) == (False, ["a"])
