"""The POSIX suite over a mount and over a bare directory, which proves its expectations right."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentfs import AgentFS
from agentfs.mount import Mounted, unavailable

from .posix.groups import GROUPS
from .posix.runner import Checks

pytestmark = pytest.mark.skipif(
    unavailable() is not None or os.geteuid() != 0, reason="needs root and /dev/fuse"
)
# A part that is quick enough for every run; the whole is behind AGENTFS_SOAK=1.
_SLIM = [
    "not a directory", "chmod special bits", "chown clears set id", "link", "unlink while open",
    "rename open file", "rename hard links", "utimensat one of both",
]  # fmt: skip
_WANTED = list(GROUPS) if os.environ.get("AGENTFS_SOAK") else _SLIM


@pytest.fixture(params=["mount", "bare"])
def root(request: pytest.FixtureRequest) -> Iterator[str]:
    """A directory that every user may enter, on a mount or without one."""
    with tempfile.TemporaryDirectory(prefix="agentfs-posix-") as place:
        os.chmod(place, 0o755)
        if request.param == "bare":
            yield place
            return
        os.mkdir(f"{place}/mount")
        with AgentFS.open(Path(place) / "v.afs") as fs, Mounted(fs, f"{place}/mount") as where:
            yield where
            assert fs.fsck() == []


@pytest.mark.parametrize("group", _WANTED)
def test_the_kernel_and_the_mount_do_as_posix_says(root: str, group: str) -> None:
    """Each group of checks holds on the mount as on the disk."""
    checks = Checks(root)
    checks.group = group
    GROUPS[group](checks)
    assert checks.failures == []
    assert checks.passed
