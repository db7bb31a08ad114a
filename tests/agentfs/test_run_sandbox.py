"""What a command of `agentfs run` cannot reach: the host, the network, secrets, the volume."""

import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentfs import AgentFS
from agentfs.run import RunResult, backends, run, sandbox
from agentfs.run.environment import build, is_withheld, parse

pytestmark = pytest.mark.skipif(
    bool(sandbox.why_not()), reason=sandbox.why_not() or "bubblewrap is here"
)
EVERY_BACKEND = [
    pytest.param(
        name, marks=pytest.mark.skipif(bool(why := backends.get(name).why_not()), reason=why)
    )
    for name in backends.ORDER
]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def private_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have their places where a test can see them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory that is not below /tmp, which is hidden as a whole."""
    if not os.access("/srv", os.W_OK):
        pytest.skip("no writable directory outside of /tmp")
    with tempfile.TemporaryDirectory(dir="/srv", prefix="agentfs-test-") as folder:
        yield Path(folder)


def shell(fs: AgentFS, script: str, **options: object) -> tuple[RunResult, str]:
    """Run a shell script on a branch; return how it ended and what it printed."""
    with tempfile.TemporaryFile() as output:
        settings: dict[str, object] = {
            "backend": "copy", "stdin": subprocess.DEVNULL, "stdout": output,
            "stderr": subprocess.STDOUT, **options,
        }  # fmt: skip
        result = run(fs, ["bash", "-c", script], **settings)  # type: ignore[arg-type]
        output.seek(0)
        return result, output.read().decode()


def test_there_is_no_network_unless_it_is_given(tmp_path: Path) -> None:
    """A listener of the host on loopback is reached with the network only."""
    with AgentFS.open(tmp_path / "v.afs") as fs, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached"
        thread = threading.Thread(target=lambda: server.accept()[0].close(), daemon=True)
        thread.start()
        refused, _ = shell(fs, script)
        assert refused.exit_code != 0
        assert shell(fs, script, network=True)[1] == "reached\n"


def test_nothing_outside_the_view_is_written(tmp_path: Path, elsewhere: Path) -> None:
    """Not in the system, not at home, not beside the view, and not through a link in it."""
    host = elsewhere / "project"
    host.mkdir()
    (host / "out").symlink_to(elsewhere / "through-a-link")
    (elsewhere / "beside").write_text("as it was")
    home = Path.home()
    places = ["/etc/x", "/usr/x", "/x", f"{home}/x", str(elsewhere / "beside"), "out", "/sys/x"]
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.overlay(host)
        for place in places:
            result, said = shell(fs, f"echo changed > {place}")
            assert result.exit_code != 0, place
            assert "ead-only" in said or "denied" in said, said
        result, said = shell(fs, "echo mine > inside && echo temporary > /tmp/x; pwd")
        assert (result.exit_code, said) == (0, f"{host}\n")
    assert (elsewhere / "beside").read_text() == "as it was"
    assert sorted(each.name for each in elsewhere.iterdir()) == ["beside", "project"]
    assert [each.name for each in host.iterdir()] == ["out"]
    assert not Path("/tmp/x").exists()


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_secrets_at_home_are_hidden_also_in_an_overlaid_home(
    backend: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known directories and files of secrets read as empty; nothing of it becomes a change."""
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    monkeypatch.setenv("HOME", str(elsewhere))
    for name in (".ssh/id", ".aws/credentials", ".fmos/keys/k", ".config/gh/hosts.yml"):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text("secret")
    (elsewhere / ".netrc").write_text("secret")
    (elsewhere / "own").mkdir()
    (elsewhere / "own" / "hidden").write_text("secret")
    (elsewhere / "plain").write_text("plain")
    script = "cat ~/.ssh/* ~/.aws/* ~/.fmos/*/* ~/.config/gh/* ~/.netrc ~/own/* ~/plain 2>/dev/null"
    with AgentFS.open("/var/tmp/agentfs-test-home.afs") as fs:
        try:
            _, said = shell(fs, script, hide=[f"{elsewhere}/own"])
            assert said == "plain"
            fs.overlay(elsewhere)
            result, said = shell(fs, script, hide=["~/own"], backend=backend)
            assert said == "plain"
            assert result.changes.total == 0
        finally:
            for each in Path("/var/tmp").glob("agentfs-test-home.afs*"):
                each.unlink()


def test_a_view_inside_of_what_is_hidden_is_there(tmp_path: Path, elsewhere: Path) -> None:
    """Only what is beside it is not."""
    (elsewhere / "secrets" / "project").mkdir(parents=True)
    (elsewhere / "secrets" / "key").write_text("secret")
    with AgentFS.open(tmp_path / "v.afs") as fs:
        fs.overlay(elsewhere / "secrets" / "project")
        script = "echo x > made; ls ..; echo x > ../beside"
        result, said = shell(fs, script, hide=[f"{elsewhere}/secrets"])
        assert said.splitlines()[0] == "project"
        assert "ead-only" in said
        assert result.changes.paths == ("/made",)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("inside", [True, False])
def test_the_volume_cannot_be_reached(backend: str, inside: bool, elsewhere: Path) -> None:
    """Neither read nor written, beside the overlaid directory or in it."""
    host = elsewhere / "project"
    host.mkdir()
    (host / "a").write_text("a")
    path = (host if inside else elsewhere) / "v.afs"
    with AgentFS.open(path) as fs:
        fs.overlay(host)
        script = (
            f"for n in {path} {path}-wal {path}-shm; do wc -c < $n; dd if=$n bs=16 count=1;"
            " done 2>/dev/null | grep -a SQLite; ls"
        )
        _, said = shell(fs, script, backend=backend)
        assert said == "a\n"
        shell(fs, f"echo broken > {path}; echo broken > {path}-wal", backend=backend)
        assert fs.fsck(read_data=True) == []
        assert fs.verify_journal().ok
    with path.open("rb") as file:
        assert file.read(6) == b"SQLite"


