"""The pages about the command are true: their blocks run and no command is missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import agentfs
from agentfs.cli.main import app

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "agentfs.md"


def _shim(folder: Path) -> Path:
    """An `agentfs` on PATH that runs the code under test, installed or not."""
    folder.mkdir()
    shim = folder / "agentfs"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agentfs.cli "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    return folder


def test_shell_blocks_of_the_page_run(tmp_path: Path) -> None:
    """Every fenced shell block of docs/agentfs.md runs, in order, without an error."""
    blocks = re.findall(r"```sh\n(.*?)```", _PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    work = tmp_path / "work-here"
    work.mkdir()
    package_root = Path(str(agentfs.__file__)).parents[1]
    environment = os.environ | {
        "PATH": f"{_shim(tmp_path / 'bin')}:{os.environ['PATH']}",
        "PYTHONPATH": str(package_root),
    }
    environment.pop("AGENTFS_FILE", None)
    ran = subprocess.run(
        ["bash", "-euxc", "\n".join(blocks)],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert len(blocks) >= 8


def test_every_command_is_on_the_page() -> None:
    """Each registered command is named in a code block of docs/agentfs.md."""
    page = _PAGE.read_text(encoding="utf-8")
    names = [command.callback.__name__ for command in app.registered_commands if command.callback]
    missing = [n for n in names if not re.search(rf"agentfs (-\S+ \S+ )*{n}\b", page)]
    assert not missing
