"""docs/agentfs-run.md is true: its commands run in order and print what it says."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.agentfs.command_server import started

from agentfs.run import sandbox

_PAGE = Path(__file__).parents[2] / "docs" / "agentfs-run.md"
_NEEDED = ("git", "cc", "make", "bwrap", "setsid")
_HOME = "/home/me"
_MARK = "end of the output"
# A shell whose every prompt is known: each command is read, run, and its end is marked.
_PRELUDE = "set -o pipefail; export LC_ALL=C\n"


@contextmanager
def _agentfs(folder: Path) -> Iterator[Path]:
    """A folder for PATH with an `agentfs` that runs the code under test."""
    with started(folder):
        # A command that is killed must be a process of its own, not one of the server's.
        (folder / "agentfs").rename(folder / "served")
        (folder / "agentfs").write_text(
            '#!/bin/sh\ncase " $* " in'
            f' *" --backend copy "*) exec {sys.executable} -m agentfs.cli "$@";;'
            f' *) exec {folder}/served "$@";; esac\n'
        )
        (folder / "agentfs").chmod(0o755)
        yield folder


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)


def _steps() -> list[tuple[str, str]]:
    """Return each command of the page and what it prints."""
    steps: list[tuple[str, str]] = []
    for line in "".join(_blocks("console")).splitlines(keepends=True):
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        elif line.startswith("> "):
            steps[-1] = (steps[-1][0] + line[2:], "")
        else:
            steps[-1] = (steps[-1][0], steps[-1][1] + line)
    return steps


def _plain(text: str, home: Path) -> str:
    """Return output without what differs from one machine to the next."""
    text = text.replace(str(home), _HOME)
    return re.sub(r"back end \w+ \(bubblewrap, no network\).*", "back end", text)


@pytest.mark.skipif(
    not all(map(shutil.which, _NEEDED)) or bool(sandbox.why_not()),
    reason=f"needs {', '.join(_NEEDED)}",
)
def test_every_command_prints_what_the_page_says(tmp_path: Path) -> None:
    """The whole story, in one shell, in an empty home; the host is as it was."""
    home = tmp_path / "me"
    home.mkdir()
    steps = _steps()
    assert len(steps) > 25
    script = _PRELUDE + "".join(f"{command}echo; echo '{_MARK}'\n" for command, _ in steps)
    with _agentfs(tmp_path / "bin") as folder:
        environment = {
            "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(home), "TMPDIR": str(tmp_path),
            "GIT_CONFIG_GLOBAL": "/dev/null", "EMAIL": "me@example.org", "USER": "me",
            "GIT_AUTHOR_NAME": "me", "GIT_COMMITTER_NAME": "me",
        }  # fmt: skip
        ran = subprocess.run(
            ["bash", "-c", script], cwd=home, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
    printed = ran.stdout.split(f"\n{_MARK}\n")
    assert len(printed) == len(steps) + 1, ran.stdout
    for (command, wanted), found in zip(steps, printed, strict=False):
        assert _plain(found, home) == _plain(wanted, home), command


def test_python_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fenced Python block runs, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (block,) = _blocks("python")
    exec(compile(block, str(_PAGE), "exec"), {})
