"""Quotas: limits on the bytes and names of a branch."""

import errno
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import agentfs
from agentfs import AgentFS

_MISFITS = (
    agentfs.InvalidArgument, agentfs.IsADirectory, agentfs.NotADirectory, agentfs.NotEmpty,
)  # fmt: skip


@pytest.fixture
def fs(tmp_path: Path):
    """Open a fresh volume with `system`, and check its structure and counters at the end."""
    with AgentFS.open(tmp_path / "a.afs", system=True) as handle:
        yield handle
        assert handle.fsck(read_data=True) == []


def walked(fs: AgentFS) -> tuple[int, int]:
    """Bytes of files and names as a walk finds them."""
    size = count = 0
    for path, _, _ in fs.walk("/"):
        for each in fs.scandir(path):
            count += 1
            size += each.stat.size if each.stat.is_file else 0
    return size, count


def used(fs: AgentFS) -> tuple[int, int]:
    """Bytes and names as the counters say."""
    quota = fs.quota()
    return quota.used_bytes, quota.used_files


def test_a_write_beyond_the_limit_says_everything_and_changes_nothing(fs: AgentFS) -> None:
    """The error names branch, limit, used and wanted; the file and the counters stay."""
    fs.write("/a", b"x" * 60)
    fs.set_quota(bytes=100)
    with pytest.raises(agentfs.QuotaExceeded) as caught:
        fs.write("/b", b"y" * 50)
    assert str(caught.value) == (
        "the quota of the branch 'main' is exceeded: 110 bytes are wanted, the limit is 100,"
        " 60 are used; remove something, or raise the limit"
    )
    assert caught.value.errno == errno.EDQUOT
    assert isinstance(caught.value, OSError)
    assert fs.listdir() == ["a"]
    assert fs.quota() == agentfs.Quota(100, None, 60, 1)
    fs.write("/b", b"y" * 40)


def test_names_of_every_kind_count_as_files(fs: AgentFS) -> None:
    """Files, directories and symbolic links each take one name."""
    fs.set_quota(files=3)
    fs.mkdir("/d")
    fs.write("/d/f", "x")
    fs.symlink("f", "/d/l")
    for more in (lambda: fs.write("/g", "x"), lambda: fs.mkdir("/e"), lambda: fs.copy("/d", "/e")):
        with pytest.raises(agentfs.QuotaExceeded, match="files are wanted, the limit is 3"):
            more()
    fs.remove("/d/l")
    fs.write("/g", "x")
    assert fs.quota().used_files == 3


CHANGES: dict[str, Callable[[AgentFS], object]] = {
    "overwrite": lambda fs: fs.write("/d/a", b"12"),
    "append": lambda fs: fs.append("/d/a", b"12"),
    "truncate": lambda fs: fs.truncate("/d/a", 9000),
    "rename over": lambda fs: fs.rename("/d/a", "/d/b"),
    "rename of a directory": lambda fs: fs.rename("/d", "/e"),
    "copy of a directory": lambda fs: fs.copy("/d", "/e"),
    "copy over": lambda fs: fs.copy("/d/a", "/d/b"),
    "write in a copy": lambda fs: (fs.copy("/d", "/e"), fs.write("/e/sub/c", b"z" * 77)),
    "recursive remove": lambda fs: fs.remove("/d", recursive=True),
    "rmdir": lambda fs: (fs.mkdir("/x"), fs.rmdir("/x")),
    "chmod": lambda fs: (fs.chmod("/d/a", 0o600), fs.chmod("/d", 0o700)),
    "restore": lambda fs: (fs.write("/x", b"1"), fs.restore("s")),
    "restore of a path": lambda fs: (fs.remove("/d", recursive=True), fs.restore("s", ["/d"])),
    "restore that removes": lambda fs: (fs.write("/x", b"1"), fs.restore("s", ["/x"])),
    "kv": lambda fs: (fs.kv.set("k", "v" * 100), fs.kv.set("l", 1), fs.kv.delete("l")),
    "hard link": lambda fs: (fs.link("/d/a", "/l"), fs.write("/l", b"longer than before")),
    "last hard link": lambda fs: (fs.link("/d/a", "/l"), fs.remove("/l"), fs.remove("/d/a")),
    "copied hard links": lambda fs: (fs.link("/d/a", "/d/sub/l"), fs.copy("/d", "/e")),
    "file object": lambda fs: fs.open("/d/n", "w").close(),
    "transaction undone": lambda fs: _undone(fs),
    "snapshot": lambda fs: (fs.snapshot("t"), fs.write("/d/a", b"other")),
}


def _undone(fs: AgentFS) -> None:
    with pytest.raises(RuntimeError), fs.transaction():
        fs.write("/d/a", b"x" * 500)
        raise RuntimeError


