"""What the host changed below an overlay, and taking that over into the branch."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.agentfs.reliability.test_disk_full import without_rights
from tests.agentfs.test_apply import lay, of_branch, of_host

from agentfs import AgentFS
from agentfs.types import HostChange


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host tree with a bit of everything."""
    (tmp_path / "host").mkdir()
    lay(tmp_path / "host")
    return tmp_path / "host"


@pytest.fixture(params=["/", "/p"])
def fs(request: pytest.FixtureRequest, tmp_path: Path, host: Path) -> Iterator[AgentFS]:
    """A volume over the host tree, all of which was listed; it ends as a sound one."""
    with AgentFS.open(tmp_path / "a.afs") as opened:
        opened.overlay(host, request.param)
        list(opened.walk(request.param))
        yield opened
        assert opened.fsck(read_data=True) == []
        assert opened.verify_journal().ok


def path(fs: AgentFS, name: str) -> str:
    """Return a path of the overlay in the volume."""
    return f"{fs.overlays()[0].at.rstrip('/')}/{name}"


def shown(fs: AgentFS, found: list[HostChange]) -> set[tuple[str, str]]:
    """Return kinds and paths in the overlay."""
    at = fs.overlays()[0].at
    return {(each.kind, each.path[len(at) :].lstrip("/")) for each in found}


def set_back(file: Path) -> None:
    """Write other bytes of the same length and set the time back."""
    info = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"NEW")
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))


def change_everything(host: Path) -> set[tuple[str, str]]:
    """Change a host tree in every way; return what that is."""
    (host / "file").write_text("changed by the host\n")
    set_back(host / "other")
    (host / "run.sh").chmod(0o700)
    (host / "empty").chmod(0o700)
    shutil.rmtree(host / "full")
    (host / "dir" / "inner").unlink()
    (host / "dir" / "inner").mkdir()
    (host / "dir" / "inner" / "below").write_text("x")
    (host / "dir" / "below" / "fresh").write_text("x")
    (host / "made" / "deep").mkdir(parents=True)
    (host / "made" / "deep" / "file").write_text("x")
    (host / "link").unlink()
    (host / "link").symlink_to("other")
    (host / "to").symlink_to("file")
    (host / "many" / "1").unlink()
    os.mkfifo(host / "many" / "1")
    os.mkfifo(host / "many" / "pipe")
    (host / "many").chmod(0o711)
    return {
        ("modified", "file"), ("modified", "other"), ("mode", "run.sh"), ("mode", "empty"),
        ("removed", "full"), ("type", "dir/inner"), ("added", "dir/below/fresh"),
        ("added", "made"), ("modified", "link"), ("added", "to"), ("removed", "many/1"),
        ("mode", "many"),
    }  # fmt: skip


def test_every_kind_of_change_is_listed_and_taken_over(fs: AgentFS, host: Path) -> None:
    """Then the branch reads what the host has, differs in nothing, and another look is clean."""
    assert fs.host_status() == []
    expected = change_everything(host)
    found = fs.host_status()
    assert shown(fs, found) == expected
    assert [each.path for each in found] == sorted(each.path for each in found)
    seq = fs.log()[0].seq
    taken, disputed = fs.refresh_overlay()
    assert (shown(fs, taken), disputed) == (expected, [])
    assert fs.host_status() == []
    assert list(fs.host_diff()) == []
    for name in ("1", "pipe"):
        (host / "many" / name).unlink()
    assert of_branch(fs) == of_host(host)
    past = fs.at(seq)
    assert past.listdir(path(fs, "full")) == ["a", "b"]
    assert past.stat(path(fs, "many")).mode == 0o755
    assert past.readlink(path(fs, "link")) == "file"


def test_a_touched_file_is_no_change_where_its_hash_is_known(fs: AgentFS, host: Path) -> None:
    """Time alone counts for files that nobody has read."""
    fs.read(path(fs, "file"))
    for name in ("file", "other", "dir"):
        (host / name).touch()
    assert shown(fs, fs.host_status()) == {("modified", "other")}


def test_directories_nobody_listed_are_not_compared(tmp_path: Path, host: Path) -> None:
    """What is new there is simply there, and its removal is one of the directory."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.overlay(host, "/p")
        fs.listdir("/p")
        (host / "dir" / "news").write_text("x")
        (host / "full" / "a").unlink()
        assert fs.host_status() == []
        assert "news" in fs.listdir("/p/dir")
        shutil.rmtree(host / "full")
        assert fs.host_status() == [HostChange("/p/full", "removed")]


def test_both_sides_changed(fs: AgentFS, host: Path) -> None:
    """Such paths are disputed and left alone; with `keep_ours` apply replaces the host's."""
    for name in ("file", "other", "dir/inner", "dir/new"):
        fs.write(path(fs, name), "branch\n")
    fs.remove(path(fs, "run.sh"))
    fs.chmod(path(fs, "empty"), 0o711)
    for name in ("file", "dir/new", "run.sh"):
        (host / name).write_text("host\n")
    (host / "dir" / "inner").unlink()
    (host / "empty").chmod(0o700)
    shutil.rmtree(host / "full")
    (host / "many" / "2").write_text("host\n")
    both = {
        ("modified", "file"), ("added", "dir/new"), ("modified", "run.sh"),
        ("removed", "dir/inner"), ("mode", "empty"),
    }  # fmt: skip
    alone = {("removed", "full"), ("modified", "many/2")}
    taken, disputed = fs.refresh_overlay()
    assert (shown(fs, taken), shown(fs, disputed)) == (alone, both)
    assert shown(fs, fs.host_status()) == both
    assert fs.read(path(fs, "file")) == b"branch\n"
    assert {each.path for each in fs.apply(dry_run=True).conflicts} == {
        path(fs, name) for _, name in both
    }
    taken, disputed = fs.refresh_overlay(keep_ours=True)
    assert (shown(fs, taken), disputed) == (both, [])
    assert fs.host_status() == []
    assert fs.apply().conflicts == ()
    assert of_branch(fs) == of_host(host)
    assert (host / "dir" / "inner").read_text() == "branch\n"
    assert not (host / "run.sh").exists()
    assert stat.S_IMODE((host / "empty").stat().st_mode) == 0o711


