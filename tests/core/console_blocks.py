"""Reads the fenced blocks of a documentation page, and runs its commands and programs."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from fmos_cli.main import app

_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROMPT = re.compile(r"^\$ ", re.MULTILINE)
_ASSIGNED = re.compile(r"[A-Z_]+=")
_TIMEOUT_S = 60.0

#: What differs from run to run: times of day, ids and hashes.
VARYING = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", "<time>"),
    (r"\b\d\d:\d\d:\d\d\.\d{3}", "<time>"),
    (r"\b[0-9a-f]{32}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<hash>"),
)


class Block(NamedTuple):
    """One fenced block: its language, the file that it names behind it, and where it begins."""

    language: str
    file: str
    text: str
    line: int


class Command(NamedTuple):
    """One command of a page, and what the page says that it prints."""

    line: str
    printed: str


class Ran(NamedTuple):
    """What a command printed: as a terminal shows it, and apart."""

    output: str
    stdout: str
    stderr: str
    exit_code: int


def blocks(page: Path | str) -> Iterator[Block]:
    """Yield the blocks of a page, or of a part of its text, in their order."""
    text = page if isinstance(page, str) else page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        yield Block(found[1], found[2] or "", found[3], text.count("\n", 0, found.start(3)))


def texts(page: Path | str, language: str) -> list[str]:
    """Return the blocks of one language."""
    return [block.text for block in blocks(page) if block.language == language]


def commands(page: Path | str) -> Iterator[Command]:
    """Yield the commands of all console blocks of a page."""
    for text in texts(page, "console"):
        yield from commands_of(text)


def commands_of(console: str) -> Iterator[Command]:
    """Yield the commands of the text of one console block."""
    for part in _PROMPT.split(console)[1:]:
        line, _, printed = part.partition("\n")
        yield Command(line, printed)


def run(line: str, home: Path | str | None = None) -> Ran:
    """Run a command of a page: `fmos` in this process, anything else in a shell.

    Variables before the command, globs, and `> FILE` at its end are understood; without `home` it
    is the one of the environment.
    """
    words = shlex.split(line)
    program = next(word for word in words if not _ASSIGNED.match(word))
    if program != "fmos" or "|" in words:
        return _in_shell(line)
    target = words[-1] if words[-2] == ">" else ""
    words = words[:-2] if target else words
    at = words.index("fmos")
    variables: Mapping[str, str | None] = dict(word.split("=", 1) for word in words[:at])
    arguments = [each for word in words[at + 1 :] for each in glob(word) or [word]]
    where = [] if home is None else ["--home", str(home)]
    done = CliRunner().invoke(app, [*where, *arguments], env=variables, prog_name="fmos")
    if target:
        Path(target).write_text(done.stdout, encoding="utf-8")
    output = done.stderr if target else done.output
    return Ran(output, "" if target else done.stdout, done.stderr, done.exit_code)


def _in_shell(line: str) -> Ran:
    if line.startswith("fmos "):
        line = f"{shlex.quote(sys.executable)} -m fmos_cli {line.removeprefix('fmos ')}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    return Ran(done.stdout + done.stderr, done.stdout, done.stderr, done.returncode)


def printed_by(block: Block, page: Path, names: dict[str, Any]) -> str:
    """Run a Python block, whose errors name the page's own lines; return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
    return out.getvalue()


def steady(text: str, varying: Iterable[tuple[str, str]] = VARYING) -> str:
    """Return a text without what differs from run to run."""
    for pattern, name in varying:
        text = re.sub(pattern, name, text)
    return text


def fill(page: Path, printed: Iterable[str]) -> None:
    """Write into a page what its commands print now."""
    outputs = iter(printed)

    def filled(found: re.Match[str]) -> str:
        if found[1] != "console":
            return found[0]
        lines = [f"$ {each.line}\n{next(outputs)}" for each in commands_of(found[3])]
        return f"```console\n{''.join(lines)}```"

    page.write_text(_BLOCK.sub(filled, page.read_text(encoding="utf-8")), encoding="utf-8")
