"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from fmos.care import files
from fmos.storage import wholefile


def test_a_file_gets_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    """Until the end of the block the old text is there, then the new one."""
    path = tmp_path / "it"
    path.write_text("old")
    with wholefile.whole(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["it"]


def test_an_exception_leaves_what_was_there(tmp_path: Path) -> None:
    """Neither half a file nor a draft is left, whatever was raised."""
    path = tmp_path / "it"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), wholefile.whole(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["it"]


@pytest.mark.parametrize("private", [True, False])
def test_a_private_file_is_its_owners_from_the_first_byte(tmp_path: Path, private: bool) -> None:
    """The draft has the mode of the file already; the umask decides for one that is not private."""
    before = os.umask(0o022)
    try:
        with wholefile.draft(tmp_path / "it", private=private) as draft:
            drafted = stat.S_IMODE(draft.stat().st_mode)
    finally:
        os.umask(before)
    wanted = 0o600 if private else 0o644
    assert (drafted, stat.S_IMODE((tmp_path / "it").stat().st_mode)) == (wanted, wanted)


def test_what_is_there_is_not_replaced_unless_it_may_be(tmp_path: Path) -> None:
    """With `replace=False` a file that appeared meanwhile stays."""
    path = tmp_path / "it"
    with (
        pytest.raises(FileExistsError),
        wholefile.whole(path, replace=False) as file,
    ):
        path.write_text("another's")
        file.write(b"own")
    assert path.read_text() == "another's"
    assert os.listdir(tmp_path) == ["it"]


def test_backups_leave_out_what_a_killed_process_left(tmp_path: Path) -> None:
    """A draft that stays behind has a name that no backup takes for state."""
    path = tmp_path / "it"
    child = os.fork()
    if not child:
        with wholefile.whole(path) as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(os.listdir(tmp_path)) == 1
    assert not path.exists()
    assert not list(files.names(tmp_path))