def test_sockets_of_the_host_are_not_there(tmp_path: Path) -> None:
    """What listens in /run or /tmp cannot be called."""
    folders = [str(tmp_path), *(["/run"] if os.access("/run", os.W_OK) else [])]
    with AgentFS.open(tmp_path / "v.afs") as fs:
        for folder in folders:
            address = f"{folder}/agentfs-test-{os.getpid()}.sock"
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(address)
                try:
                    assert shell(fs, f"test -e {address}")[0].exit_code == 1
                finally:
                    os.unlink(address)


def test_processes_of_the_host_cannot_be_seen_or_killed(tmp_path: Path) -> None:
    """The command sees its own processes only."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        result, said = shell(fs, f"kill -0 {os.getpid()} 2>/dev/null && echo there; ls /proc")
        assert "there" not in said
        assert len([each for each in said.split() if each.isdecimal()]) < 6
        assert result.exit_code == 0


@AS_ROOT
def test_root_keeps_the_rights_over_files_only(tmp_path: Path) -> None:
    """No mounts, no devices, no settings of the kernel; owners can be set."""
    with AgentFS.open(tmp_path / "v.afs") as fs:
        swappiness = Path("/proc/sys/vm/swappiness").read_text()
        for script in (
            "mount -t tmpfs x /tmp", "mount -o remount,rw /usr", "mknod /tmp/d b 253 0",
            "echo 77 > /proc/sys/vm/swappiness", "test -w /proc/sys/kernel/core_pattern",
            "test -w /proc/sysrq-trigger", "unshare -Urm mount -o remount,bind,rw /usr",
            "unshare -Urm umount /run", "unshare -m true",
        ):  # fmt: skip
            assert shell(fs, script)[0].exit_code != 0, script
        assert Path("/proc/sys/vm/swappiness").read_text() == swappiness
        assert shell(fs, "touch /tmp/a && chown 1234 /tmp/a && stat -c %u /tmp/a")[1] == "1234\n"


def test_the_environment_has_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are dropped by name or by a password in an address, unless they are named."""
    for name in ("OPENAI_API_KEY", "GH_TOKEN", "MY_SECRET_THING", "DB_PASSWORD", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("DATABASE_URL", "postgres://me:hidden@host/db")
    monkeypatch.setenv("KEYBOARD", "us")
    monkeypatch.setenv("GIVEN_TOKEN", "given")
    with AgentFS.open(tmp_path / "v.afs") as fs:
        named = parse(["GIVEN_TOKEN", "OWN_KEY=mine"])
        _, said = shell(fs.fork("try"), "env", env=named)
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    assert "hidden" not in said
    assert (found["GIVEN_TOKEN"], found["OWN_KEY"], found["KEYBOARD"]) == ("given", "mine", "us")
    assert (found["AGENTFS_RUN"], found["AGENTFS_BRANCH"]) == ("1", "try")


@pytest.mark.parametrize(
    ("name", "withheld"),
    [
        ("AWS_SECRET_ACCESS_KEY", True), ("GITHUB_TOKEN", True), ("PGPASSWORD", True),
        ("npm_config_authtoken", False), ("DBUS_SESSION_BUS_ADDRESS", True), ("PATH", False),
        ("AGENTFS_KEY", True), ("MONKEY", False), ("TOKENIZERS_PARALLELISM", False),
        ("XDG_RUNTIME_DIR", True), ("KEY", True), ("CREDENTIALS", True), ("HOME", False),
    ],
)  # fmt: skip
def test_names_that_look_like_secrets(name: str, withheld: bool) -> None:
    """Whole words of a name count, and parts that leave no doubt."""
    assert is_withheld(name, "x") is withheld
    assert ("AGENTFS_RUN" in build("b", {}, confined=False)) is True


@AS_ROOT
@pytest.mark.skipif(bool(backends.get("fuse").why_not()), reason="no FUSE here")
@pytest.mark.parametrize("backend", backends.ORDER)
def test_an_ordinary_user_runs_commands_too(backend: str, elsewhere: Path) -> None:
    """In a user namespace, over a mount that only this user may see."""
    import sys

    host = elsewhere / "project"
    host.mkdir()
    (host / "a").write_text("a\n")
    for each in (elsewhere, host, host / "a"):
        os.chown(each, 65534, 65534)
    program = (
        "import os, sys; sys.path[:] = eval(sys.argv[1]);"
        "from agentfs import AgentFS; from agentfs.run import run;"
        "fs = AgentFS.open('v.afs'); fs.overlay('project');"
        f"r = run(fs, ['sh', '-c', 'id -u; echo b >> a'], backend={backend!r});"
        "print(r.exit_code, fs.read('/a'), r.changes.total)"
    )
    # Root's home may hold the interpreter: in a mount namespace all may enter it, and use FUSE.
    script = (
        'mkdir u w && mount -t overlay o -o lowerdir="$HOME",upperdir=u,workdir=w "$HOME"'
        " || exit 77; mknod fuse c 10 229 && chmod 666 fuse && mount --bind fuse /dev/fuse"
        " || exit 77;"
        ' cd "$1"; shift; exec setpriv --reuid 65534 --regid 65534 --clear-groups'
        ' env HOME="$PWD" TMPDIR="$PWD" "$@"'
    )
    with tempfile.TemporaryDirectory(dir="/srv") as folder:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", str(elsewhere), sys.executable, "-c",
             program, repr(sys.path)],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("no second user can be played here")
    assert done.stdout.splitlines() == ["65534", "0 b'a\\nb\\n' 1"], done.stderr
