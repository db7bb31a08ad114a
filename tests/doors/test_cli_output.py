"""What `fmos` prints cannot steer a terminal, whatever names and reasons agents chose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fmos.runtime.kernel import Kernel
from fmos.runtime.lifecycle import Lifecycle
from fmos.types import Principal
from fmos.versions.versions import Versions
from fmos_cli.telling import safe

_CLEAR = "a\x1b[2Jb"
_SHOWN = "a\\x1b[2Jb"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where a file, a proposal and a paused agent carry an escape sequence."""
    home = tmp_path_factory.mktemp("output") / "home"
    with Kernel.open(home) as kernel:
        kernel.volume("default").write(f"/{_CLEAR}", b"x")
        Versions(kernel).propose(
            "default", "prompt", "system", b"be kind", author="agent:learner", why=_CLEAR
        )
        lives, who = Lifecycle(kernel), Principal(agent="ada")
        lives.spawn(who, "", person="user:bob")
        lives.pause(who, reason=_CLEAR, person="user:bob")
    return home


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "show"),
        ("versions", "list"),
        ("versions", "log"),
        ("agent", "show", "ada"),
        ("agent", "list"),
    ],
    ids=" ".join,
)
def test_no_escape_sequence_reaches_the_terminal(home: Path, command: tuple[str, ...]) -> None:
    """The bytes of another process are looked at: a runner in this one strips sequences."""
    ran = subprocess.run(
        [sys.executable, "-m", "fmos_cli", "--home", str(home), *command],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert _SHOWN in ran.stdout
    assert "\x1b" not in ran.stdout + ran.stderr


def test_text_that_steers_nothing_stays_as_it_is() -> None:
    """Letters of any script are kept; what moves a cursor, or turns text round, is escaped."""
    assert safe("größe 大きさ it's") == "größe 大きさ it's"
    assert safe("a\tb\u202ec\x9b") == r"a\tb\u202ec\x9b"
