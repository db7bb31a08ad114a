"""Runs the console blocks of a page: `$ fmos ...`, then what it prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner

from fmos_cli.main import app

_BLOCK = re.compile(r"^```console\n\$ fmos ([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}"), "<time>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<hash>"),
)


class Block(NamedTuple):
    """One command of a page, and what the page says that it prints."""

    arguments: list[str]
    printed: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(shlex.split(found[1]), found[2])


def run(home: Path, arguments: list[str]) -> str:
    """Return what a command prints for a home."""
    return CliRunner().invoke(app, ["--home", str(home), *arguments]).output


def steady(text: str) -> str:
    """Return a text without what differs from run to run: times of day, ids and hashes."""
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text


def fill(page: Path, printed: list[str]) -> None:
    """Write into a page what its commands print now."""
    outputs = iter(printed)
    text = page.read_text(encoding="utf-8")
    filled = _BLOCK.sub(lambda found: f"```console\n$ fmos {found[1]}\n{next(outputs)}```", text)
    page.write_text(filled, encoding="utf-8")
