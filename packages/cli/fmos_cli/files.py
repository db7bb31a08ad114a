"""The files that commands are given: what is to be read is there, what is there is not lost."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

import typer

ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


def source(path: Path) -> Path:
    """Return a file that is to be read.

    Raises:
        ArgumentError: if it is not there, is a folder, or may not be read.
    """
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    why = ""
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            why = "Is a directory"
        elif not os.access(path, os.R_OK):
            why = "Permission denied"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise ArgumentError(f"cannot read {str(path)!r}: {why}", hint="check the path")
    return path


def target(path: Path, *, force: bool) -> Path:
    """Return a file that is to be written; its writer makes it whole or not at all.

    Raises:
        ArgumentError: if it is there and not to be replaced, or its folder cannot take it.
    """
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    if path.is_dir():
        raise ArgumentError(f"{str(path)!r} is a folder", hint="name a file in it")
    if os.path.lexists(path) and not force:
        raise ArgumentError(
            f"{str(path)!r} is there already", hint="name another file, or replace it with --force"
        )
    if not path.parent.is_dir():
        raise ArgumentError(f"there is no folder {str(path.parent)!r}", hint="make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ArgumentError(
            f"you may not write to the folder {str(path.parent)!r}", hint="name another one"
        )
    return path


def folder(path: Path) -> Path:
    """Return a folder that is to be written to, made if it is not there.

    Raises:
        ArgumentError: if it cannot be made, or is no folder.
    """
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"there is no folder {str(path)!r}, and it cannot be made: {error.strerror}",
            hint="name another one",
        ) from error
    return path
