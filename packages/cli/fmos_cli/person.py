"""Who sits at this terminal: the name under which the journal keeps a decision, and the asking."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Annotated

import typer

from agentfs.cli.failures import Refusal

_NOBODY_LOGGED_IN = 2**32 - 1
TERMINAL = "/dev/tty"

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask: a person has decided.")]


def person() -> str:
    """Return the user who logged in, also under sudo, else the process's user.

    Never from the environment: by a variable one person would become two.
    """
    number = os.getuid()
    try:
        logged_in = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
        number = number if logged_in >= _NOBODY_LOGGED_IN else logged_in
    except (OSError, ValueError):  # not Linux
        pass
    try:
        return f"user:{pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"uid:{number}"


def ask_person(question: str) -> str | None:
    """Ask at the controlling terminal, whatever the standard streams are; None if there is none."""
    import termios  # noqa: PLC0415 - not on every system

    try:
        descriptor = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "r+b", buffering=0) as terminal:
        termios.tcflush(terminal, termios.TCIFLUSH)  # what was typed before was no answer to this
        terminal.write(question.encode())
        return terminal.readline().decode("utf-8", "replace")


def require_terminal(what: str) -> None:
    """Go on only where a person sits: both streams are the terminal that this process leads.

    A program in the background, one behind pipes, and one in a sandbox have none.

    Raises:
        DeniedError: naming `what` needs a person.
    """
    if sys.stdin.isatty() and sys.stdout.isatty() and _leads(sys.stdin.fileno()):
        return
    from fmos.errors import DeniedError  # noqa: PLC0415 - keeps --help fast

    raise DeniedError(
        f"{what} needs a person at a terminal, and there is none here",
        hint="run it at one, in the foreground; there is no other way",
    )


def _leads(descriptor: int) -> bool:
    """Return whether this process is in the foreground of a terminal that controls it."""
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False


def agree(question: str, what: str, *, yes: bool) -> None:
    """Go on only if a person says yes at this terminal, or `yes` that one has decided.

    Args:
        question: What is asked, such as "Kill the agent writer?".
        what: What needs the person, such as "a kill".
        yes: Whether --yes was given.

    Raises:
        DeniedError: if there is no terminal and no --yes.
        Refusal: if the answer is not yes.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        from fmos.errors import DeniedError  # noqa: PLC0415 - keeps --help fast

        raise DeniedError(
            f"{what} needs a person at a terminal",
            hint="run it at one, or add --yes where a person has decided",
        )
    try:
        agreed = typer.confirm(question, prompt_suffix=" ", err=True)
    except typer.Abort:  # the end of the input, or Ctrl-C
        agreed = False
        typer.echo(err=True)
    if not agreed:
        raise Refusal("nothing was done")