@pytest.mark.parametrize("name", CHANGES)
def test_counters_follow_every_change(fs: AgentFS, name: str) -> None:
    """After each kind of change the counters are what a walk finds (fsck compares them too)."""
    fs.mkdir("/d/sub", parents=True)
    fs.write("/d/a", b"x" * 10)
    fs.write("/d/b", b"x" * 5000)
    fs.write("/d/sub/c", b"x" * 300)
    fs.snapshot("s")
    fs.set_quota(bytes=10**9, files=10**6)
    CHANGES[name](fs)
    if "hard link" not in name:
        assert used(fs) == walked(fs)
    assert fs.fsck() == []


def test_random_changes_leave_the_counters_right(fs: AgentFS) -> None:
    """Hundreds of mixed changes, forks and merges keep the counters equal to a walk."""
    fs.set_quota(bytes=10**9, files=10**6)
    seed = random.Random(7)
    fs.mkdir("/d0")
    for step in range(300):
        here, there = (f"/d{seed.randrange(4)}" for _ in range(2))
        name = f"/n{seed.randrange(5)}"
        with suppress(agentfs.NotFound, agentfs.AlreadyExists, *_MISFITS):
            match seed.randrange(8):
                case 0:
                    fs.mkdir(here)
                case 1:
                    fs.copy(here, there + name)
                case 2:
                    fs.rename(here + name, there + name)
                case 3:
                    fs.remove(here + name, recursive=True)
                case 4:
                    other = fs.fork(f"b{step}")
                    other.write(here + f"/f{step}", b"t" * seed.randrange(9000))
                    fs.merge(f"b{step}", strategy="theirs")
                case _:
                    fs.write(here + name, b"x" * seed.randrange(9000))
        if step % 50 == 0:
            assert fs.fsck() == []
    assert used(fs) == walked(fs)


def test_a_merge_beyond_the_limit_changes_nothing(fs: AgentFS) -> None:
    """A merge is one operation: it fits as a whole or not at all, whatever its order."""
    fs.write("/old", b"x" * 90)
    other = fs.fork("other")
    other.write("/new", b"y" * 95)
    fs.set_quota(bytes=100)
    with pytest.raises(agentfs.QuotaExceeded):
        fs.merge("other")
    assert fs.listdir() == ["old"]
    other.remove("/old")
    fs.merge("other")
    assert fs.listdir() == ["new"]
    assert used(fs) == (95, 1)


def test_a_fork_takes_the_limits_along(fs: AgentFS) -> None:
    """Forking is no way around a limit: from the branch, from a snapshot or from elsewhere."""
    free = fs.fork("free")
    fs.write("/a", b"x" * 80)
    fs.snapshot("s")
    fs.set_quota(bytes=100)
    for number, source in enumerate((None, "s", "free")):
        fork = fs.fork(f"fork{number}", source)
        assert fork.quota().max_bytes == 100
        with pytest.raises(agentfs.QuotaExceeded):
            fork.write("/b", b"y" * 101)
    free.write("/b", b"y" * 1000)
    fs.delete_branch("fork0")
    assert fs.fork("fork0", "free").quota().used_bytes == 1000


def test_a_branch_above_its_limit_may_shrink(fs: AgentFS) -> None:
    """A limit below the use stops growth and lets everything else happen."""
    fs.write("/a", b"x" * 80)
    fs.write("/b", b"x" * 80)
    fs.set_quota(bytes=100)
    fs.chmod("/a", 0o600)
    fs.write("/a", b"x" * 79)
    fs.rename("/a", "/c")
    with pytest.raises(agentfs.QuotaExceeded):
        fs.append("/c", b"xx")
    fs.remove("/b")
    fs.append("/c", b"xx")
    fs.set_quota()
    assert fs.quota() == agentfs.Quota(None, None, 81, 1)
    fs.append("/c", b"x" * 1000)


def test_only_a_system_handle_sets_a_quota(fs: AgentFS) -> None:
    """What governs an agent is not the agent's to change."""
    agent = fs.on("main", system=False)
    fs.set_quota(bytes=10)
    with pytest.raises(agentfs.PermissionDenied):
        agent.set_quota()
    with pytest.raises(agentfs.InvalidArgument):
        fs.set_quota(bytes=-1)
    assert agent.quota().max_bytes == 10


def test_fsck_finds_wrong_counters(tmp_path: Path) -> None:
    """A counter that was changed by hand is a finding with its own number."""
    with AgentFS.open(tmp_path / "a.afs", system=True) as fs:
        fs.write("/a", b"x")
        fs.set_quota(bytes=10)
        with fs.view_for_writing() as view:
            view.session.execute("UPDATE quota SET used_bytes = 7")
        assert [each.message for each in fs.fsck()] == [
            "branch 'main' counts 7 bytes in 1 names and has 1 in 1"
        ]
