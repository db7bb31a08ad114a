"""The fsspec door: fsspec's own suite, ranges, and what the volume adds to it."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.tests import abstract

from agentfs import AgentFS, ReadOnly
from agentfs.fsspec import AgentFileSystem


class Fixtures(abstract.AbstractFixtures):
    """What fsspec's suite needs to know about this file system."""

    @pytest.fixture
    def fs(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentFileSystem]:
        """A fresh volume."""
        volume = tmp_path_factory.mktemp("volume") / "x.afs"
        yield (made := AgentFileSystem(volume=volume, create=True))
        made.agentfs.close()

    @pytest.fixture
    def fs_join(self):
        """Volume paths use a slash everywhere."""
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def fs_path(self) -> str:
        """The directory that the suite works in."""
        return "/suite"


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    """Copy inside the volume."""


class TestGet(abstract.AbstractGetTests, Fixtures):
    """Copy out of the volume."""


class TestPut(abstract.AbstractPutTests, Fixtures):
    """Copy into the volume."""


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    """Exclusive opening."""


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    """Whole-file writing."""


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFileSystem]:
    """A fresh volume."""
    yield (made := AgentFileSystem(volume=tmp_path / "x.afs", create=True))
    made.agentfs.close()


def test_a_url_opens_by_the_entry_point(tmp_path: Path) -> None:
    """`fsspec.open("agentfs://...")` finds the driver, writes text and reads it back."""
    volume = str(tmp_path / "x.afs")
    with fsspec.open("agentfs://data/a.csv", "w", volume=volume, create=True) as file:
        file.write("a,b\n1,2\n")
    with fsspec.open("agentfs:///data/a.csv", "r", volume=volume) as file:
        assert file.read() == "a,b\n1,2\n"
    with AgentFS.open(volume) as opened:
        assert opened.read("/data/a.csv") == b"a,b\n1,2\n"


def test_a_volume_must_be_named_and_there(tmp_path: Path) -> None:
    """Without the option volume, or where the file is missing, the error says so."""
    with pytest.raises(OSError, match="volume="):
        fsspec.filesystem("agentfs")
    with pytest.raises(FileNotFoundError):
        AgentFileSystem(volume=tmp_path / "none.afs")


def test_the_error_without_the_package_names_the_extra() -> None:
    """Importing the driver where fsspec is not installed says how to install it."""
    code = "import sys; sys.modules['fsspec'] = None; import agentfs.fsspec"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'fmos[fsspec]'" in ran.stderr.splitlines()[-1]


def test_ranges_are_those_of_a_slice(fs: AgentFileSystem) -> None:
    """Seeks, `cat_file`, `cat_ranges`, `head` and `tail` give what slices of the bytes give."""
    data = bytes(i * i % 251 for i in range(3_000_000))
    fs.pipe_file("/big", data)
    for start, end in ((0, 10), (1_000_000, 1_000_007), (-5, None), (10, -10), (5, 2), (None, 3)):
        assert fs.cat_file("/big", start, end) == data[start:end]
    assert fs.cat_ranges(["/big", "/big"], [1, 100], [2, 200]) == [data[1:2], data[100:200]]
    with fs.open("/big", block_size=65536) as file:
        for offset in (2_999_990, 5, 1_500_000):
            file.seek(offset)
            assert file.read(300) == data[offset : offset + 300]
        assert file.size == len(data)
    assert fs.tail("/big", 9) == data[-9:]


def test_a_reader_keeps_the_version_it_opened(fs: AgentFileSystem) -> None:
    """A file that is replaced while it is read stays whole for its reader."""
    fs.pipe_file("/f", b"a" * 500_000)
    with fs.open("/f", block_size=1000) as file:
        first = file.read(10)
        fs.pipe_file("/f", b"b" * 500_000)
        assert first + file.read() == b"a" * 500_000
    assert fs.cat_file("/f", 0, 1) == b"b"


def test_a_new_file_appears_when_it_is_closed(fs: AgentFileSystem) -> None:
    """Readers see the old bytes until the writer closes, and never an empty file."""
    fs.pipe_file("/f", b"old")
    with fs.open("/f", "wb") as file:
        file.write(b"new")
        assert fs.cat_file("/f") == b"old"
    assert fs.cat_file("/f") == b"new"


