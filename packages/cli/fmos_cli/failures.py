"""Turns every failure into one sentence on stderr and a documented exit code.

The only place of the command that translates errors; the libraries' error trees carry the codes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, what other programs end with in `fmos pending | head -1`

# Typer carries its own copy of click, so the public way to the class of all usage errors is this.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class CommandGroup(TyperGroup):
    """The command group whose failures are sentences instead of tracebacks or boxes."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line and leave with its exit code."""
        run = super().main
        code = _guarded(lambda: run(*args, standalone_mode=False, **extra))
        if standalone_mode:
            sys.exit(code)
        return code


def _guarded(run: Callable[[], Any]) -> int:
    try:
        result = run()
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit and would complain of the same pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", EXIT_INTERRUPTED)
    except _UsageError as error:
        return _say_usage(error)
    except Exception as error:
        if os.environ.get("FMOS_DEBUG"):
            raise
        return _say(*describe(error))


def describe(error: Exception) -> tuple[str, int]:
    """Return one sentence and the exit code for an error of the libraries, the host or ours."""
    from agentfs.errors import AgentFSError  # noqa: PLC0415 - not needed for --help
    from fmos.errors import FmosError  # noqa: PLC0415

    if isinstance(error, (FmosError, AgentFSError)):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        named = f" {error.filename!r}" if error.filename is not None else ""
        return f"the system refused{named}: {error.strerror or error}", EXIT_ERROR
    return (
        f"internal error ({type(error).__name__}: {error}); "
        "run again with FMOS_DEBUG=1 for the traceback and report it",
        EXIT_ERROR,
    )


def _say(sentence: str, code: int) -> int:
    sys.stdout.flush()
    print(f"fmos: {sentence}", file=sys.stderr)
    return code


def _say_usage(error: Any) -> int:
    message: str = error.format_message()
    if message.lower().startswith("usage:"):  # called without a command: the message is the help
        print(message, file=sys.stderr)
        return EXIT_USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "fmos"
    return _say(f"{message.rstrip('.')}; see `{command} --help`", EXIT_USAGE)
