"""`agentfs run`: what it says, its exit codes, its report, and a person at a terminal."""

import errno
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentfs import AgentFS
from agentfs.cli.main import app
from agentfs.run import sandbox

CONFINED = not sandbox.why_not()
MAIN = "import sys; from agentfs.cli.main import main; main()"
LONG_S = 20.0


@pytest.fixture(autouse=True)
def private_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have their places where a test can see them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("AGENTFS_FILE", raising=False)


def options(*arguments: str) -> list[str]:
    """Return the arguments of a run that works on every machine."""
    return ["run", "--backend", "copy", *(() if CONFINED else ("--unconfined",)), *arguments]


def call(volume: Path, *arguments: str) -> Result:
    """Call the command; the output of the program that it runs goes elsewhere."""
    return CliRunner().invoke(app, ["-f", str(volume), *arguments])


def project(folder: Path) -> Path:
    """Make a host directory with one file."""
    folder.mkdir()
    (folder / "a.txt").write_text("a\n")
    return folder


def test_overlay_makes_the_volume_and_the_branch_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line for each thing that was made, the back end, and what to do next."""
    host, volume = project(tmp_path / "host"), tmp_path / "v.afs"
    done = call(
        volume, *options("--overlay", str(host), "--branch", "try", "--"), "sh", "-c",
        "cat a.txt; echo b >> a.txt; touch new",
    )  # fmt: skip
    assert done.exit_code == 0
    assert done.stdout == ""
    assert capfd.readouterr().out == "a\n"
    said = done.stderr.splitlines()
    assert said[:3] == [
        f"agentfs: made the volume {volume}",
        f"agentfs: main is laid over {host} now, at /",
        "agentfs: new branch try from main",
    ]
    held = "bubblewrap, no network" if CONFINED else "UNCONFINED: it can reach whatever you can"
    assert said[3] == f"agentfs: back end copy ({held})"
    assert said[4] == (
        "agentfs: 1 changed, 1 added on try; look with `agentfs -b try diff --host`, then"
        " `agentfs -b try apply` or `discard`"
    )
    assert (host / "a.txt").read_text() == "a\n"
    again = call(volume, *options("--overlay", str(host), "--branch", "try", "--", "true"))
    assert again.stderr.splitlines()[-1] == "agentfs: nothing changed"
    assert len(again.stderr.splitlines()) == 2


def test_the_report_leaves_stdout_to_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`--json` is on stderr and nothing else is; `--report` writes the same to a file."""
    volume, report = tmp_path / "v.afs", tmp_path / "report.json"
    call(volume, "init")
    done = call(
        volume, *options("--json", "--report", str(report), "--"), "sh", "-c",
        "echo out; echo > made; exit 9",
    )  # fmt: skip
    assert done.exit_code == 9
    assert capfd.readouterr().out == "out\n"
    document = json.loads(done.stderr)
    assert document == json.loads(report.read_text())
    assert document["changes"] == {"added": 1, "modified": 0, "removed": 0}
    assert (document["paths"], document["exit_code"]) == (["/made"], 9)
    assert (document["branch"], document["backend"]) == ("main", "copy")
    with AgentFS.open(volume) as fs:
        (row,) = fs.journal(operation="run")
        assert row.seq == document["journal_seq"]
        assert row.principal.startswith(("user:", "uid:"))


def test_new_names_a_fresh_branch(tmp_path: Path) -> None:
    """Each call makes the next one, and prints its name."""
    volume = tmp_path / "v.afs"
    call(volume, "init")
    for number in (1, 2):
        done = call(volume, *options("--new", "--"), "touch", "x")
        assert f"agentfs: new branch run-{number} from main" in done.stderr
    with AgentFS.open(volume) as fs:
        assert [each.name for each in fs.branches()] == ["main", "run-1", "run-2"]
        assert fs.listdir("/") == []


def test_quiet_says_nothing(tmp_path: Path) -> None:
    """Not on success and not on a command's failure."""
    volume = tmp_path / "v.afs"
    call(volume, "init")
    for command, code in (("true", 0), ("false", 1)):
        done = call(volume, *options("-q", "--"), command)
        assert (done.exit_code, done.stdout, done.stderr) == (code, "", "")