def test_append_and_update_modes_keep_the_rest(fs: AgentFileSystem) -> None:
    """`ab` adds at the end and `r+b` changes only what it writes."""
    fs.pipe_file("/f", b"abc")
    with fs.open("/f", "ab") as file:
        file.write(b"d")
    with fs.open("/f", "r+b") as file:
        file.write(b"X")
    assert fs.cat_file("/f") == b"Xbcd"


def test_a_transaction_is_all_or_nothing(fs: AgentFileSystem) -> None:
    """Files written in `fs.transaction` appear together, or after an exception not at all."""
    with fs.transaction:
        fs.pipe_file("/seen", b"1")
        with fs.open("/a", "wb") as file:
            file.write(b"1")
        assert not fs.exists("/a")
    assert fs.cat_file("/a") == b"1"
    with pytest.raises(RuntimeError), fs.transaction:
        with fs.open("/b", "wb") as file:
            file.write(b"1")
        raise RuntimeError
    assert not fs.exists("/b")


def test_copying_and_moving_a_directory_is_one_operation(fs: AgentFileSystem) -> None:
    """A whole directory is shared or renamed by one row of the journal."""
    for i in range(20):
        fs.pipe_file(f"/d/{i}", b"x")
    before = len(fs.agentfs.log())
    fs.copy("/d", "/copy", recursive=True)
    fs.mv("/d", "/moved", recursive=True)
    assert [row.operation for row in fs.agentfs.log(len(fs.agentfs.log()) - before)] == [
        "rename",
        "copy",
    ]
    assert len(fs.ls("/copy")) == len(fs.ls("/moved")) == 20
    with pytest.raises(FileNotFoundError):
        fs.mv("/none", "/made/x")
    assert not fs.exists("/made")


def test_branches_and_past_states_are_options(fs: AgentFileSystem, tmp_path: Path) -> None:
    """`branch` opens another branch, `at` a snapshot that refuses writes."""
    fs.pipe_file("/f", b"1")
    fs.agentfs.snapshot("s")
    fs.agentfs.fork("try").write("/f", b"2")
    volume = str(tmp_path / "x.afs")
    assert fsspec.filesystem("agentfs", volume=volume, branch="try").cat("/f") == b"2"
    past = fsspec.filesystem("agentfs", volume=volume, at="s")
    fs.pipe_file("/f", b"3")
    assert past.cat("/f") == b"1"
    with pytest.raises(ReadOnly):
        past.pipe_file("/f", b"4")


def test_links_are_followed_and_said(fs: AgentFileSystem) -> None:
    """A link has the type and size of its target; one that leads nowhere is a link."""
    fs.pipe_file("/f", b"123")
    fs.agentfs.symlink("/f", "/to")
    fs.agentfs.symlink("/gone", "/nowhere")
    assert (fs.info("/to")["type"], fs.info("/to")["size"]) == ("file", 3)
    assert fs.info("/to")["destination"] == "/f"
    assert fs.info("/nowhere")["type"] == "link"


def test_the_key_changes_with_the_bytes(fs: AgentFileSystem) -> None:
    """`ukey` is the same for the same version and another one after a write."""
    fs.pipe_file("/f", b"1")
    before = fs.ukey("/f")
    assert fs.ukey("/f") == before
    fs.pipe_file("/f", b"2")
    assert fs.ukey("/f") != before


def test_a_relative_volume_is_that_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instance cache and pickles never mix up equal names in two directories."""
    kept = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        kept.append(fsspec.filesystem("agentfs", volume="x.afs", create=True))
        kept[-1].pipe_file("/name", name.encode())
    assert [each.cat_file("/name") for each in kept] == [b"one", b"two"]
    assert pickle.loads(pickle.dumps(kept[0])).cat_file("/name") == b"one"


def test_names_come_back_from_glob_find_and_walk(fs: AgentFileSystem) -> None:
    """What fsspec builds on `ls` sees the whole tree, empty directories too."""
    fs.pipe({"/a/b/c.txt": b"1", "/a/d.txt": b"2"})
    fs.makedirs("/a/empty")
    assert fs.glob("/a/**/*.txt") == ["/a/b/c.txt", "/a/d.txt"]
    assert fs.find("agentfs://a") == ["/a/b/c.txt", "/a/d.txt"]
    assert fs.du("/a") == 2
    assert sorted(each["name"] for each in fs.ls("/a")) == ["/a/b", "/a/d.txt", "/a/empty"]
    fs.rm("/a", recursive=True)
    assert fs.ls("/", detail=False) == []
