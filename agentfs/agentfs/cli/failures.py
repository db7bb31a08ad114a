"""Turns every failure into one sentence on stderr and a documented exit code.

The only place of the command that translates errors; the library's error tree carries the codes.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, what other programs end with in `agentfs log | head -1`

# Typer carries its own copy of click, so the public way to the class of all usage errors is this.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Refusal(Exception):
    """A command declines to act; the message names the thing and the way out."""

    def __init__(self, message: str, exit_code: int = EXIT_ERROR) -> None:
        """Keep the sentence and the exit code that goes with it."""
        super().__init__(message)
        self.exit_code = exit_code


class CommandGroup(TyperGroup):
    """The command group whose failures are sentences instead of tracebacks or boxes."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line and leave with its exit code."""
        try:
            code = _guarded(
                lambda: super(CommandGroup, self).main(*args, standalone_mode=False, **extra)
            )
        except KeyboardInterrupt:
            code = _say(
                "interrupted; the volume is whole, without the operation that was under way"
                " (put keeps the batches of 1000 files that were complete)",
                EXIT_INTERRUPTED,
            )
        if standalone_mode:
            sys.exit(code)
        return code


def _guarded(run: Any) -> int:
    with _pending_output():
        try:
            result = run()
            if result == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this result
                raise KeyboardInterrupt
            sys.stdout.flush()
            return result if isinstance(result, int) else EXIT_OK
        except (BrokenPipeError, SystemExit) as error:
            return _quiet_pipe(error)
        except typer.Abort as error:
            raise KeyboardInterrupt from error
        except _UsageError as error:
            return _say_usage(error)
        except Exception as error:
            if os.environ.get("AGENTFS_DEBUG"):
                raise
            return _say(*describe(error))


@contextmanager
def _pending_output() -> Iterator[None]:
    """Names in a volume are bytes: print those that are not UTF-8 as they are."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="surrogateescape")
    yield


def _quiet_pipe(error: BaseException) -> int:
    """Ends without a word when the reader of our output has gone away."""
    if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
        return error.code if isinstance(error.code, int) else EXIT_ERROR
    # The interpreter flushes stdout once more at exit and would complain about the same pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE


def _say(sentence: str, code: int) -> int:
    sys.stdout.flush()
    print(f"agentfs: {sentence}", file=sys.stderr)
    return code


def _say_usage(error: Any) -> int:
    message: str = error.format_message()
    if message.lower().startswith("usage:"):  # called without a command: the message is the help
        print(message, file=sys.stderr)
        return EXIT_USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "agentfs"
    return _say(f"{message.rstrip('.')}; see `{command} --help`", EXIT_USAGE)


def describe(error: Exception) -> tuple[str, int]:
    """One sentence and the exit code for an error of the library, the host or ourselves."""
    from agentfs.errors import AgentFSError  # noqa: PLC0415 - not needed for --help

    if isinstance(error, (AgentFSError, Refusal)):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        reason = (error.strerror or type(error).__name__).lower()
        return f"cannot use host path {error.filename!r}: {reason}", EXIT_ERROR
    if isinstance(error, OSError):
        return f"the system refused: {error}", EXIT_ERROR
    return (
        f"internal error ({type(error).__name__}: {error}); "
        "run again with AGENTFS_DEBUG=1 for the traceback and report it",
        EXIT_ERROR,
    )