def test_the_options_of_the_command_are_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With or without `--` what follows the program's name is passed on as it is."""
    volume = tmp_path / "v.afs"
    call(volume, "init")
    for dashes in ([], ["--"]):
        call(volume, *options("-q", *dashes), "echo", "--json", "-q", "--", "x")
        assert capfd.readouterr().out == "--json -q -- x\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run"], 2, "run needs a command"),
        (["run", "--new", "--branch", "x", "--", "true"], 2, "exclude each other"),
        (["run", "--backend", "floppy", "--", "true"], 2, "auto, fuse, overlayfs, copy"),
        (["run", "--env", "NOT_SET_HERE", "--", "true"], 2, "--env NAME=VALUE"),
        (["run", "--overlay", "/no/such", "--", "true"], 1, "is no directory"),
        (["run", "--at", "/nowhere", "--", "true"], 3, "/nowhere"),
        (["-b", "no-such", "run", "--", "true"], 3, "no-such"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    """Each with its exit code and the way out; nothing ran."""
    volume = tmp_path / "v.afs"
    call(volume, "init")
    if not CONFINED and arguments[0] == "run":
        arguments = ["run", "--unconfined", *arguments[1:]]
    done = call(volume, *arguments)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    with AgentFS.open(volume) as fs:
        assert list(fs.journal(operation="run")) == []


def test_without_a_sandbox_it_refuses_before_it_makes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 125 with both ways out."""
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.why_not.cache_clear()
    try:
        done = call(tmp_path / "v.afs", "run", "--overlay", str(tmp_path), "--", "/bin/true")
    finally:
        sandbox.why_not.cache_clear()
    assert done.exit_code == 125
    assert "install bubblewrap, or add --unconfined" in done.stderr
    assert not (tmp_path / "v.afs").exists()


def test_recover_finishes_what_was_killed(tmp_path: Path) -> None:
    """Kill -9 of `agentfs run`, then `agentfs run --recover`."""
    volume = tmp_path / "v.afs"
    call(volume, "init")
    command = [sys.executable, "-c", MAIN, "-f", str(volume), *options("--branch", "try", "--")]
    script = "echo kept > a; echo ready; exec sleep 60"
    with subprocess.Popen([*command, "sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    done = call(volume, "run", "--recover")
    assert f"the run of \"sh -c '{script}'\" on 'try' was killed" in done.stderr
    assert call(volume, "run", "--recover", "--json").stderr == "[]\n"
    with AgentFS.open(volume, "try") as fs:
        assert fs.read("/a") == b"kept\n"


class Person:
    """Somebody at a terminal who runs a command."""

    def __init__(self, *command: str) -> None:
        pid, self.screen = pty.fork()
        if pid == 0:
            os.execvp(command[0], list(command))
        self.pid = pid
        self.seen = b""

    def sees(self, wanted: str) -> None:
        """Wait until a pattern is on the screen, and go on after it."""
        deadline = time.monotonic() + LONG_S
        while not (found := re.search(wanted.encode(), self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if select.select([self.screen], [], [], left)[0]:
                self.seen += self._read()
        self.seen = self.seen[found.end() :]

    def _read(self) -> bytes:
        try:
            return os.read(self.screen, 4096)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            pytest.fail(f"it ended: {self.seen!r}")

    def types(self, text: str) -> None:
        """Press keys."""
        os.write(self.screen, text.encode())

    def ends(self) -> int:
        """Wait for the end and return the exit code."""
        deadline = time.monotonic() + LONG_S
        while time.monotonic() < deadline:
            if select.select([self.screen], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.screen, 4096)
                except OSError:
                    break
        os.close(self.screen)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def at_terminal(volume: Path, *command: str) -> Person:
    """Run a command of a volume at a terminal."""
    start = [sys.executable, "-c", MAIN, "-f", str(volume), *options("--")]
    return Person(*start, *command)


def test_a_shell_at_a_terminal_has_job_control(tmp_path: Path) -> None:
    """Ctrl-C and Ctrl-Z reach the job in front, the size is right, the exit code passes."""
    volume = tmp_path / "v.afs"
    call(volume, "init")
    person = at_terminal(volume, "env", "PS1=$ ", "bash", "--norc", "--noprofile", "-i")
    person.sees(r"\$ ")
    job = "trap 'echo again' CONT; echo in front; while :; do sleep 0.05; done"
    person.types(f'stty size; bash -c "{job}"\n')
    person.sees(r"0 0\r\nin front\r\n")
    person.types("\x1a")
    person.sees("Stopped")
    person.types("jobs | wc -l; fg\n")
    person.sees("1\r\n(?s:.*)again\r\n")
    person.types("\x03")
    person.sees(r"\$ ")
    person.types("echo $? > code; exit 7\n")
    assert person.ends() == 7
    with AgentFS.open(volume) as fs:
        assert fs.read("/code") == b"130\n"


def test_a_program_at_a_terminal_may_catch_ctrl_c(tmp_path: Path) -> None:
    """The key interrupts the command, not what runs it."""
    volume = tmp_path / "v.afs"
    call(volume, "init")
    script = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.05; done"
    person = at_terminal(volume, "bash", "-c", script)
    person.sees("ready")
    person.types("\x03")
    person.sees("caught")
    assert person.ends() == 4


@pytest.mark.skipif(not CONFINED, reason=sandbox.why_not() or "confined")
def test_a_command_cannot_type_into_the_terminal_of_the_person(tmp_path: Path) -> None:
    """TIOCSTI reaches a terminal of the command's own, and nothing is typed outside."""
    volume = tmp_path / "v.afs"
    call(volume, "init")
    program = (
        "import fcntl, termios, sys\n"
        "for fd in (0, open('/dev/tty')):\n"
        "  for c in b'echo INJECTED\\n':\n"
        "    try: fcntl.ioctl(fd, termios.TIOCSTI, bytes([c]))\n"
        "    except OSError as error: print('refused', error.errno); break\n"
        "termios.tcflush(0, termios.TCIFLUSH)\n"
    )
    inner = [sys.executable, "-c", MAIN, "-f", str(volume), *options("-q", "--"), "python3", "-c"]
    script = '"$@"; echo AFTER; read -t 0.2 line; echo "read:$line:"'
    person = Person("bash", "-c", script, "x", *inner, program)
    person.sees("AFTER")
    person.sees("read::")
    assert person.ends() == 0


def test_signal_of_a_killed_command_passes(tmp_path: Path) -> None:
    """128 + 9, as a shell says it."""
    volume = tmp_path / "v.afs"
    call(volume, "init")
    done = call(volume, *options("--"), "sh", "-c", "kill -9 $$")
    assert done.exit_code == 128 + signal.SIGKILL
    assert done.stderr.splitlines()[-1] == "agentfs: exit code 137; nothing changed"