def test_a_removed_directory_in_which_the_branch_did_something(fs: AgentFS, host: Path) -> None:
    """It is disputed; where the branch only looks different it is taken."""
    fs.write(path(fs, "dir/inner"), "branch\n")
    fs.write(path(fs, "full/new"), "x")
    fs.remove(path(fs, "full/new"))
    shutil.rmtree(host / "dir")
    shutil.rmtree(host / "full")
    taken, disputed = fs.refresh_overlay()
    assert shown(fs, taken) == {("removed", "full")}
    assert shown(fs, disputed) == {("removed", "dir")}
    fs.discard(["dir"])
    assert shown(fs, fs.refresh_overlay()[0]) == {("removed", "dir")}
    assert not fs.exists(path(fs, "dir"))


def test_chosen_paths_are_refreshed(fs: AgentFS, host: Path) -> None:
    """Only what is at or below them."""
    for name in ("file", "other", "dir/inner", "dir/below/deep"):
        (host / name).write_text("host\n")
    taken, _ = fs.refresh_overlay(["file", "./dir/"])
    assert shown(fs, taken) == {
        ("modified", "file"), ("modified", "dir/inner"), ("modified", "dir/below/deep")
    }  # fmt: skip
    assert shown(fs, fs.host_status()) == {("modified", "other")}
    taken, _ = fs.refresh_overlay([str(host / "other")])
    assert len(taken) == 1
    assert fs.read(path(fs, "other")) == b"host\n"


def test_other_branches_are_as_they_were(fs: AgentFS, host: Path) -> None:
    """A refresh is one branch's own; another one still sees the change as one."""
    other = fs.fork("other")
    fs.read(path(fs, "file"))
    (host / "file").write_text("host\n")
    fs.refresh_overlay()
    assert fs.read(path(fs, "file")) == b"host\n"
    assert shown(other, other.host_status()) == {("modified", "file")}


def test_the_modes_of_the_overlays_own_directory(fs: AgentFS, host: Path) -> None:
    """It is compared and taken over like any other one."""
    host.chmod(0o700)
    assert shown(fs, fs.host_status()) == {("mode", "")}
    fs.refresh_overlay()
    assert fs.host_status() == list(fs.host_diff()) == []
    assert fs.stat(fs.overlays()[0].at).mode == 0o700
    fs.chmod(fs.overlays()[0].at, 0o750)
    assert len(fs.apply().changes) == 1
    assert stat.S_IMODE(host.stat().st_mode) == 0o750


def test_what_may_not_be_read_is_no_failure() -> None:
    """Files and directories that the host closed are listed, and the rest is compared."""

    def body(place: Path) -> None:
        root = place / "host"
        root.mkdir()
        lay(root)
        with AgentFS.open(place / "a.afs") as fs:
            fs.overlay(root, "/p")
            list(fs.walk("/p"))
            fs.read("/p/file")
            (root / "file").touch()
            (root / "file").chmod(0)
            (root / "dir").chmod(0)
            (root / "other").write_text("host\n")
            assert [(each.kind, each.path) for each in fs.host_status()] == [
                ("mode", "/p/dir"), ("modified", "/p/file"), ("modified", "/p/other")
            ]  # fmt: skip
            (root / "dir").chmod(0o755)

    without_rights(body)


def refreshed(tmp_path: Path, count: int) -> float:
    """Return the seconds of a refresh of so many changed files."""
    host = tmp_path / f"host{count}"
    for number in range(count):
        place = host / str(number % 20)
        place.mkdir(parents=True, exist_ok=True)
        (place / str(number)).write_text("old\n")
    with AgentFS.open(tmp_path / f"{count}.afs") as fs:
        fs.overlay(host, "/p")
        for directory, _, names in fs.walk("/p"):
            for each in names:
                fs.read(f"{directory}/{each}")
        for number in range(count):
            (host / str(number % 20) / str(number)).write_text("changed\n")
        start = time.perf_counter()
        taken, _ = fs.refresh_overlay()
        seconds = time.perf_counter() - start
        assert len(taken) == count
        assert fs.host_status() == []
    return seconds


def test_many_changed_files_cost_each_the_same(tmp_path: Path) -> None:
    """Eight times as many take no more than twenty times as long."""
    few, many = refreshed(tmp_path, 100), refreshed(tmp_path, 800)
    assert many < 20 * few + 0.5


CALLS: list[Callable[[AgentFS], object]] = [
    lambda fs: fs.host_status(), lambda fs: fs.refresh_overlay(), lambda fs: fs.apply(),
    lambda fs: list(fs.host_diff()),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_names_that_come_and_go_during_a_look_are_no_failure(
    fs: AgentFS, host: Path, number: int
) -> None:
    """A host that loses directories between two looks gives an answer, not an error."""
    shutil.rmtree(host / "dir")
    (host / "full").rename(host / "dir")
    CALLS[number](fs)
