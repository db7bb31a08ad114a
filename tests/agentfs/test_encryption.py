"""Encryption at rest; the parts that need the extra run in an environment of their own."""

import site
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import agentfs
from agentfs import AgentFS, encryption

EXTRA = "apsw-sqlite3mc>=3.51"
# Behind the environment's own packages: there the extra's apsw hides the one of these.
BEHIND = [str(Path(str(agentfs.__file__)).parents[1]), *site.getsitepackages()]
PRELUDE = """
import sys
from pathlib import Path
sys.path += sys.argv[2:]
import agentfs
from agentfs import AgentFS
path, MARKER = Path(sys.argv[1]), "MARKER-of-the-plain-text"
def raw():
    return b"".join(each.read_bytes() for each in path.parent.glob(path.name + "*"))
def refused(**options):
    try:
        AgentFS.open(path, **options)
    except agentfs.WrongKey as error:
        return str(error)
    raise AssertionError("it was opened")
"""


@pytest.fixture(scope="session")
def python(cached_venv: Callable[..., Path]) -> Path:
    """The Python of an environment with the extra."""
    return cached_venv("encryption", EXTRA)


def run(python: Path, path: Path, code: str) -> None:
    """Run code with the extra in its own process; it asserts."""
    done = subprocess.run(
        [str(python), "-c", PRELUDE + code, str(path), *BEHIND],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_without_the_extra_a_key_names_what_to_install(tmp_path: Path) -> None:
    """A key that cannot be used is an error before a file is made."""
    if encryption.is_available():
        pytest.skip("the extra is installed here")
    with pytest.raises(agentfs.EncryptionMissing, match=r"pip install 'fmos\[encryption\]'"):
        AgentFS.open(tmp_path / "a.afs", key="secret")
    assert list(tmp_path.iterdir()) == []
    with AgentFS.open(tmp_path / "a.afs") as fs:
        with pytest.raises(agentfs.EncryptionMissing):
            fs.rekey("secret")
        assert fs.encrypted is False
        fs.write("/f", "still usable")


def test_without_a_key_an_encrypted_volume_says_so(python: Path, tmp_path: Path) -> None:
    """Also where the extra is not installed, the error is not that of a strange file."""
    path = tmp_path / "a.afs"
    run(python, path, "AgentFS.open(path, key='k').close()")
    before = path.read_bytes()
    with pytest.raises(agentfs.WrongKey, match="it is encrypted; open it with its key"):
        AgentFS.open(path)
    assert path.read_bytes() == before


def test_no_file_of_an_encrypted_volume_has_plain_text(python: Path, tmp_path: Path) -> None:
    """Content, names, keys and the journal are encrypted in the file and in its log."""
    run(python, tmp_path / "a.afs", """
with AgentFS.open(path, key="secret") as fs:
    assert fs.encrypted
    fs.write("/small-" + MARKER, MARKER)
    fs.write("/large", (MARKER + " ") * 50_000)
    fs.kv.set("k", MARKER)
    fs.snapshot("s", message=MARKER)
    assert Path(str(path) + "-wal").stat().st_size > 100_000
    assert MARKER.encode() not in raw() and b"SQLite format" not in raw()
assert MARKER.encode() not in raw()
with AgentFS.open(path, key=b"secret") as fs:
    assert fs.read_text("/small-" + MARKER) == MARKER
    assert fs.fsck(read_data=True) == []
with AgentFS.open(path.with_name("plain.afs")) as fs:
    fs.write("/small", MARKER)
assert MARKER.encode() in path.with_name("plain.afs").read_bytes()
""")  # fmt: skip


def test_a_wrong_or_missing_key_opens_nothing(python: Path, tmp_path: Path) -> None:
    """Each mistake has its own sentence, and none of them changes the file."""
    run(python, tmp_path / "a.afs", """
AgentFS.open(path, key="secret").close()
AgentFS.open(path.with_name("plain.afs")).close()
before = raw()
assert "written with another key" in refused(key="Secret")
assert "it is encrypted; open it with its key" in refused()
assert raw() == before
plain, path = path, path.with_name("plain.afs")
assert "it is not encrypted" in refused(key="secret")
path = plain
try:
    AgentFS.open(path, key="")
except agentfs.InvalidArgument:
    pass
else:
    raise AssertionError("an empty key was taken")
""")  # fmt: skip


def test_threads_and_processes_share_an_encrypted_volume(python: Path, tmp_path: Path) -> None:
    """Each connection unlocks the file for itself."""
    run(python, tmp_path / "a.afs", """
from concurrent.futures import ThreadPoolExecutor
with AgentFS.open(path, key="k") as fs, AgentFS.open(path, key="k") as other:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: (fs if n % 2 else other).write(f"/{n}", str(n)), range(20)))
    assert len(fs.listdir()) == 20
""")  # fmt: skip


def test_rekey_changes_adds_and_takes_away_the_key(python: Path, tmp_path: Path) -> None:
    """After each change only the new key opens the volume, with all that was in it."""
    run(python, tmp_path / "a.afs", """
with AgentFS.open(path) as fs:
    fs.write("/f", MARKER)
    fs.rekey("first")
    assert fs.encrypted and fs.read_text("/f") == MARKER
    assert MARKER.encode() not in raw()
    fs.rekey(b"second")
    fs.write("/g", MARKER)
assert MARKER.encode() not in raw()
assert "written with another key" in refused(key="first")
with AgentFS.open(path, key="second") as fs:
    assert fs.read_text("/g") == MARKER
    assert fs.fsck(read_data=True) == []
    fs.rekey(None)
    assert not fs.encrypted
with AgentFS.open(path) as fs:
    assert fs.read_text("/f") == MARKER
    assert [row.detail for row in fs.journal(operation="rekey")] == [
        {"encrypted": True}, {"encrypted": True}, {"encrypted": False}]
    assert fs.fsck(read_data=True) == []
""")  # fmt: skip


def test_rekey_waits_for_nobody_else(python: Path, tmp_path: Path) -> None:
    """While somebody else has the volume open, the key stays as it was."""
    run(python, tmp_path / "a.afs", """
with AgentFS.open(path, key="k", busy_s=0.2) as fs, AgentFS.open(path, key="k") as other:
    other.write("/f", "x")
    for attempt in (fs, other):
        try:
            with attempt.transaction():
                attempt.rekey("new")
        except agentfs.VolumeBusy:
            pass
        else:
            raise AssertionError("the key was changed in a transaction")
    try:
        fs.rekey("new")
    except agentfs.VolumeBusy:
        pass
    else:
        raise AssertionError("the key was changed under another reader")
    assert fs.read("/f") == other.read("/f") == b"x"
AgentFS.open(path, key="k").close()
""")  # fmt: skip
